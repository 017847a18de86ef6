import { type Condition, given, withConditions } from '../conditions.ts'
import type { Queryable, Transaction } from '../database.ts'

/** The rights of an actor, which a revocation ends. */
export type Rights = Pick<Actor, 'origin' | 'tokenId' | 'keyId'>

/** Returns the arguments of `assert_unrevoked`. */
export function rightsValues({ origin, tokenId, keyId }: Rights): (string | null)[] {
  return [origin, tokenId, keyId]
}

/** The actor of a change, with the data that the audit log records. */
export type Actor = {
  readonly name: string
  /** See `CallerIdentity.origin` in `auth`. */
  readonly origin: string | null
  readonly tokenId: string | null
  /** The key that signed the token. */
  readonly keyId: string | null
  /** Null for a command of the operator. */
  readonly address: string | null
  readonly requestId: string | null
}

/** An entry of the audit log. */
export type AuditEntry = {
  /** For example `push`, `delete-tag`, `mint`. */
  readonly action: string
  readonly decision: 'allowed' | 'refused'
  readonly actor: string | null
  readonly origin: string | null
  readonly tokenId: string | null
  readonly address: string | null
  readonly requestId: string | null
  readonly repository: string | null
  readonly tags: readonly string[] | null
  readonly digest: string | null
  readonly detail: string | null
}

// Inserts the entries of the JSON `$1`.
const INSERT_ENTRIES = `insert into audit
            (action, decision, actor, origin, token_id, address, request_id, repository, tags, digest,
             detail)
     select action, decision, actor, origin, "tokenId", address, "requestId", repository, tags, digest,
            detail
       from json_to_recordset($1) as e (
              action text, decision text, actor text, origin text, "tokenId" text, address text,
              "requestId" text, repository text, tags text[], digest text, detail text
            )`

/** Writes entries in one statement. */
export async function addAuditEntries(
  db: Queryable,
  entries: readonly AuditEntry[],
): Promise<void> {
  await db.query(INSERT_ENTRIES, [JSON.stringify(entries)])
}

/** A change of an actor. Fields that are left out are null. */
export type AuditedChange = Pick<AuditEntry, 'action'> &
  Partial<Pick<AuditEntry, 'repository' | 'tags' | 'digest' | 'detail'>>

/**
 * Writes the entry of a change, in the transaction of the change. Throws UNAUTHORIZED when the actor's
 * credential, policy, token or its signing key was revoked: until the transaction ends, a revocation waits.
 */
export async function recordChange(
  tx: Transaction,
  actor: Actor,
  change: AuditedChange,
): Promise<void> {
  const { name, keyId, ...rest } = actor
  const entry: AuditEntry = {
    repository: null,
    tags: null,
    digest: null,
    detail: null,
    ...rest,
    actor: name,
    decision: 'allowed',
    ...change,
  }
  await addAllowedEntry(tx, entry, keyId)
}

/**
 * Writes an entry. Throws UNAUTHORIZED when its actor's credential, policy or token, or the key that signed the
 * token, was revoked.
 */
export async function addAllowedEntry(
  db: Queryable,
  entry: AuditEntry,
  keyId: string | null,
): Promise<void> {
  await db.query(`${INSERT_ENTRIES}, assert_unrevoked($2, $3, $4)`, [
    JSON.stringify([entry]),
    entry.origin,
    entry.tokenId,
    keyId,
  ])
}

export type AuditRow = AuditEntry & { readonly id: number; readonly at: Date }

/** The fields of entries; undefined for any value. */
export type EntryFilter = {
  readonly action: string | undefined
  readonly actor: string | undefined
  readonly repository: string | undefined
  readonly decision: string | undefined
  readonly since: Date | undefined
}

export type AuditFilter = EntryFilter & {
  /** Only entries before this id. */
  readonly before: number
  readonly limit: number
}

/** Entries that one page reads, however few of them match several filters. */
export const SCANNED_MAX = 2_000
export const SCANNED_BEFORE_LAST = SCANNED_MAX - 1

/** A page of entries. */
export type AuditPage = {
  readonly entries: readonly AuditRow[]
  /** `before` of the next page; undefined at the end. The page may have fewer entries than its limit. */
  readonly next: number | undefined
}

/** The columns of an `AuditRow`, from the table or subquery `a`. */
export const ENTRY_COLUMNS = `a.id, a.at, a.action, a.decision, a.actor, a.origin, a.token_id as "tokenId",
              a.address, a.request_id as "requestId", a.repository, a.tags, a.digest, a.detail`

/** Lists one page of entries, newest first. Reads at most SCANNED_MAX entries. */
export async function listAuditEntries(db: Queryable, question: AuditFilter): Promise<AuditPage> {
  const { before, limit, since } = question
  const conditions = { since: given(SINCE_BY_ID, since), ...conditionsOf(question) }
  const { rows } = await db.query<AuditRow>(
    ...withConditions(
      `select ${ENTRY_COLUMNS}
         from (
           select *
             from audit
            where id < $1
              {since}
              {indexed}
            order by {first} id desc
            limit ${SCANNED_MAX}
         ) a
        where true
          {others}
        order by a.id desc
        limit $2`,
      [before, limit + 1],
      conditions,
    ),
  )
  const entries = rows.slice(0, limit)
  if (rows.length > limit) return { entries, next: entries.at(-1)?.id }
  const { rows: last } = await db.query<{ id: number }>(
    ...withConditions(
      `select id
         from audit
        where id < $1
          {since}
          {indexed}
        order by {first} id desc
       offset ${SCANNED_BEFORE_LAST}
        limit 1`,
      [before],
      conditions,
    ),
  )
  return { entries, next: last[0]?.id }
}

// An entry has the time at which its transaction began, and no transaction takes ten minutes.
export const SINCE_BY_ID = `and id > coalesce((
                select id
                  from audit
                 where at < $::timestamptz - interval '10 minutes'
                 order by at desc
                 limit 1
              ), 0)`

/**
 * Splits the filters: the entries of one index are read, and compared with the others. Most entries are allowed pushes,
 * so an index has the other ones only. A range of one value and the order of the index keep Postgres from reading all
 * entries in the order of ids, which is the better plan for a frequent value only.
 */
function conditionsOf(filter: EntryFilter) {
  return { ...indexOf(filter), others: comparisonsOf(filter) }
}

/** Returns the conditions that an entry `a` must fulfil. */
export function comparisonsOf(filter: EntryFilter): Condition[] {
  const { repository, actor, action, decision, since } = filter
  return [
    ...given('and a.repository = $', repository),
    ...given('and a.actor = $', actor),
    ...given('and a.action = $', action),
    ...given('and a.decision = $', decision),
    ...given('and a.at >= $', since),
  ]
}

function indexOf({ repository, actor, action, decision }: Omit<EntryFilter, 'since'>) {
  if (repository !== undefined)
    return {
      indexed: given('and repository >= $ and repository <= $', repository),
      first: given('repository desc,', true),
    }
  if (actor !== undefined)
    return {
      indexed: given('and actor >= $ and actor <= $', actor),
      first: given('actor desc,', true),
    }
  if (action !== undefined && action !== 'push')
    return {
      indexed: given("and action >= $ and action <= $ and action <> 'push'", action),
      first: given('action desc,', true),
    }
  const indexed = decision === 'refused' ? given("and decision = 'refused'", true) : []
  return { indexed, first: [] }
}

const REMOVED_AT_ONCE = 1000

/** Removes entries older than `days`, at most 1000. Returns how many were removed. */
export async function removeOldAuditEntries(db: Queryable, days: number): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    `delete from audit
      where id in (
        select id
          from audit
         where at < now() - make_interval(days => $1)
         order by at
         limit $2
      )
     returning id`,
    [days, REMOVED_AT_ONCE],
  )
  return rows.length
}

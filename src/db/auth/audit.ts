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

export type AuditFilter = {
  /** Only entries before this id. */
  readonly before: number
  readonly limit: number
  readonly action: string | undefined
  readonly actor: string | undefined
  readonly repository: string | undefined
  readonly decision: string | undefined
  readonly since: Date | undefined
}

/** Lists one page of entries, newest first. */
export async function listAuditEntries(db: Queryable, question: AuditFilter): Promise<AuditRow[]> {
  const { rows } = await db.query<AuditRow>(
    `select id, at, action, decision, actor, origin, token_id as "tokenId", address,
            request_id as "requestId", repository, tags, digest, detail
       from audit
      where id < $1
        and ($3::text is null or action = $3)
        and ($4::text is null or actor = $4)
        and ($5::text is null or repository = $5)
        and ($6::text is null or decision = $6)
        and ($7::timestamptz is null or at >= $7)
      order by id desc
      limit $2`,
    [
      question.before,
      question.limit,
      question.action ?? null,
      question.actor ?? null,
      question.repository ?? null,
      question.decision ?? null,
      question.since ?? null,
    ],
  )
  return rows
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

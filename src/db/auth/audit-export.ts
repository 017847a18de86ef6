import { setTimeout as delay } from 'node:timers/promises'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import {
  type AuditRow,
  comparisonsOf,
  ENTRY_COLUMNS,
  type EntryFilter,
  SCANNED_BEFORE_LAST,
  SCANNED_MAX,
  SINCE_BY_ID,
} from './audit.ts'

export type AuditExportFilter = EntryFilter & {
  /** Only entries after this id. */
  readonly after: number
  readonly limit: number
}

/** A page of entries, oldest first. */
export type AuditExportPage = {
  readonly entries: readonly AuditRow[]
  /** `after` of the next page. No entry up to this id is added later. */
  readonly next: number
  /** True when the next page may have entries already. */
  readonly more: boolean
}

/** Transactions that write entries end within milliseconds; for a longer one, the next page waits. */
const WRITERS_WAIT_MILLISECONDS = 50
const WRITERS_WAITS_MAX = 20

/**
 * Lists one page of entries, oldest first, whose ids no later commit can add to: an entry gets its id before its
 * transaction commits, so a lower id may become visible after a higher one. Reads at most SCANNED_MAX entries.
 */
export async function listAuditEntriesAfter(
  db: Queryable,
  question: AuditExportFilter,
): Promise<AuditExportPage> {
  const { after, limit, since } = question
  const last = await findSettledId(db)
  if (last === undefined || last <= after) return { entries: [], next: after, more: false }
  const conditions = { since: given(SINCE_BY_ID, since), others: comparisonsOf(question) }
  const { rows } = await db.query<AuditRow>(
    ...withConditions(
      `select ${ENTRY_COLUMNS}
         from (
           select id, at, action, decision, actor, origin, token_id, address, request_id, repository,
                  tags, digest, detail
             from audit
            where id > $1 and id <= $2
              {since}
            order by id
            limit ${SCANNED_MAX}
         ) a
        where true
          {others}
        order by a.id
        limit $3`,
      [after, last, limit + 1],
      conditions,
    ),
  )
  const entries = rows.slice(0, limit)
  const lastShown = entries.at(-1)
  if (rows.length > limit) {
    return { entries, next: lastShown?.id ?? after, more: lastShown !== undefined }
  }
  const lastScanned = await findLastScanned(db, after, last, since)
  return { entries, next: lastScanned ?? last, more: lastScanned !== undefined }
}

/** Returns the id of the last entry that a page read; undefined when it read all up to `last`. */
async function findLastScanned(
  db: Queryable,
  after: number,
  last: number,
  since: Date | undefined,
): Promise<number | undefined> {
  const { rows } = await db.query<{ id: number }>(
    ...withConditions(
      `select id
         from audit
        where id > $1 and id <= $2
          {since}
        order by id
       offset ${SCANNED_BEFORE_LAST}
        limit 1`,
      [after, last],
      { since: given(SINCE_BY_ID, since) },
    ),
  )
  return rows[0]?.id
}

/**
 * Returns an id up to which every entry is committed or never will be; undefined while a transaction that may have such an
 * id goes on. A transaction locks the table before it takes an id from the sequence, so those that have an id up to the
 * last one of now are among the present writers.
 */
async function findSettledId(db: Queryable): Promise<number | undefined> {
  const last = await findLastId(db)
  let writers = await listWriters(db)
  for (let waits = 0; writers.length > 0; waits += 1) {
    if (waits === WRITERS_WAITS_MAX) return undefined
    await delay(WRITERS_WAIT_MILLISECONDS)
    const present = new Set(await listWriters(db))
    writers = writers.filter((writer) => present.has(writer))
  }
  return last
}

/** Returns the last id that an entry got, also one that is not committed. */
async function findLastId(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ last: number }>(
    `select coalesce(pg_sequence_last_value(pg_get_serial_sequence('audit', 'id')::regclass), 0)
              as last`,
  )
  return rows[0]?.last ?? 0
}

/** Lists the transactions that write to the audit log. */
async function listWriters(db: Queryable): Promise<string[]> {
  const { rows } = await db.query<{ writer: string }>(
    `select distinct virtualtransaction as writer
       from pg_locks
      where locktype = 'relation'
        and database = (select oid from pg_database where datname = current_database())
        and relation = 'audit'::regclass
        and mode = 'RowExclusiveLock'
        and granted`,
  )
  return rows.map(({ writer }) => writer)
}

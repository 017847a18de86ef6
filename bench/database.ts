/** Reads and trims the database of soak.ts, in a process of its own: it becomes the user of the embedded Postgres. */
import { removeExpiredAuthRows } from '../src/auth/refresh-loop.ts'
import { withDatabase } from '../src/cli/server/operator.ts'
import type { Database } from '../src/db/database.ts'
import { pruneEvents } from '../src/sequencer/retention.ts'

/** `trim`: also removes all events and entries of the audit log, as the server does when they are old. */
export type DatabaseOrder = { readonly folder: string; readonly trim: boolean }

export type TableFigures = {
  readonly name: string
  /** With its indexes. */
  readonly bytes: number
  readonly live: number
  readonly dead: number
  readonly updates: number
  readonly hotUpdates: number
  readonly vacuums: number
}

export type IndexFigures = {
  readonly name: string
  readonly bytes: number
  readonly scans: number
}

export type DatabaseFigures = {
  readonly bytes: number
  /** Written since the beginning. */
  readonly walBytes: number
  /** The largest first. */
  readonly tables: readonly TableFigures[]
  readonly indexes: readonly IndexFigures[]
}

async function read(db: Database): Promise<DatabaseFigures> {
  const { rows: totals } = await db.query<{ bytes: number; walBytes: number }>(
    `select pg_database_size(current_database()) as bytes,
            pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint as "walBytes"`,
  )
  const { rows: tables } = await db.query<TableFigures>(
    `select relname as name, pg_total_relation_size(relid) as bytes, n_live_tup as live,
            n_dead_tup as dead, n_tup_upd as updates, n_tup_hot_upd as "hotUpdates",
            autovacuum_count as vacuums
       from pg_stat_user_tables
      order by bytes desc`,
  )
  const { rows: indexes } = await db.query<IndexFigures>(
    `select indexrelname as name, pg_relation_size(indexrelid) as bytes, idx_scan as scans
       from pg_stat_user_indexes
      order by bytes desc`,
  )
  const { bytes = 0, walBytes = 0 } = totals[0] ?? {}
  return { bytes, walBytes, tables, indexes }
}

let opened: Promise<Database> | undefined

function open(folder: string): Promise<Database> {
  return new Promise((resolve, reject) => {
    const work = ({ db }: { db: Database }) => {
      resolve(db)
      // Until the process is killed.
      return new Promise<number>(() => {})
    }
    withDatabase({ ...process.env, ROOKERY_DATA_DIR: folder }, work).catch(reject)
  })
}

async function obey({ folder, trim }: DatabaseOrder): Promise<DatabaseFigures> {
  opened ??= open(folder)
  const db = await opened
  if (trim) {
    await pruneEvents(db, 0)
    await removeExpiredAuthRows(db, 0)
  }
  return read(db)
}

process.on('message', (order: DatabaseOrder) => {
  obey(order).then(
    (figures) => process.send?.(figures),
    (error) => {
      console.error(error)
      process.exit(1)
    },
  )
})
process.on('disconnect', () => process.exit(0))

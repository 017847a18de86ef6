import pg from 'pg'
import type { Database, Queryable, Transaction } from '../database.ts'

/** One row of a dump: the table, or `sequences`, and the row as Postgres writes it as JSON. */
export type DumpRow = { readonly table: TableName | typeof SEQUENCES; readonly row: string }

/** In place of a table: the last values of the sequences, so that no identity of a deleted row is given out again. */
const SEQUENCES = 'sequences'

/**
 * The tables of a backup, in the order in which they can be loaded. Uploads in progress, queued
 * deletions and the progress of long jobs belong to the installation, and are excluded.
 */
export const TABLE_NAMES = [
  // Before the repositories, which take names that are free.
  'job_names',
  'repositories',
  'blobs',
  'repository_blobs',
  'manifests',
  'manifest_blobs',
  'manifest_children',
  'unwraps',
  'layer_analyses',
  'packages',
  'layer_packages',
  'sources',
  'source_checksums',
  'layer_sources',
  'opam_imports',
  'opam_files',
  'opam_sources',
  'images',
  'image_layers',
  'builds',
  'tags',
  'tag_history',
  'credentials',
  'trust_policies',
  // Without them, a restored registry would accept identity tokens of the last hours once more.
  'used_identity_tokens',
  'audit',
  'webhooks',
  'feed',
  'repository_sequences',
  'events',
  'event_outbox',
  'deliveries',
  'hosts',
  'host_keys',
  'units',
  'deployments',
  'targets',
  'unit_logs',
  'runs',
  'rollouts',
] as const

/** Names that tables had in older schemas: a dump of such a schema is loaded under them. */
const FORMER_TABLE_NAMES = ['layer_facts'] as const

export type TableName = (typeof TABLE_NAMES)[number] | (typeof FORMER_TABLE_NAMES)[number]

const LOADABLE: ReadonlySet<string> = new Set([...TABLE_NAMES, ...FORMER_TABLE_NAMES, SEQUENCES])

/** Tables that a backup leaves out. A test finds any table that is in neither list. */
export const EXCLUDED_TABLES: readonly string[] = [
  'deletion_pauses',
  'deletion_queue',
  'delivery_attempts',
  'enrolments',
  'installation',
  'last_backup',
  'last_start',
  'layer_pictures',
  'maintenance',
  'manifest_reads',
  'refresh_tokens',
  'remembered_answers',
  'revocations',
  'schema_migrations',
  'sessions',
  'signing_keys',
  'upload_urls',
  'uploads',
  'used_assertions',
  'webhook_changes',
  'webhook_health',
]

/** Tables that a new installation fills at its first start; a restore replaces their rows. */
const FIRST_START_TABLES = ['credentials', 'trust_policies', 'audit', 'feed'] as const

// A manifest of 8 MiB is twice as large in JSON, and a layer's analysis about as large; other rows
// are small.
const LARGE_TABLES: ReadonlySet<string> = new Set(['manifests', 'layer_analyses'])
const LARGE_ROWS_A_FETCH = 4
const ROWS_A_FETCH = 500
const FETCH_LARGE = `fetch ${LARGE_ROWS_A_FETCH} from dumped`
const FETCH = `fetch ${ROWS_A_FETCH} from dumped`

/** True for the name of a table that this release can load. */
export function isTableName(text: string): text is DumpRow['table'] {
  return LOADABLE.has(text)
}

/** Gives every row to `take`, all of them as they were at one moment. */
export async function dumpRows(db: Database, take: (row: DumpRow) => Promise<void>): Promise<void> {
  await db.transaction(async (tx) => {
    await tx.query('set transaction isolation level repeatable read, read only')
    for (const table of TABLE_NAMES) {
      const isLarge = LARGE_TABLES.has(table)
      const rowsAFetch = isLarge ? LARGE_ROWS_A_FETCH : ROWS_A_FETCH
      await tx.query(
        `declare dumped cursor for
         select row_to_json(t)::text as row
           from ${pg.escapeIdentifier(table)} t`,
      )
      for (;;) {
        const { rows } = await tx.query<{ row: string }>(isLarge ? FETCH_LARGE : FETCH)
        for (const { row } of rows) await take({ table, row })
        if (rows.length < rowsAFetch) break
      }
      await tx.query('close dumped')
    }
    // Last: a sequence has its present value, which is not part of the snapshot, and every row above has an earlier one.
    for (const row of await listSequences(tx)) await take({ table: SEQUENCES, row })
  })
}

async function listSequences(tx: Transaction): Promise<string[]> {
  const { rows } = await tx.query<{ row: string }>(
    `select json_build_object('name', sequencename, 'value', last_value)::text as row
       from pg_sequences
      where schemaname = current_schema()
        and last_value is not null
      order by sequencename`,
  )
  return rows.map(({ row }) => row)
}

/** Adds rows of one table: columns that a row does not name are null. Sequences only go up. */
export async function loadRows(
  tx: Transaction,
  table: DumpRow['table'],
  rows: readonly string[],
): Promise<void> {
  if (table === SEQUENCES) return loadSequences(tx, `[${rows.join(',')}]`)
  await tx.query(
    `insert into ${pg.escapeIdentifier(table)} overriding system value
     select *
       from json_populate_recordset(null::${pg.escapeIdentifier(table)}, $1)`,
    [`[${rows.join(',')}]`],
  )
}

/** A sequence that this schema does not have is left out. */
async function loadSequences(tx: Transaction, json: string): Promise<void> {
  await tx.query(
    `select setval(name, greatest(value, coalesce(pg_sequence_last_value(name), 0)))
       from (
         select to_regclass(quote_ident(s.name)) as name, s.value
           from json_to_recordset($1) as s (name text, value bigint)
       ) as found
      where name is not null`,
    [json],
  )
}

/**
 * Makes the loaded rows an installation of its own: new rows get identities that no row of the original had until the
 * dump, and the feed gets a new epoch, because the copy diverges from the original here.
 */
export async function finishLoad(tx: Transaction): Promise<void> {
  for (const table of await listTablesWithIdentity(tx)) {
    await tx.query(
      `select setval(name, greatest(pg_sequence_last_value(name), (
                select max(id) from ${pg.escapeIdentifier(table)}
              )))
         from (select pg_get_serial_sequence($1, 'id')::regclass as name) as s`,
      [table],
    )
  }
  const tables = await listTables(tx)
  if (tables.has('feed')) await tx.query('update feed set epoch = gen_random_uuid()')
}

/** Removes the rows of a first start: those of the backup replace them. */
export async function clearFirstStart(tx: Transaction): Promise<void> {
  const tables = await listTables(tx)
  for (const table of FIRST_START_TABLES) {
    if (tables.has(table)) await tx.query(`delete from ${pg.escapeIdentifier(table)}`)
  }
}

/** Lists the tables of the schema, which is the backup's: an older release had fewer tables. */
async function listTables(tx: Transaction): Promise<ReadonlySet<string>> {
  const { rows } = await tx.query<{ name: string }>(
    `select tablename as name
       from pg_tables
      where schemaname = current_schema()`,
  )
  return new Set(rows.map(({ name }) => name))
}

async function listTablesWithIdentity(tx: Transaction): Promise<string[]> {
  const { rows } = await tx.query<{ name: string }>(
    `select table_name as name
       from information_schema.columns
      where table_schema = current_schema()
        and column_name = 'id'
        and is_identity = 'YES'`,
  )
  return rows.map(({ name }) => name)
}

/** True when nothing was ever pushed here. */
export async function isEmptyRegistry(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ empty: boolean }>(
    `select not exists (select 1 from repositories)
        and not exists (select 1 from blobs) as empty`,
  )
  return rows[0]?.empty === true
}

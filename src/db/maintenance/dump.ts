import type { Database, Queryable, Transaction } from '../database.ts'

/** One row of a dump: the table, and the row as Postgres writes it as JSON. */
export type DumpRow = { readonly table: TableName; readonly row: string }

type Table = {
  /** Opens the cursor `dumped` on every row. */
  readonly declare: string
  /** Adds the rows of a JSON array. */
  readonly load: string
  /** Moves the identity behind what was loaded. */
  readonly renumber?: string
}

/**
 * What a backup holds, in the order in which it can be loaded. Uploads in progress, queued removals
 * and the progress of long work belong to the installation, and not to what it stores.
 */
const TABLES = {
  repositories: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from repositories t',
    load: `insert into repositories overriding system value
           select * from json_populate_recordset(null::repositories, $1)`,
    renumber: `select setval(pg_get_serial_sequence('repositories', 'id'), max(id))
                 from repositories`,
  },
  blobs: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from blobs t',
    load: `insert into blobs overriding system value
           select * from json_populate_recordset(null::blobs, $1)`,
    renumber: `select setval(pg_get_serial_sequence('blobs', 'id'), max(id))
                 from blobs`,
  },
  repository_blobs: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from repository_blobs t',
    load: `insert into repository_blobs
           select * from json_populate_recordset(null::repository_blobs, $1)`,
  },
  manifests: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from manifests t',
    load: `insert into manifests overriding system value
           select * from json_populate_recordset(null::manifests, $1)`,
    renumber: `select setval(pg_get_serial_sequence('manifests', 'id'), max(id))
                 from manifests`,
  },
  manifest_blobs: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from manifest_blobs t',
    load: `insert into manifest_blobs
           select * from json_populate_recordset(null::manifest_blobs, $1)`,
  },
  manifest_children: {
    declare:
      'declare dumped cursor for select row_to_json(t)::text as row from manifest_children t',
    load: `insert into manifest_children
           select * from json_populate_recordset(null::manifest_children, $1)`,
  },
  layer_analyses: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from layer_analyses t',
    load: `insert into layer_analyses
           select * from json_populate_recordset(null::layer_analyses, $1)`,
  },
  packages: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from packages t',
    load: `insert into packages overriding system value
           select * from json_populate_recordset(null::packages, $1)`,
    renumber: `select setval(pg_get_serial_sequence('packages', 'id'), max(id))
                 from packages`,
  },
  layer_packages: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from layer_packages t',
    load: `insert into layer_packages
           select * from json_populate_recordset(null::layer_packages, $1)`,
  },
  images: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from images t',
    load: `insert into images
           select * from json_populate_recordset(null::images, $1)`,
  },
  image_layers: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from image_layers t',
    load: `insert into image_layers
           select * from json_populate_recordset(null::image_layers, $1)`,
  },
  tags: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from tags t',
    load: `insert into tags
           select * from json_populate_recordset(null::tags, $1)`,
  },
  tag_history: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from tag_history t',
    load: `insert into tag_history overriding system value
           select * from json_populate_recordset(null::tag_history, $1)`,
    renumber: `select setval(pg_get_serial_sequence('tag_history', 'id'), max(id))
                 from tag_history`,
  },
  credentials: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from credentials t',
    load: `insert into credentials overriding system value
           select * from json_populate_recordset(null::credentials, $1)`,
    renumber: `select setval(pg_get_serial_sequence('credentials', 'id'), max(id))
                 from credentials`,
  },
  trust_policies: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from trust_policies t',
    load: `insert into trust_policies overriding system value
           select * from json_populate_recordset(null::trust_policies, $1)`,
    renumber: `select setval(pg_get_serial_sequence('trust_policies', 'id'), max(id))
                 from trust_policies`,
  },
  audit: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from audit t',
    load: `insert into audit overriding system value
           select * from json_populate_recordset(null::audit, $1)`,
    renumber: `select setval(pg_get_serial_sequence('audit', 'id'), max(id))
                 from audit`,
  },
  webhooks: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from webhooks t',
    load: `insert into webhooks overriding system value
           select * from json_populate_recordset(null::webhooks, $1)`,
    renumber: `select setval(pg_get_serial_sequence('webhooks', 'id'), max(id))
                 from webhooks`,
  },
  // A copy goes its own way from here, so it gets an epoch of its own.
  feed: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from feed t',
    load: `update feed
              set epoch = gen_random_uuid(), position = d.position, pruned_through = d.pruned_through
             from json_populate_recordset(null::feed, $1) as d`,
  },
  repository_sequences: {
    declare:
      'declare dumped cursor for select row_to_json(t)::text as row from repository_sequences t',
    load: `insert into repository_sequences
           select * from json_populate_recordset(null::repository_sequences, $1)`,
  },
  events: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from events t',
    load: `insert into events
           select * from json_populate_recordset(null::events, $1)`,
  },
  event_outbox: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from event_outbox t',
    load: `insert into event_outbox overriding system value
           select * from json_populate_recordset(null::event_outbox, $1)`,
    renumber: `select setval(pg_get_serial_sequence('event_outbox', 'id'), max(id))
                 from event_outbox`,
  },
  deliveries: {
    declare: 'declare dumped cursor for select row_to_json(t)::text as row from deliveries t',
    load: `insert into deliveries
           select * from json_populate_recordset(null::deliveries, $1)`,
  },
} as const satisfies Record<string, Table>

export type TableName = keyof typeof TABLES

/** Tables that a backup leaves out; a test finds any that is in neither list. */
export const EXCLUDED_TABLES: readonly string[] = [
  'delivery_attempts',
  'installation',
  'maintenance',
  'removal_holds',
  'refresh_tokens',
  'removals',
  'revocations',
  'schema_migrations',
  'signing_keys',
  'upload_urls',
  'uploads',
  'used_identity_tokens',
  'webhook_changes',
  'webhook_health',
]

export const TABLE_NAMES = Object.keys(TABLES) as TableName[]

// A manifest may be 8 MiB, which is twice as much in JSON, and facts about as much; others are small.
const LARGE_TABLES: ReadonlySet<string> = new Set(['manifests', 'layer_analyses'])
const LARGE_AT_ONCE = { statement: 'fetch 4 from dumped', rows: 4 }
const ROWS_AT_ONCE = { statement: 'fetch 500 from dumped', rows: 500 }

/** The migrations that made this schema, in order. */
export async function listAppliedMigrations(db: Queryable): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select name
       from schema_migrations
      order by name`,
  )
  return rows.map(({ name }) => name)
}

/** Gives every row to `take`, all as they were at one moment. */
export async function dumpRows(db: Database, take: (row: DumpRow) => Promise<void>): Promise<void> {
  await db.transaction(async (tx) => {
    await tx.query('set transaction isolation level repeatable read, read only')
    for (const table of TABLE_NAMES) {
      const fetch = LARGE_TABLES.has(table) ? LARGE_AT_ONCE : ROWS_AT_ONCE
      await tx.query(TABLES[table].declare)
      for (;;) {
        const { rows } = await tx.query<{ row: string }>(fetch.statement)
        for (const { row } of rows) await take({ table, row })
        if (rows.length < fetch.rows) break
      }
      await tx.query('close dumped')
    }
  })
}

/** Adds rows of one table. */
export async function loadRows(
  tx: Transaction,
  table: TableName,
  rows: readonly string[],
): Promise<void> {
  await tx.query(TABLES[table].load, [`[${rows.join(',')}]`])
}

/** After the last row: what is added from now on gets numbers of its own. */
export async function advanceIdentities(tx: Transaction): Promise<void> {
  const tables = await listTables(tx)
  for (const table of TABLE_NAMES) {
    const { renumber: statement }: Table = TABLES[table]
    if (statement !== undefined && tables.has(table)) await tx.query(statement)
  }
}

/** Lets go of what a first start made: what the backup has takes its place. */
export async function clearFirstStart(tx: Transaction): Promise<void> {
  const tables = await listTables(tx)
  for (const [table, statement] of Object.entries(CLEARED)) {
    if (tables.has(table)) await tx.query(statement)
  }
}

const CLEARED = {
  credentials: 'delete from credentials',
  trust_policies: 'delete from trust_policies',
  audit: 'delete from audit',
}

/** A backup of an older release is loaded into the tables that there were then. */
async function listTables(tx: Transaction): Promise<ReadonlySet<string>> {
  const { rows } = await tx.query<{ name: string }>(
    `select tablename as name
       from pg_tables
      where schemaname = current_schema()`,
  )
  return new Set(rows.map(({ name }) => name))
}

/** True when nothing was ever pushed here. */
export async function isEmptyRegistry(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ empty: boolean }>(
    `select not exists (select 1 from repositories)
        and not exists (select 1 from blobs) as empty`,
  )
  return rows[0]?.empty === true
}

import pg from 'pg'
import type { Database, Queryable, Transaction } from '../database.ts'
import { listAppliedMigrations, listMigrationFiles, migrate } from '../migrations.ts'

/** The same database twice: as its owner, and as a superuser, which loads rows without their triggers. */
export type CopiedTo = { readonly owner: Database; readonly superuser: Database }

/** Counts of tables and rows that are equal on both sides. */
export type CopyReport = { readonly tables: number; readonly rows: number }

/** The database cannot be copied, or the copy is not equal. */
export class CopyError extends Error {
  override readonly name = 'CopyError'
}

type TableState = { readonly rows: number; readonly sum: string | null }

const ROWS_A_FETCH = 200
const FETCH = `fetch ${ROWS_A_FETCH} from copied`
// A manifest of 8 MiB is twice as large in JSON: rows travel in parts of about this size.
const CHARACTERS_AT_ONCE_MAX = 8 * 1024 * 1024

/**
 * Copies the whole database of a registry to an empty one: all tables of the same migrations, as they are at one moment,
 * and the values of the sequences. Then compares the rows of each table. Nobody can write to the tables of `from`
 * meanwhile. Throws CopyError.
 */
export async function copyDatabase(from: Database, to: CopiedTo): Promise<CopyReport> {
  await prepareSchema(from, to.owner)
  return from.transaction(async (source) => {
    const tables = await listTables(source)
    for (const table of tables) await lockTable(source, table)
    await to.superuser.transaction(async (target) => {
      // Rows arrive in the order of the names of tables, so no trigger may look for the rows of others.
      await target.query("select set_config('session_replication_role', 'replica', true)")
      for (const table of tables) await copyTable(source, target, table)
      await copySequences(source, target)
    })
    let rows = 0
    for (const table of tables) {
      const [before, after] = [
        await findTableState(source, table),
        await findTableState(to.superuser, table),
      ]
      if (before.rows !== after.rows || before.sum !== after.sum) {
        throw new CopyError(
          `the table ${table} differs after the copy: ${before.rows} rows before, ${after.rows} after`,
        )
      }
      rows += after.rows
    }
    return { tables: tables.length, rows }
  })
}

/** Brings the empty database to the schema of the other. */
async function prepareSchema(from: Database, to: Database): Promise<void> {
  const applied = await listAppliedMigrations(from)
  const files = new Set(await listMigrationFiles())
  const unknown = applied.find((name) => !files.has(name))
  if (unknown !== undefined) {
    throw new CopyError(
      `a newer release of rookery wrote these data: their schema has the migration ${unknown}; run that release`,
    )
  }
  await migrate(to, applied.at(-1))
  const has = await listAppliedMigrations(to)
  if (has.length !== applied.length) {
    throw new CopyError(
      `the data have ${applied.length} migrations, and ${has.length} are expected`,
    )
  }
}

async function listTables(db: Queryable): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select tablename as name
       from pg_tables
      where schemaname = current_schema()
      order by tablename`,
  )
  return rows.map(({ name }) => name)
}

async function lockTable(tx: Transaction, table: string): Promise<void> {
  await tx.query(`lock table ${pg.escapeIdentifier(table)} in share mode`)
}

async function copyTable(source: Transaction, target: Transaction, table: string): Promise<void> {
  await target.query(`delete from ${pg.escapeIdentifier(table)}`)
  await source.query(
    `declare copied cursor for
     select row_to_json(t)::text as row
       from ${pg.escapeIdentifier(table)} t`,
  )
  for (;;) {
    const { rows } = await source.query<{ row: string }>(FETCH)
    for (const part of partsOf(rows.map(({ row }) => row))) {
      await target.query(
        `insert into ${pg.escapeIdentifier(table)} overriding system value
         select *
           from json_populate_recordset(null::${pg.escapeIdentifier(table)}, $1)`,
        [`[${part.join(',')}]`],
      )
    }
    if (rows.length < ROWS_A_FETCH) break
  }
  await source.query('close copied')
}

function partsOf(rows: readonly string[]): string[][] {
  const parts: string[][] = []
  let characters = CHARACTERS_AT_ONCE_MAX
  for (const row of rows) {
    characters += row.length
    if (characters > CHARACTERS_AT_ONCE_MAX) {
      parts.push([])
      characters = row.length
    }
    parts.at(-1)?.push(row)
  }
  return parts
}

async function copySequences(source: Transaction, target: Transaction): Promise<void> {
  const { rows } = await source.query<{ name: string; value: number }>(
    `select sequencename as name, last_value as value
       from pg_sequences
      where schemaname = current_schema()
        and last_value is not null`,
  )
  for (const { name, value } of rows) {
    await target.query('select setval(quote_ident($1)::regclass, $2)', [name, value])
  }
}

/** The number of rows, and a sum of their hashes that does not depend on their order. */
async function findTableState(db: Queryable, table: string): Promise<TableState> {
  const { rows } = await db.query<TableState>(
    `select count(*) as rows,
            sum(('x' || left(md5(t::text), 15))::bit(60)::bigint)::text as sum
       from ${pg.escapeIdentifier(table)} t`,
  )
  return rows[0] ?? { rows: 0, sum: null }
}

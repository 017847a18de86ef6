import { readdir, readFile } from 'node:fs/promises'
import type { Database, Queryable } from './database.ts'

const SCHEMA_FOLDER = new URL('../../schema/', import.meta.url)
const MIGRATION_FILE = /^\d{4}-[a-z0-9-]+\.sql$/
// An arbitrary number, the same in every replica.
const MIGRATION_LOCK = 7_305_418_001
// Another replica may run a long migration.
const LOCK_WAIT_MAX = '10min'

/** Lists the migrations of this release, in order. */
export async function listMigrationFiles(): Promise<string[]> {
  return (await readdir(SCHEMA_FOLDER)).filter((name) => MIGRATION_FILE.test(name)).sort()
}

/** Lists the migrations that the database has, in order. */
export async function listAppliedMigrations(db: Queryable): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select name
       from schema_migrations
      order by name`,
  )
  return rows.map(({ name }) => name)
}

/** True for the database of a registry, of any release. */
export async function hasSchema(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ found: boolean }>(
    `select to_regclass('schema_migrations') is not null as found`,
  )
  return rows[0]?.found === true
}

/**
 * Applies the files of `schema/` that the database does not have, in order, up to and including `last`.
 * Each runs once, in a transaction with its own record. Replicas that start together wait for one
 * another. A database with newer migrations than this release stays as it is: the previous release must
 * run on the new schema. Returns the applied migrations.
 */
export async function migrate(db: Database, last?: string): Promise<string[]> {
  const files = (await listMigrationFiles()).filter((name) => last === undefined || name <= last)
  const client = await db.session()
  const applied: string[] = []
  try {
    await client.query("select set_config('statement_timeout', '0', false)")
    await client.query("select set_config('lock_timeout', $1, false)", [LOCK_WAIT_MAX])
    await client.query('select pg_advisory_lock($1)', [MIGRATION_LOCK])
    await client.query(
      `create table if not exists schema_migrations (
         name text primary key,
         applied_at timestamptz not null default now()
       )`,
    )
    const { rows } = await client.query<{ name: string }>('select name from schema_migrations')
    const present = new Set(rows.map(({ name }) => name))
    for (const name of files) {
      if (present.has(name)) continue
      const statements = await readFile(new URL(name, SCHEMA_FOLDER), 'utf8')
      await client.query('begin')
      await client.query(statements)
      await client.query('insert into schema_migrations (name) values ($1)', [name])
      await client.query('commit')
      applied.push(name)
    }
    return applied
  } finally {
    // Closing the connection releases the lock and rolls back a failed migration.
    client.release(true)
  }
}

import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { inject } from 'vitest'
import { SUPERUSER } from '../../src/embedded-postgres/settings.ts'
import { isInMemory } from './memory-folder.ts'

export type TestPostgres = { host: string; port: number; user: string; database: string }

export const TEMPLATE = 'rookery_template'

export type TestDatabase = {
  readonly name: string
  readonly url: string
  drop(): Promise<void>
}

/** Creates a migrated database of its own on the Postgres of the test run. */
export async function createTestDatabase(template = TEMPLATE): Promise<TestDatabase> {
  const postgres = inject('postgres')
  const name = `test_${randomBytes(8).toString('hex')}`
  // In memory, copying files takes a third of the CPU time of a copy by the log. A disk has to sync each file.
  const strategy = isInMemory(postgres.host) ? 'file_copy' : 'wal_log'
  await administer(
    postgres,
    `create database ${name} template ${template} strategy ${strategy} owner ${postgres.user}`,
  )
  const { host, port, user } = postgres
  return {
    name,
    url: `postgres:///${name}?host=${encodeURIComponent(host)}&port=${port}&user=${user}`,
    drop: () => administer(postgres, `drop database if exists ${name} with (force)`),
  }
}

async function administer(postgres: TestPostgres, statement: string): Promise<void> {
  const client = new pg.Client({ ...postgres, user: SUPERUSER, database: 'postgres' })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}

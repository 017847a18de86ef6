import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { pino } from 'pino'
import type { TestProject } from 'vitest/node'
import { Database } from '../../src/db/database.ts'
import { migrate } from '../../src/db/migrations.ts'
import { SUPERUSER } from '../../src/embedded-postgres/settings.ts'
import { startEmbeddedPostgres } from '../../src/embedded-postgres/supervisor.ts'
import { guardContentWrites } from './content-guard.ts'
import { TEMPLATE, type TestPostgres } from './database.ts'
import { memoryFolder } from './memory-folder.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    postgres: TestPostgres
  }
}

const CONNECTIONS = 500

/**
 * Starts one real Postgres for the whole run, with a migrated template that each test file copies. Its files are in memory
 * where there is room: on a disk, `drop database` alone waits for up to 3 s, until all that was written is on the disk.
 */
export async function setup(project: TestProject): Promise<void> {
  const folder = await mkdtemp(join(await memoryFolder(), 'rookery-test-postgres-'))
  // The user of Postgres passes it. Below a closed folder, the socket would be in /run and stay there.
  await chmod(folder, 0o755)
  const embedded = await startEmbeddedPostgres({
    folder: join(folder, 'postgres'),
    log: pino({ level: 'error' }),
    // Every worker of the run has servers on it, some three at the same time.
    connectionsMax: CONNECTIONS,
    onLost: (error) => {
      throw error
    },
  })
  const { connection } = embedded
  const client = new pg.Client({ ...connection, user: SUPERUSER, database: 'postgres' })
  await client.connect()
  await client.query(`create database ${TEMPLATE} owner ${connection.user}`)
  await client.end()
  const template = new Database({
    connection: { ...connection, database: TEMPLATE },
    connectionsMax: 2,
    onIdleError: () => {},
  })
  await migrate(template)
  await guardContentWrites(template)
  await template.close()
  project.provide('postgres', connection)
  stop = async () => {
    await embedded.stop()
    await rm(folder, { recursive: true, force: true })
  }
}

let stop: () => Promise<void> = async () => {}

/** Stops Postgres and deletes its files. */
export async function teardown(): Promise<void> {
  await stop()
}

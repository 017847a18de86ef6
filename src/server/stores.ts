import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { errnoOf } from '../async/errno.ts'
import type { Config } from '../config/config.ts'
import { checkPostgres, Database } from '../db/database.ts'
import { migrate } from '../db/migrations.ts'
import type { EmbeddedOptions, EmbeddedPostgres } from '../embedded-postgres/supervisor.ts'
import type { BlobStore } from '../storage/blob-store.ts'
import { openBlobStore, type StoreName } from './blob-store.ts'
import { type CleanupStack, StartError } from './cleanup.ts'
import type { Log } from './log.ts'

/** Everything that outlives a process. */
export type Stores = {
  readonly dataFolder: string
  readonly db: Database
  readonly store: BlobStore
  readonly storeName: StoreName
}

/** Starts the embedded Postgres, or finds the one that runs. */
export type StartEmbedded = (options: Omit<EmbeddedOptions, 'onLost'>) => Promise<EmbeddedPostgres>

/**
 * Opens the database and the store that the configuration names; `starting` learns how to close them.
 * Throws StartError or EmbeddedPostgresError.
 */
export async function openStores(
  config: Config,
  log: Log,
  cleanup: CleanupStack,
  embedding: StartEmbedded,
): Promise<Stores> {
  const { db, dataFolder } = await openDatabase(config, log, cleanup, embedding)
  for (const name of await migrate(db)) log.info({ migration: name }, 'schema migrated')
  const { name, store, close } = await openBlobStore(config, dataFolder)
  cleanup.defer(close)
  return { dataFolder, db, store, storeName: name }
}

/** The database alone, with the schema that it has. Throws as `openState`. */
export async function openDatabase(
  config: Config,
  log: Log,
  cleanup: CleanupStack,
  embedding: StartEmbedded,
): Promise<Pick<Stores, 'db' | 'dataFolder'>> {
  const dataFolder = resolve(config.dataFolder)
  const { databaseConnectionsMax: connectionsMax } = config
  await makeDataFolder(dataFolder)
  const db = new Database({
    connection:
      config.databaseUrl ??
      (await embedded(
        { folder: join(dataFolder, 'postgres'), log, connectionsMax },
        cleanup,
        embedding,
      )),
    connectionsMax,
    onIdleError: (error) => log.warn({ err: error }, 'a database connection broke'),
  })
  cleanup.defer(() => db.close())
  await reachDatabase(db)
  return { db, dataFolder }
}

async function makeDataFolder(folder: string): Promise<void> {
  try {
    // Others may pass through: the embedded Postgres may run as another user.
    await mkdir(folder, { recursive: true, mode: 0o755 })
  } catch (cause) {
    throw new StartError(
      `cannot make the data folder ${folder} (${errnoOf(cause) ?? 'unknown reason'}): set ROOKERY_DATA_DIR to a folder that this user may write`,
      { cause },
    )
  }
}

async function embedded(
  options: Parameters<StartEmbedded>[0],
  cleanup: CleanupStack,
  embedding: StartEmbedded,
): Promise<EmbeddedPostgres['connection']> {
  const postgres = await embedding(options)
  cleanup.defer(() => postgres.stop())
  return postgres.connection
}

async function reachDatabase(db: Database): Promise<void> {
  try {
    await checkPostgres(db)
  } catch (cause) {
    throw new StartError(`cannot use the database: ${reasonOf(cause)}`, { cause })
  }
}

/** The innermost reason: what the operating system or Postgres said. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.cause !== undefined) return reasonOf(error.cause)
  return error.message || (errnoOf(error) ?? 'unknown reason')
}

import { join, resolve } from 'node:path'
import { errnoOf } from '../async/errno.ts'
import type { Config } from '../config/config.ts'
import { checkPostgres, Database } from '../db/database.ts'
import { migrate } from '../db/migrations.ts'
import { QUESTION_CONNECTIONS, Questions } from '../db/questions.ts'
import type { EmbeddedOptions, EmbeddedPostgres } from '../embedded-postgres/supervisor.ts'
import { CheckedStore, type CheckedStoreOptions } from '../registry/checked-store.ts'
import type { BlobStore } from '../storage/blob-store.ts'
import { openBlobStore, type StoreName } from './blob-store.ts'
import { claimStore } from './claim-store.ts'
import { type CleanupStack, StartError } from './cleanup.ts'
import type { Log } from './log.ts'
import { makeOwnFolder } from './own-folder.ts'

/** The open database and blob store. */
export type Stores = {
  readonly dataFolder: string
  readonly db: Database
  readonly questions: Questions
  readonly store: BlobStore
  readonly storeName: StoreName
}

const POSTGRES_FOLDER = 'postgres'

/** Starts the embedded Postgres, or connects to the one that runs. */
export type StartEmbedded = (options: Omit<EmbeddedOptions, 'onLost'>) => Promise<EmbeddedPostgres>

/**
 * Opens the configured database, migrates its schema, and opens the blob store, which must be that of the database.
 * Throws StartError or EmbeddedPostgresError.
 */
export async function openStores(
  config: Config,
  log: Log,
  cleanup: CleanupStack,
  startEmbedded: StartEmbedded,
): Promise<Stores> {
  const { db, questions, dataFolder } = await openDatabase(config, log, cleanup, startEmbedded)
  for (const name of await migrate(db)) log.info({ migration: name }, 'schema migrated')
  const { name, store, close } = await openBlobStore(config, dataFolder)
  cleanup.defer(close)
  const sharesFolder = config.databaseUrl === undefined && name === 'filesystem'
  const mark = await claimStore(db, store, { sharesFolder })
  const checked = new CheckedStore(store, db, { mark, ...storeReports(log) })
  return { dataFolder, db, questions, store: checked, storeName: name }
}

function storeReports(log: Log): Pick<CheckedStoreOptions, 'onLost' | 'onMark'> {
  return {
    onLost(digest, storageKey) {
      log.error(
        { digest, storageKey },
        'the store lost the bytes of this blob: push it again, or bring the file or object back and run rookery scrub',
      )
    },
    onMark(problem) {
      if (problem === undefined) log.info('the store has the mark of this installation again')
      else log.error({ problem }, 'the store is not that of the database: pushes are refused')
    },
  }
}

/** Opens the database alone, without migrating it. Throws as `openStores` does. */
export async function openDatabase(
  config: Config,
  log: Log,
  cleanup: CleanupStack,
  startEmbedded: StartEmbedded,
): Promise<Pick<Stores, 'db' | 'questions' | 'dataFolder'>> {
  const dataFolder = resolve(config.dataFolder)
  const { databaseConnectionsMax: connectionsMax } = config
  await makeDataFolder(dataFolder)
  const connection =
    config.databaseUrl ??
    (await openEmbedded(
      {
        folder: join(dataFolder, POSTGRES_FOLDER),
        log,
        connectionsMax: connectionsMax + QUESTION_CONNECTIONS,
      },
      cleanup,
      startEmbedded,
    ))
  const onIdleError = (error: Error) => log.warn({ err: error }, 'a database connection broke')
  const db = new Database({ connection, connectionsMax, onIdleError })
  cleanup.defer(() => db.close())
  const questions = new Questions(db, { connection, onIdleError })
  cleanup.defer(() => questions.close())
  await assertUsable(db)
  return { db, questions, dataFolder }
}

async function makeDataFolder(folder: string): Promise<void> {
  try {
    // Others may enter it, because the embedded Postgres may run as another user.
    await makeOwnFolder(folder, 0o755, [POSTGRES_FOLDER])
  } catch (cause) {
    if (cause instanceof StartError) throw cause
    throw new StartError(
      `cannot make the data folder ${folder} (${errnoOf(cause) ?? 'unknown reason'}): set ROOKERY_DATA_DIR to a folder that this user may write`,
      { cause },
    )
  }
}

async function openEmbedded(
  options: Parameters<StartEmbedded>[0],
  cleanup: CleanupStack,
  startEmbedded: StartEmbedded,
): Promise<EmbeddedPostgres['connection']> {
  const postgres = await startEmbedded(options)
  cleanup.defer(() => postgres.stop())
  return postgres.connection
}

async function assertUsable(db: Database): Promise<void> {
  try {
    await checkPostgres(db)
  } catch (cause) {
    throw new StartError(`cannot use the database: ${reasonOf(cause)}`, { cause })
  }
}

/** Returns the innermost cause: the message of the operating system or of Postgres. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.cause !== undefined) return reasonOf(error.cause)
  return error.message || (errnoOf(error) ?? 'unknown reason')
}

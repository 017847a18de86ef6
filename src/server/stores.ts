import { randomUUID } from 'node:crypto'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { errnoOf } from '../async/errno.ts'
import { unlessAborted } from '../async/unless-aborted.ts'
import type { Config } from '../config/config.ts'
import { ContentLease } from '../db/content-lease.ts'
import { checkPostgres, Database } from '../db/database.ts'
import { describeDatabaseFault, isDatabaseFault, isDatabaseNotReady } from '../db/faults.ts'
import { migrate } from '../db/migrations.ts'
import { QUESTION_CONNECTIONS, Questions } from '../db/questions.ts'
import type { EmbeddedOptions, EmbeddedPostgres } from '../embedded-postgres/supervisor.ts'
import { CheckedStore, type CheckedStoreOptions } from '../registry/checked-store.ts'
import type { BlobStore } from '../storage/blob-store.ts'
import type { DiskReserve } from '../storage/filesystem/disk-reserve.ts'
import { type OnStoreCall, openBlobStore, type StoreName } from './blob-store.ts'
import { claimStore } from './claim-store.ts'
import { type CleanupStack, StartError } from './cleanup.ts'
import { diskReserve } from './disk-reserve.ts'
import type { Log } from './log.ts'
import { assertOwnFolder, makeOwnFolder } from './own-folder.ts'

/** The open database and blob store. */
export type Stores = {
  readonly dataFolder: string
  readonly db: Database
  readonly questions: Questions
  readonly store: BlobStore
  readonly storeName: StoreName
  /** Undefined: no disk of this machine needs one. */
  readonly reserve: DiskReserve | undefined
}

const POSTGRES_FOLDER = 'postgres'

/** Starts the embedded Postgres, or connects to the one that runs. */
export type StartEmbedded = (options: Omit<EmbeddedOptions, 'onLost'>) => Promise<EmbeddedPostgres>

export type OpenDatabaseOptions = {
  readonly log: Log
  readonly cleanup: CleanupStack
  readonly startEmbedded: StartEmbedded
  /** True: a missing data folder is made. */
  readonly mayCreate: boolean
  /** Receives each call of an object store. */
  readonly onStoreCall?: OnStoreCall
  /** Undefined: a database that does not answer is a failure at once. */
  readonly wait?: DatabaseWait
  /** True: it answers pulls, with an embedded Postgres from memory. */
  readonly remembersAnswers?: boolean
}

/** For how long a start waits for a database that does not answer yet, and what ends the wait. */
export type DatabaseWait = { readonly seconds: number; readonly signal: AbortSignal }

/** The open database, before the blob store. */
export type OpenDatabase = Pick<Stores, 'db' | 'questions' | 'dataFolder'>

/**
 * Opens the configured database, migrates its schema, and opens the blob store, which must be that of the database.
 * Throws StartError or EmbeddedPostgresError, and the reason of the signal that ends a wait.
 */
export async function openStores(config: Config, options: OpenDatabaseOptions): Promise<Stores> {
  const database = await openDatabase(config, options)
  await migrateSchema(database.db, options.log)
  return { ...database, ...(await openStore(config, database, options)) }
}

/** Opens the configured blob store, which must be that of the database. Throws StartError. */
export async function openStore(
  config: Config,
  { db, dataFolder }: OpenDatabase,
  { log, cleanup, onStoreCall }: Pick<OpenDatabaseOptions, 'log' | 'cleanup' | 'onStoreCall'>,
): Promise<Pick<Stores, 'store' | 'storeName' | 'reserve'>> {
  const { name, store, close } = await openBlobStore(config, dataFolder, onStoreCall)
  cleanup.defer(close)
  const sharesFolder = config.databaseUrl === undefined && name === 'filesystem'
  const mark = await claimStore(db, store, { sharesFolder })
  const reserve = diskReserve(config, dataFolder)
  const checked = new CheckedStore(store, db, {
    mark,
    ...(reserve !== undefined && name === 'filesystem' ? { reserve } : {}),
    ...storeReports(log),
  })
  return { store: checked, storeName: name, reserve }
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
  options: OpenDatabaseOptions,
): Promise<OpenDatabase> {
  const { log, cleanup, startEmbedded, mayCreate, wait } = options
  const dataFolder = resolve(config.dataFolder)
  const { databaseConnectionsMax: connectionsMax } = config
  if (mayCreate) await makeDataFolder(dataFolder)
  else await assertOwnFolder(dataFolder, [POSTGRES_FOLDER])
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
  const onIdleError = brokenReporter(log)
  // Nobody but commands shares an embedded Postgres with its server.
  const server =
    options.remembersAnswers && config.databaseUrl === undefined ? randomUUID() : undefined
  const db = new Database({ connection, connectionsMax, server, onIdleError })
  try {
    if (wait === undefined || config.databaseUrl === undefined) await assertUsable(db)
    else await waitUntilUsable(db, log, wait)
  } catch (error) {
    // Not awaited: a connection that hangs in the network closes only after its own time.
    void db.close()
    throw error
  }
  cleanup.defer(() => db.close())
  const questions = new Questions(db, { connection, onIdleError })
  cleanup.defer(() => questions.close())
  if (server !== undefined) cleanup.defer(rememberAnswers(db, server, log))
  return { db, questions, dataFolder }
}

/** Remembers answers to pulls while nobody else changes them. Returns what ends that. */
function rememberAnswers(db: Database, server: string, log: Log): () => Promise<void> {
  const lease = new ContentLease(db, server, (error) => {
    const reason = describeDatabaseFault(error)
    log.warn({ reason }, 'answers to pulls are not remembered at the moment')
  })
  return () => lease.close()
}

/** The connections of a pool break at the same time. */
const BROKEN_MILLISECONDS = 1_000

/** Returns a function that logs broken connections, one line for those of a second, without the connection itself. */
function brokenReporter(log: Log): (error: Error) => void {
  let loggedAt = Number.NEGATIVE_INFINITY
  return (error) => {
    if (performance.now() - loggedAt < BROKEN_MILLISECONDS) return
    loggedAt = performance.now()
    log.warn({ reason: describeDatabaseFault(error) }, 'a database connection broke')
  }
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

/** Brings the schema up to date. Throws StartError. */
export async function migrateSchema(db: Database, log: Log): Promise<void> {
  try {
    const migrations = await migrate(db)
    if (migrations.length > 0) {
      log.info({ migrations: migrations.length, last: migrations.at(-1) }, 'schema migrated')
    }
  } catch (cause) {
    if (!isDatabaseFault(cause)) throw cause
    throw new StartError(`cannot change the schema: ${describeDatabaseFault(cause)}`, { cause })
  }
}

async function assertUsable(db: Database): Promise<void> {
  try {
    await checkPostgres(db)
  } catch (cause) {
    throw new StartError(`cannot use the database: ${describeDatabaseFault(cause)}`, { cause })
  }
}

const RETRY_MILLISECONDS = 500

/**
 * Waits until the database is usable, or fails for another reason than that it does not answer yet. Throws StartError,
 * also at the end of the time, and the reason of the signal.
 */
async function waitUntilUsable(db: Database, log: Log, { seconds, signal }: DatabaseWait) {
  const deadline = performance.now() + seconds * 1000
  let isLogged = false
  for (;;) {
    try {
      return await unlessAborted(assertUsable(db), signal)
    } catch (error) {
      if (signal.aborted || !isDatabaseNotReady(error)) throw error
      const left = deadline - performance.now()
      if (left <= 0) throw waitedInVain(error, seconds)
      const reason = describeDatabaseFault(error)
      if (!isLogged) log.warn({ reason, seconds }, 'waiting for the database')
      isLogged = true
      await delay(Math.min(RETRY_MILLISECONDS, left), undefined, { signal })
    }
  }
}

function waitedInVain(cause: unknown, seconds: number): StartError {
  const waited = seconds === 0 ? '' : ` (waited ${seconds} s, ROOKERY_DATABASE_WAIT_SECONDS)`
  const message = `cannot use the database: ${describeDatabaseFault(cause)}${waited}`
  return new StartError(message, { cause })
}

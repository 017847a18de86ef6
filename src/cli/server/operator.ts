import { access } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { errnoOf } from '../../async/errno.ts'
import { type AgreeOptions, agreeWithServer } from '../../config/agreement.ts'
import { type Config, ConfigError, parseConfig } from '../../config/config.ts'
import type { Actor } from '../../db/auth/audit.ts'
import type { Database, Queryable } from '../../db/database.ts'
import { CleanupStack } from '../../server/cleanup.ts'
import type { Log } from '../../server/log.ts'
import type {
  OpenDatabase,
  OpenDatabaseOptions,
  StartEmbedded,
  Stores,
} from '../../server/stores.ts'
import { CommandError, reasonOf } from '../errors.ts'
import { operatorMessageOf } from './operator-errors.ts'
import { loopbackUrl } from './start-banner.ts'

/** A person who runs commands on the machine of the registry, as the audit log records them. */
export const OPERATOR: Actor = {
  name: 'operator',
  origin: null,
  tokenId: null,
  keyId: null,
  address: null,
  requestId: null,
}

/** The state that commands need when they change rights and not the store. */
export type OpenRegistry = Pick<Stores, 'db' | 'dataFolder'>

/** The same with the URL under which clients reach the registry, as its server left it. */
export type AgreedRegistry = OpenRegistry & { readonly baseUrl: string }

// Postgres, logging and the stores are loaded when a command runs, so that its help does not load them.

/**
 * Runs `work` on the database and the blob store of an existing registry, with or without a running server, and
 * closes them. Throws CommandError for a failure that an operator can mend.
 */
export async function withStores(
  environment: NodeJS.ProcessEnv,
  work: (stores: Stores, config: Config) => Promise<number>,
): Promise<number> {
  await assertRegistryExists(environment)
  return withCleanup(environment, async (config, options) => {
    const database = await openExisting(config, options)
    const agreed = await agreedConfig(environment, database.db)
    if (agreed.config.s3 === undefined) await assertHasBlobs(database.dataFolder)
    const { openStore } = await import('../../server/stores.ts')
    const store = await openStore(agreed.config, database, options)
    return work({ ...database, ...store }, agreed.config)
  })
}

/** Runs `work` on the database alone, which may be new, with the schema that it has. Throws CommandError like `withStores`. */
export function withDatabase(
  environment: NodeJS.ProcessEnv,
  work: (state: OpenRegistry, config: Config) => Promise<number>,
): Promise<number> {
  return withCleanup(environment, async (config, options) => {
    const { openDatabase } = await import('../../server/stores.ts')
    return work(await openDatabase(config, { ...options, mayCreate: true }), config)
  })
}

/** Runs `work` on the database as it is; undefined when the embedded one does not exist yet. Throws CommandError like `withStores`. */
export function withExistingDatabase(
  environment: NodeJS.ProcessEnv,
  work: (db: Database | undefined, config: Config) => Promise<number>,
): Promise<number> {
  return withCleanup(environment, async (config, options) => {
    if ((await findMissingRegistry(environment)) !== undefined) return work(undefined, config)
    const { openDatabase } = await import('../../server/stores.ts')
    const { db } = await openDatabase(config, { ...options, mayCreate: false })
    return work(db, config)
  })
}

/** Runs `work` on the database of an existing registry after its migrations. Throws CommandError like `withStores`. */
export async function withRegistry(
  environment: NodeJS.ProcessEnv,
  work: (registry: AgreedRegistry, config: Config) => Promise<number>,
  agreeOptions: AgreeOptions = {},
): Promise<number> {
  await assertRegistryExists(environment)
  return withCleanup(environment, async (config, options) => {
    const state = await openExisting(config, options)
    const { config: agreed, baseUrl } = await agreedConfig(environment, state.db, agreeOptions)
    return work({ ...state, baseUrl }, agreed)
  })
}

/** Opens a database that has a registry, and brings its schema up to date. */
async function openExisting(config: Config, options: OpenOptions): Promise<OpenDatabase> {
  const { openDatabase, migrateSchema } = await import('../../server/stores.ts')
  const { hasSchema } = await import('../../db/migrations.ts')
  const database = await openDatabase(config, { ...options, mayCreate: false })
  if (!(await hasSchema(database.db))) throw noRegistry('the database')
  await migrateSchema(database.db, options.log)
  return database
}

async function assertHasBlobs(dataFolder: string): Promise<void> {
  const folder = join(dataFolder, 'blobs')
  if (!(await exists(folder))) throw noRegistry(`${dataFolder}, which has no folder of blobs`)
}

// In a wrong folder, a command would silently create an empty registry and answer from it.
async function assertRegistryExists(environment: NodeJS.ProcessEnv): Promise<void> {
  const folder = await findMissingRegistry(environment)
  if (folder === undefined) return
  throw noRegistry(folder)
}

function noRegistry(place: string): CommandError {
  return new CommandError(
    `there is no registry in ${place}: set ROOKERY_DATA_DIR or ROOKERY_DATABASE_URL to an existing one, or create one with rookery serve`,
  )
}

/** Throws CommandError when this user may not look. */
async function exists(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch (cause) {
    if (errnoOf(cause) !== 'EACCES') return false
    throw new CommandError(operatorMessageOf(cause) ?? reasonOf(cause), { cause })
  }
}

/** The data folder of an embedded Postgres that does not exist yet. */
async function findMissingRegistry(environment: NodeJS.ProcessEnv): Promise<string | undefined> {
  try {
    const { databaseUrl, dataFolder } = parseConfig(environment)
    if (databaseUrl !== undefined) return undefined
    const folder = resolve(dataFolder)
    return (await exists(join(folder, 'postgres'))) ? undefined : folder
  } catch (error) {
    // Opening the registry throws the same error, and reports it.
    if (error instanceof ConfigError) return undefined
    throw error
  }
}

const WARNINGS_ONLY = 'warn'

/** Loads the embedded Postgres, when the registry has it. */
async function loadEmbedded({ databaseUrl }: Config, log: Log): Promise<StartEmbedded> {
  if (databaseUrl !== undefined)
    return () => Promise.reject(new Error('the registry has another Postgres'))
  const { connectToEmbeddedPostgres } = await import('../../embedded-postgres/supervisor.ts')
  const onLost = (error: Error) => log.error({ err: error }, 'the embedded Postgres stopped')
  return (options) => connectToEmbeddedPostgres({ ...options, onLost })
}

type OpenOptions = Omit<OpenDatabaseOptions, 'mayCreate'>

/** Runs `work` with the settings alone, and closes what it opened. Throws CommandError like `withStores`. */
export async function withCleanup(
  environment: NodeJS.ProcessEnv,
  work: (config: Config, options: OpenOptions) => Promise<number>,
): Promise<number> {
  const cleanup = new CleanupStack()
  try {
    const config = parseConfig(environment)
    const { createLog } = await import('../../server/log.ts')
    const { becomeOwnerOf } = await import('../../server/own-folder.ts')
    // Loaded before this process becomes another user, who may not read the program of root.
    await import('../../server/stores.ts')
    const log = createLog(WARNINGS_ONLY)
    const startEmbedded = await loadEmbedded(config, log)
    await becomeOwnerOf(resolve(config.dataFolder))
    return await work(config, { log, cleanup, startEmbedded })
  } catch (error) {
    const message = operatorMessageOf(error)
    if (message === undefined) throw error
    throw new CommandError(message, { cause: error })
  } finally {
    await cleanup.run()
  }
}

/** The settings of a command beside its registry: what the server left, and what the environment adds. */
async function agreedConfig(
  environment: NodeJS.ProcessEnv,
  db: Queryable,
  options: AgreeOptions = {},
): Promise<{ config: Config; baseUrl: string }> {
  const { findLastStart } = await import('../../db/last-start.ts')
  const last = await findLastStart(db)
  const agreed = last && agreeWithServer(environment, last.settings, options)
  const config = parseConfig(agreed ?? environment)
  return { config, baseUrl: baseUrlOf(config, last?.url) }
}

/** The URL under which clients reach the registry. */
function baseUrlOf({ publicUrl, listen: { host, port } }: Config, url: string | undefined): string {
  if (publicUrl !== undefined) return publicUrl
  const listens = url ?? `http://${host.includes(':') ? `[${host}]` : host}:${port}`
  return loopbackUrl(listens)
}

const PAGE = 500

/** Lists everything that a listing has, page by page in the order of names. */
export async function listAll<T extends { readonly name: string }>(
  list: (last: string, limit: number) => Promise<T[]>,
): Promise<T[]> {
  const all: T[] = []
  for (;;) {
    const page = await list(all.at(-1)?.name ?? '', PAGE)
    all.push(...page)
    if (page.length < PAGE) return all
  }
}

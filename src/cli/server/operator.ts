import { access } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type Config, ConfigError, parseConfig } from '../../config/config.ts'
import type { Actor } from '../../db/auth/audit.ts'
import { AlreadyRunningError } from '../../db/maintenance/jobs.ts'
import { EmbeddedPostgresError } from '../../embedded-postgres/errors.ts'
import { RegistryError } from '../../oci/errors.ts'
import { CleanupStack, StartError } from '../../server/cleanup.ts'
import type { Log } from '../../server/log.ts'
import type { StartEmbedded, Stores } from '../../server/stores.ts'
import { StoreFullError, StoreUnavailableError } from '../../storage/blob-store.ts'
import { CommandError } from '../errors.ts'

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
  return withCleanup(environment, async (config, log, cleanup) => {
    const { openStores } = await import('../../server/stores.ts')
    return work(await openStores(config, log, cleanup, embeddedPostgres(log)), config)
  })
}

/** Runs `work` on the database alone, with the schema that it has. Throws CommandError like `withStores`. */
export function withDatabase(
  environment: NodeJS.ProcessEnv,
  work: (state: OpenRegistry, config: Config) => Promise<number>,
): Promise<number> {
  return withCleanup(environment, async (config, log, cleanup) => {
    const { openDatabase } = await import('../../server/stores.ts')
    return work(await openDatabase(config, log, cleanup, embeddedPostgres(log)), config)
  })
}

/** Runs `work` on the database of an existing registry after its migrations. Throws CommandError like `withStores`. */
export async function withRegistry(
  environment: NodeJS.ProcessEnv,
  work: (state: OpenRegistry, config: Config) => Promise<number>,
): Promise<number> {
  await assertRegistryExists(environment)
  return withDatabase(environment, async (state, config) => {
    const { migrate } = await import('../../db/migrations.ts')
    await migrate(state.db)
    return work(state, config)
  })
}

// In a wrong folder, a command would silently create an empty registry and answer from it.
async function assertRegistryExists(environment: NodeJS.ProcessEnv): Promise<void> {
  const folder = await findMissingRegistry(environment)
  if (folder === undefined) return
  throw new CommandError(
    `there is no registry in ${folder}: set ROOKERY_DATA_DIR or ROOKERY_DATABASE_URL to an existing one, or create one with rookery serve`,
  )
}

/** The data folder of an embedded Postgres that does not exist yet. */
async function findMissingRegistry(environment: NodeJS.ProcessEnv): Promise<string | undefined> {
  try {
    const { databaseUrl, dataFolder } = parseConfig(environment)
    if (databaseUrl !== undefined) return undefined
    const folder = resolve(dataFolder)
    const found = access(join(folder, 'postgres')).then(() => true)
    return (await found.catch(() => false)) ? undefined : folder
  } catch (error) {
    // Opening the registry throws the same error, and reports it.
    if (error instanceof ConfigError) return undefined
    throw error
  }
}

const WARNINGS_ONLY = 'warn'

function embeddedPostgres(log: Log): StartEmbedded {
  return async (options) => {
    const { connectToEmbeddedPostgres } = await import('../../embedded-postgres/supervisor.ts')
    return connectToEmbeddedPostgres({
      ...options,
      onLost: (error) => log.error({ err: error }, 'the embedded Postgres stopped'),
    })
  }
}

async function withCleanup(
  environment: NodeJS.ProcessEnv,
  work: (config: Config, log: Log, cleanup: CleanupStack) => Promise<number>,
): Promise<number> {
  const cleanup = new CleanupStack()
  try {
    const config = parseConfig(environment)
    const { createLog } = await import('../../server/log.ts')
    return await work(config, createLog(WARNINGS_ONLY), cleanup)
  } catch (error) {
    if (!isOperatorError(error)) throw error
    throw new CommandError(error.message, { cause: error })
  } finally {
    await cleanup.run()
  }
}

const OPERATOR_ERRORS = [
  ConfigError,
  StartError,
  EmbeddedPostgresError,
  AlreadyRunningError,
  StoreUnavailableError,
  StoreFullError,
  RegistryError,
]

/** Whether an operator can mend the failure, so that its message is enough. */
export function isOperatorError(error: unknown): error is Error {
  return OPERATOR_ERRORS.some((kind) => error instanceof kind)
}

/** The URL under which clients reach the registry, as far as the configuration knows it. */
export function publicBaseUrl({ publicUrl, listen }: Config): string {
  if (publicUrl !== undefined) return publicUrl
  // A server that listens on all addresses is reached here on loopback.
  const host = { '0.0.0.0': '127.0.0.1', '::': '::1' }[listen.host] ?? listen.host
  return `http://${host.includes(':') ? `[${host}]` : host}:${listen.port}`
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

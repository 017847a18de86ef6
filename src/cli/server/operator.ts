import { access } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type Config, ConfigError, parseConfig } from '../../config/config.ts'
import type { Actor } from '../../db/auth/audit.ts'
import { AlreadyRunningError } from '../../db/maintenance/jobs.ts'
import { migrate } from '../../db/migrations.ts'
import {
  connectToEmbeddedPostgres,
  EmbeddedPostgresError,
} from '../../embedded-postgres/supervisor.ts'
import { RegistryError } from '../../oci/errors.ts'
import { CleanupStack, StartError } from '../../server/cleanup.ts'
import { createLog, type Log } from '../../server/log.ts'
import { openDatabase, openStores, type StartEmbedded, type Stores } from '../../server/stores.ts'
import { StoreFullError, StoreUnavailableError } from '../../storage/blob-store.ts'
import { CommandError, InterruptedError, STATUS } from '../command.ts'

/** Whoever may run commands on this machine, as the audit log calls them. */
export const OPERATOR: Actor = {
  name: 'operator',
  origin: null,
  tokenId: null,
  address: null,
  requestId: null,
}

/** What a builder does, when nothing else was said. */
export const ACTIONS_DEFAULT: readonly string[] = ['pull', 'push']

/** What commands need that change rights and nothing in the store. */
export type OpenRegistry = Pick<Stores, 'db' | 'dataFolder'>

/**
 * Runs `work` on the database and store of a registry that is there, beside a server or without one, and lets go of
 * them. What an operator can mend is one line on standard error, and `STATUS.failed`.
 */
export async function withState(
  environment: NodeJS.ProcessEnv,
  work: (state: Stores, config: Config) => Promise<number>,
): Promise<number> {
  if (await tellAbsence(environment)) return STATUS.failed
  return forOperators(environment, async (config, log, cleanup) =>
    work(await openStores(config, log, cleanup, reach(log)), config),
  )
}

/** The same with the database alone, and the schema that it has. */
export function withDatabase(
  environment: NodeJS.ProcessEnv,
  work: (state: Pick<Stores, 'db' | 'dataFolder'>, config: Config) => Promise<number>,
): Promise<number> {
  return forOperators(environment, async (config, log, cleanup) =>
    work(await openDatabase(config, log, cleanup, reach(log)), config),
  )
}

/** The same for a registry that is there, its schema brought up to date. */
export async function withRegistry(
  environment: NodeJS.ProcessEnv,
  work: (state: OpenRegistry, config: Config) => Promise<number>,
): Promise<number> {
  if (await tellAbsence(environment)) return STATUS.failed
  return withDatabase(environment, async (state, config) => {
    await migrate(state.db)
    return work(state, config)
  })
}

// In the wrong folder a new registry would be made without a word, and what is asked there helps nobody.
async function tellAbsence(environment: NodeJS.ProcessEnv): Promise<boolean> {
  const absent = await absentRegistry(environment)
  if (absent === undefined) return false
  process.stderr.write(
    `rookery: there is no registry in ${absent}: ROOKERY_DATA_DIR or ROOKERY_DATABASE_URL says where it is, and rookery serve makes one\n`,
  )
  return true
}

/** The data folder that has no database yet but would get one. */
async function absentRegistry(environment: NodeJS.ProcessEnv): Promise<string | undefined> {
  try {
    const { databaseUrl, dataFolder } = parseConfig(environment)
    if (databaseUrl !== undefined) return undefined
    const folder = resolve(dataFolder)
    const found = access(join(folder, 'postgres')).then(() => true)
    return (await found.catch(() => false)) ? undefined : folder
  } catch (error) {
    // Opening it says the same, and tells the operator.
    if (error instanceof ConfigError) return undefined
    throw error
  }
}

const WARNINGS_ONLY = 'warn'

function reach(log: Log): StartEmbedded {
  return (options) =>
    connectToEmbeddedPostgres({
      ...options,
      onLost: (error) => log.error({ err: error }, 'the embedded Postgres is gone'),
    })
}

async function forOperators(
  environment: NodeJS.ProcessEnv,
  work: (config: Config, log: Log, cleanup: CleanupStack) => Promise<number>,
): Promise<number> {
  const cleanup = new CleanupStack()
  try {
    return await work(parseConfig(environment), createLog(WARNINGS_ONLY), cleanup)
  } catch (error) {
    if (!isForOperators(error)) throw error
    process.stderr.write(`rookery: ${error.message}\n`)
    return error instanceof InterruptedError ? STATUS.stopped : STATUS.failed
  } finally {
    await cleanup.run()
  }
}

function isForOperators(error: unknown): error is Error {
  return (
    error instanceof ConfigError ||
    error instanceof StartError ||
    error instanceof EmbeddedPostgresError ||
    error instanceof AlreadyRunningError ||
    error instanceof InterruptedError ||
    error instanceof CommandError ||
    error instanceof StoreUnavailableError ||
    error instanceof StoreFullError ||
    error instanceof RegistryError
  )
}

/** How clients reach the registry, as far as the configuration tells. */
export function publicBaseUrl({ publicUrl, listen }: Config): string {
  if (publicUrl !== undefined) return publicUrl
  // An address that listens everywhere is reached here at loopback.
  const host = { '0.0.0.0': '127.0.0.1', '::': '::1' }[listen.host] ?? listen.host
  return `http://${host.includes(':') ? `[${host}]` : host}:${listen.port}`
}

/** An option that may be given several times, or once with commas; undefined when it was not. */
export function listOf(values: readonly string[] | undefined): string[] | undefined {
  return values?.flatMap((value) => value.split(','))
}

const PAGE = 500

/** All that a listing has, page after page in the order of names. */
export async function allNamed<T extends { readonly name: string }>(
  list: (last: string, limit: number) => Promise<T[]>,
): Promise<T[]> {
  const all: T[] = []
  for (;;) {
    const page = await list(all.at(-1)?.name ?? '', PAGE)
    all.push(...page)
    if (page.length < PAGE) return all
  }
}

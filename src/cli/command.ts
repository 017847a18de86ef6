import { access } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { type Config, ConfigError, parseConfig } from '../config.ts'
import { EmbeddedPostgresError, reachEmbeddedPostgres } from '../db/embedded/supervisor.ts'
import { AlreadyRunning } from '../db/maintenance.ts'
import { StartError, Starting } from '../listening.ts'
import { createLog, type Log } from '../log.ts'
import { type Embedding, openDatabase, openState, type State } from '../state.ts'

/** A command: its words on the command line, what it says of itself, and what it does. */
export type Command = {
  readonly words: readonly string[]
  /** The options, as they stand behind the words. */
  readonly usage: string
  readonly summary: string
  /** Returns the exit status. */
  run(args: readonly string[], environment: NodeJS.ProcessEnv): Promise<number>
}

/** The command line is wrong, in one line. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** Why a command cannot do it, in one line that says what to do. */
export class CommandError extends Error {
  override readonly name = 'CommandError'
}

/** Exit statuses: nothing to complain of; something found; could not be done; stopped by a signal. */
export const STATUS = { ok: 0, found: 1, failed: 2, stopped: 130 } as const

type Options = NonNullable<ParseArgsConfig['options']>

/** The options behind a command's words; anything else there is a UsageError. */
export function parseOptions<const T extends Options>(args: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: false }).values
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause), { cause })
  }
}

/** The same with what stands without an option: exactly the named words, in their order. */
export function parseArguments<const T extends Options>(
  args: readonly string[],
  options: T,
  names: readonly string[],
) {
  const { values, positionals } = parsed(args, options)
  if (positionals.length !== names.length) {
    throw new UsageError(`expected ${names.join(' and ')}, not ${positionals.length} words`)
  }
  return { values, positionals }
}

function parsed<const T extends Options>(args: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: true })
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause), { cause })
  }
}

/** A number of an option. Throws UsageError. */
export function parseNumber(name: string, text: string, min: number, max: number): number {
  const value = Number(text)
  if (!/^\d+(?:\.\d+)?$/.test(text) || value < min || value > max) {
    throw new UsageError(`--${name} must be a number from ${min} to ${max}, not "${text}"`)
  }
  return value
}

const WARNINGS_ONLY = 'warn'

/**
 * Runs `work` on the database and store of a registry that is there, beside a server or without one, and lets go of
 * them. What an operator can mend is one line on standard error, and `STATUS.failed`.
 */
export async function withState(
  environment: NodeJS.ProcessEnv,
  work: (state: State, config: Config) => Promise<number>,
): Promise<number> {
  if (await tellAbsence(environment)) return STATUS.failed
  return forOperators(environment, async (config, log, starting) =>
    work(await openState(config, log, starting, reach(log)), config),
  )
}

/**
 * True when there is no registry where the environment says, after a line about that on standard error:
 * in the wrong folder a new one would be made without a word, and what is asked there helps nobody.
 */
export async function tellAbsence(environment: NodeJS.ProcessEnv): Promise<boolean> {
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

/** The same with the database alone, and the schema that it has. */
export function withDatabase(
  environment: NodeJS.ProcessEnv,
  work: (state: Pick<State, 'db' | 'dataFolder'>, config: Config) => Promise<number>,
): Promise<number> {
  return forOperators(environment, async (config, log, starting) =>
    work(await openDatabase(config, log, starting, reach(log)), config),
  )
}

function reach(log: Log): Embedding {
  return (options) =>
    reachEmbeddedPostgres({
      ...options,
      onLost: (error) => log.error({ err: error }, 'the embedded Postgres is gone'),
    })
}

async function forOperators(
  environment: NodeJS.ProcessEnv,
  work: (config: Config, log: Log, starting: Starting) => Promise<number>,
): Promise<number> {
  const starting = new Starting()
  try {
    return await work(parseConfig(environment), createLog(WARNINGS_ONLY), starting)
  } catch (error) {
    if (!isForOperators(error)) throw error
    process.stderr.write(`rookery: ${error.message}\n`)
    return error instanceof Stopped ? STATUS.stopped : STATUS.failed
  } finally {
    await starting.undo()
  }
}

/** A signal that SIGINT and SIGTERM abort: long work saves how far it came, and ends. */
export function stopSignal(): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => controller.abort(new Stopped()))
  }
  return controller.signal
}

/** The operator ended the command. */
export class Stopped extends Error {
  override readonly name = 'Stopped'

  constructor() {
    super('stopped; run it again to go on')
  }
}

const TELL_EVERY_MILLISECONDS = 10_000

/** Tells who waits, now and then, in a line on standard error. */
export function progressTeller(
  done: string,
): (report: { readonly blobs: number; readonly bytes: number }) => void {
  let toldAt = Date.now()
  return ({ blobs, bytes }) => {
    if (Date.now() - toldAt < TELL_EVERY_MILLISECONDS) return
    toldAt = Date.now()
    process.stderr.write(`${blobs} blobs, ${sizeText(bytes)} ${done}\n`)
  }
}

/** Bytes for people. */
export function sizeText(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}

function isForOperators(error: unknown): error is Error {
  return (
    error instanceof ConfigError ||
    error instanceof StartError ||
    error instanceof EmbeddedPostgresError ||
    error instanceof AlreadyRunning ||
    error instanceof Stopped ||
    error instanceof CommandError ||
    (error instanceof Error && ['StoreUnavailable', 'StoreFull', 'OciError'].includes(error.name))
  )
}

import { type ParseArgsConfig, parseArgs } from 'node:util'

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

/** A signal that SIGINT and SIGTERM abort: long work saves how far it came, and ends. */
export function stopSignal(): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => controller.abort(new InterruptedError()))
  }
  return controller.signal
}

/** The operator ended the command. */
export class InterruptedError extends Error {
  override readonly name = 'InterruptedError'

  constructor() {
    super('stopped; run it again to continue')
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

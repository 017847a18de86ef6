import { type ParseArgsConfig, parseArgs } from 'node:util'
import { UnreadableLoginsError } from '../../client/docker-logins.ts'
import {
  FileChangedError,
  RegistryResponseError,
  RegistryUnreachableError,
} from '../../client/errors.ts'
import { MalformedReferenceError } from '../../client/image-reference.ts'
import { DigestMismatchError } from '../../client/image-source.ts'
import { RegistryError } from '../../oci/errors.ts'
import { CommandError, STATUS, UsageError } from '../command.ts'
import { visible } from '../printing.ts'

type Options = NonNullable<ParseArgsConfig['options']>

/** Options, and so many words without one: at least `least`, at most `most`. Throws UsageError. */
export function parseWords<const T extends Options>(
  args: readonly string[],
  options: T,
  { least, most, expected }: { least: number; most: number; expected: string },
) {
  const { values, positionals } = parsed(args, options)
  if (positionals.length < least || positionals.length > most) {
    throw new UsageError(`expected ${expected}, not ${positionals.length} words`)
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

/**
 * Runs a command that speaks to a registry. What its user can mend is one line on standard error, and
 * `STATUS.failed`.
 */
export async function forUsers(work: () => Promise<number>): Promise<number> {
  try {
    return await work()
  } catch (error) {
    if (!isForUsers(error)) throw error
    process.stderr.write(`rookery: ${visible(error.message.replaceAll('\n', ' '))}\n`)
    return STATUS.failed
  }
}

function isForUsers(error: unknown): error is Error {
  const kinds = [
    CommandError,
    MalformedReferenceError,
    RegistryResponseError,
    RegistryUnreachableError,
    FileChangedError,
    UnreadableLoginsError,
    DigestMismatchError,
    RegistryError,
  ]
  return kinds.some((kind) => error instanceof kind)
}

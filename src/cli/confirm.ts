import { createInterface } from 'node:readline/promises'
import type { Readable, Writable } from 'node:stream'
import { CommandError, UsageError } from './errors.ts'

/** A terminal: the question is written to `output`, so that standard output has the result alone. */
export type Terminal = {
  readonly input: Readable & { readonly isTTY?: boolean }
  readonly output: Writable
}

/**
 * Asks a person before something that nobody can undo. With `yes`, nothing is asked. Throws UsageError without a
 * terminal, and CommandError for any answer but y or yes.
 */
export async function confirm(
  question: string,
  yes: boolean,
  { input, output }: Terminal = { input: process.stdin, output: process.stderr },
): Promise<void> {
  if (yes) return
  if (input.isTTY !== true) {
    throw new UsageError('there is no terminal for the question: give --yes to delete without it')
  }
  const terminal = createInterface({ input, output })
  try {
    const answer = await Promise.race([terminal.question(`${question} [y/N] `), closed(terminal)])
    if (/^\s*y(?:es)?\s*$/i.test(answer)) return
  } finally {
    terminal.close()
  }
  throw new CommandError('nothing was deleted')
}

/** Resolves to no answer when the input ends, or at Ctrl-C. */
function closed(terminal: {
  once(event: 'close', listener: () => void): unknown
}): Promise<string> {
  return new Promise((resolve) => terminal.once('close', () => resolve('')))
}

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { TestRegistry } from '../support/registry.ts'

/** The built `rookery`. */
export const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

/** The line behind a message about a wrong command line; other errors have none. */
export const HELP_HINT = /^(?:Run "rookery [a-z -]*--help" for usage\.)?$/

export type Ran = {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export type RunOptions = {
  readonly env: NodeJS.ProcessEnv
  readonly cwd?: string
  /** Standard input; empty by default. */
  readonly input?: string
  readonly onStart?: (kill: (signal: NodeJS.Signals) => void) => void
}

/** Runs the built `rookery` to its end. */
export function runMain(words: readonly string[], options: RunOptions): Promise<Ran> {
  return runFile(MAIN, words, options)
}

/** Runs a file with Node to its end. */
export async function runFile(
  file: string,
  words: readonly string[],
  { env, cwd, input = '', onStart = () => {} }: RunOptions,
): Promise<Ran> {
  const child = spawn(process.execPath, [file, ...words], { env, cwd })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk) => {
    output.stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    output.stderr += chunk
  })
  // A command that ends without reading its input breaks the pipe.
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  onStart((signal) => child.kill(signal))
  const [status] = await once(child, 'close')
  return { status, ...output }
}

/** Runs a command of the built `rookery` on a registry's database and store, as an operator does. */
export function rookery(
  registry: Pick<TestRegistry, 'settings'>,
  words: readonly string[],
  onStart: (kill: (signal: NodeJS.Signals) => void) => void = () => {},
  input = '',
): Promise<Ran> {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('ROOKERY_'))
  const env = { ...Object.fromEntries(inherited), ...registry.settings }
  return runMain(words, { env, input, onStart })
}

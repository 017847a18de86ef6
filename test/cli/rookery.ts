import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { TestRegistry } from '../support/registry.ts'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

export type Ran = {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command of the built `rookery` on a registry's database and store, as an operator does. */
export async function rookery(
  registry: Pick<TestRegistry, 'settings'>,
  words: readonly string[],
  onStart: (kill: (signal: NodeJS.Signals) => void) => void = () => {},
): Promise<Ran> {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('ROOKERY_'))
  const env = { ...Object.fromEntries(inherited), ...registry.settings }
  const child = spawn(process.execPath, [MAIN, ...words], { env })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk) => {
    output.stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    output.stderr += chunk
  })
  onStart((signal) => child.kill(signal))
  const [status] = await once(child, 'close')
  return { status, ...output }
}

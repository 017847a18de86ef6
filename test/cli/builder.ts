import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

/** A build of the fixtures, as orb left it. */
export const build = (name: string) =>
  fileURLToPath(new URL(`../fixtures/builds/${name}`, import.meta.url))
/** A kernel of the fixtures. */
export const elf = (name: string) =>
  fileURLToPath(new URL(`../fixtures/elf/${name}`, import.meta.url))

export type Ran = {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs `rookery` where nobody has logged in, and nothing of the environment says how. */
export async function builder(
  words: readonly string[],
  { input = '', ...more }: { readonly input?: string } & Readonly<Record<string, string>> = {},
): Promise<Ran> {
  const env = {
    PATH: process.env.PATH,
    HOME: '/nowhere',
    DOCKER_CONFIG: '/nowhere',
    ...more,
  }
  const child = spawn(process.execPath, [MAIN, ...words], { env })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk) => {
    output.stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    output.stderr += chunk
  })
  // One that ends without reading is heard of by its status.
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const [status] = await once(child, 'close')
  return { status, ...output }
}

/** What it printed, with nothing to complain of. */
export async function builderOutput(words: readonly string[], more: Record<string, string> = {}) {
  const ran = await builder(words, more)
  expect(ran, words.join(' ')).toMatchObject({ status: 0, stderr: '' })
  return ran.stdout
}

/** The same with `--json`. */
export async function printedJson(words: readonly string[], more: Record<string, string> = {}) {
  return JSON.parse(await builderOutput([...words, '--json'], more))
}

/** The one line with which it refused. */
export async function errorLine(words: readonly string[], more: Record<string, string> = {}) {
  const ran = await builder(words, more)
  expect(ran, words.join(' ')).toMatchObject({ status: 2, stdout: '' })
  const lines = ran.stderr.split('\n').filter((line) => !line.startsWith('rookery: warning: '))
  expect(lines[0]).toMatch(/^rookery: /)
  expect(lines[1] ?? '').toMatch(/^(?:usage:)?$/)
  return lines[0] ?? ''
}

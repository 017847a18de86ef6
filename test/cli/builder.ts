import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { HELP_HINT, type Ran, runMain } from './rookery.ts'

/** The folder of a build in the fixtures. */
export const build = (name: string) =>
  fileURLToPath(new URL(`../fixtures/builds/${name}`, import.meta.url))
/** The file of a kernel in the fixtures. */
export const elf = (name: string) =>
  fileURLToPath(new URL(`../fixtures/elf/${name}`, import.meta.url))

/** Runs `rookery` without logins in files or in the environment. */
export function builder(
  words: readonly string[],
  { input = '', ...more }: { readonly input?: string } & Readonly<Record<string, string>> = {},
): Promise<Ran> {
  const env = { PATH: process.env.PATH, HOME: '/nowhere', DOCKER_CONFIG: '/nowhere', ...more }
  return runMain(words, { env, input })
}

/** The standard output of a command that succeeds without a message. */
export async function builderOutput(words: readonly string[], more: Record<string, string> = {}) {
  const ran = await builder(words, more)
  expect(ran, words.join(' ')).toMatchObject({ status: 0, stderr: '' })
  return ran.stdout
}

/** The JSON of a command that succeeds without a message. */
export async function printedJson(words: readonly string[], more: Record<string, string> = {}) {
  return JSON.parse(await builderOutput([...words, '--json'], more))
}

/** The line of the error of a command that fails with status 2, and prints nothing else. */
export async function errorLine(words: readonly string[], more: Record<string, string> = {}) {
  const ran = await builder(words, more)
  expect(ran, words.join(' ')).toMatchObject({ status: 2, stdout: '' })
  const lines = ran.stderr.split('\n').filter((line) => !line.startsWith('rookery: warning: '))
  expect(lines[0]).toMatch(/^rookery: /)
  expect(lines[1] ?? '').toMatch(HELP_HINT)
  return lines[0] ?? ''
}

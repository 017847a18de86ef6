import { expect, vi } from 'vitest'
import type { TestRegistry } from '../support/registry.ts'
import { HELP_HINT, rookery } from './rookery.ts'

/** How long a change of rights may take to reach every replica. */
const EFFECTIVE_MILLISECONDS_MAX = 20_000

type Operated = Pick<TestRegistry, 'settings'>

/** The standard output of a command that succeeds without a message. */
export async function printed(registry: Operated, ...words: string[]): Promise<string> {
  const ran = await rookery(registry, words)
  expect(ran).toMatchObject({ status: 0, stderr: '' })
  return ran.stdout
}

/** The JSON of a command that succeeds without a message. */
export async function printedJson(registry: Operated, ...words: string[]) {
  return JSON.parse(await printed(registry, ...words, '--json'))
}

/** The line of the error of a command that fails with status 2, and prints nothing else. */
export function errorLine(registry: Operated, ...words: string[]): Promise<string> {
  return errorLineFor(registry, undefined, ...words)
}

/** The same for a command with this standard input. */
export async function errorLineFor(
  registry: Operated,
  input: string | undefined,
  ...words: string[]
): Promise<string> {
  const ran = await rookery(registry, words, undefined, input)
  expect(ran).toMatchObject({ status: 2, stdout: '' })
  expect(ran.stderr).not.toContain('    at ')
  const [first = '', ...more] = ran.stderr.split('\n')
  expect(first).toMatch(/^rookery: /)
  expect(more[0]).toMatch(HELP_HINT)
  expect(more.slice(1).join('')).toBe('')
  return first
}

/** Exit status and standard output of a command with this standard input. */
export async function printedFor(registry: Operated, input: string, ...words: string[]) {
  const { status, stdout } = await rookery(registry, words, undefined, input)
  return { status, stdout }
}

export const basic = (user: string, password: string) => ({
  authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
})

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

type Headers = Record<string, string>

/** The status of a request that starts an upload. */
export async function pushStatus(
  registry: Pick<TestRegistry, 'url'>,
  repository: string,
  headers: Headers,
): Promise<number> {
  const url = `${registry.url}/v2/${repository}/blobs/uploads/`
  const answer = await fetch(url, { method: 'POST', headers })
  await answer.body?.cancel()
  return answer.status
}

/** Waits until the running server answers with a status, without a restart. */
export function becomes(status: number, ask: () => Promise<number>): Promise<void> {
  return vi.waitFor(async () => expect(await ask()).toBe(status), {
    timeout: EFFECTIVE_MILLISECONDS_MAX,
    interval: 250,
  })
}

/** Returns a token of `/token` for a credential. */
export async function tokenFor(
  registry: Pick<TestRegistry, 'url'>,
  scope: string,
  headers: Headers,
): Promise<string> {
  const answer = await fetch(`${registry.url}/token?scope=${encodeURIComponent(scope)}`, {
    headers,
  })
  expect(answer.status).toBe(200)
  const { token } = (await answer.json()) as { token: string }
  return token
}

/** Returns the claims of a token. */
export function claimsOf(token: string) {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
}

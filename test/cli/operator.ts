import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, vi } from 'vitest'
import type { TestRegistry } from '../support/registry.ts'
import { rookery } from './rookery.ts'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

/** As long as a change of rights may take to reach every replica. */
const EFFECTIVE_MILLISECONDS_MAX = 20_000

type Operated = Pick<TestRegistry, 'settings'>

/** What a command printed that has nothing to complain of. */
export async function printed(registry: Operated, ...words: string[]): Promise<string> {
  const ran = await rookery(registry, words)
  expect(ran).toMatchObject({ status: 0, stderr: '' })
  return ran.stdout
}

/** The same of a command with `--json`. */
export async function printedJson(registry: Operated, ...words: string[]) {
  return JSON.parse(await printed(registry, ...words, '--json'))
}

/** The one line in which a command was refused; exit status 2, and nothing on standard output. */
export async function errorLine(registry: Operated, ...words: string[]): Promise<string> {
  const ran = await rookery(registry, words)
  expect(ran).toMatchObject({ status: 2, stdout: '' })
  expect(ran.stderr).not.toContain('    at ')
  const [first = '', ...more] = ran.stderr.split('\n')
  expect(first).toMatch(/^rookery: /)
  // Behind it stands the usage, or nothing.
  expect(more[0]).toMatch(/^(?:usage:)?$/)
  return first
}

/** What a command printed that read this from standard input. */
export function printedFor(
  registry: Operated,
  input: string,
  ...words: string[]
): Promise<{ status: number; stdout: string }> {
  const env = { ...process.env, ...registry.settings }
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [MAIN, ...words], { env }, (error, stdout) =>
      resolve({ status: error === null ? 0 : Number(error.code), stdout }),
    )
    child.stdin?.end(input)
  })
}

export const basic = (user: string, password: string) => ({
  authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
})

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

type Headers = Record<string, string>

/** The status of beginning to push there. */
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

/** The running server comes to answer so, without a restart. */
export function becomes(status: number, ask: () => Promise<number>): Promise<void> {
  return vi.waitFor(async () => expect(await ask()).toBe(status), {
    timeout: EFFECTIVE_MILLISECONDS_MAX,
    interval: 250,
  })
}

/** What `/token` gives for a credential. */
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

/** What a token says of itself. */
export function claimsOf(token: string) {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
}

import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  basic,
  bearer,
  becomes,
  errorLine,
  errorLineFor,
  printed,
  printedJson,
  pushStatus,
  tokenFor,
} from './operator.ts'
import { rookery } from './rookery.ts'

let registry: TestRegistry
let secret: string

beforeEach(async () => {
  registry = await startRegistry()
  ;({ secret } = await printedJson(
    registry,
    'credential',
    'create',
    'orb',
    '--repository',
    'orb/*',
  ))
})

afterEach(() => registry.close())

const mint = async () => (await printed(registry, 'token', 'mint', '--repository', 'orb/a')).trim()
const push = (token: string) => pushStatus(registry, 'orb/a', bearer(token))
const keys = async () => (await printedJson(registry, 'key', 'list')).keys
const published = async (): Promise<{ kid: string; alg: string }[]> => {
  const answer = await registry.anonymous('/.well-known/jwks.json')
  return ((await answer.json()) as { keys: { kid: string; alg: string }[] }).keys
}
const kidOf = (token: string): string =>
  JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()).kid

describe('rookery key rotate', () => {
  it('adds a key that is published at once and signs later; tokens stay valid', async () => {
    const before = await mint()
    const [first] = await keys()
    expect(first).toMatchObject({ kid: kidOf(before), algorithm: 'ES256', state: 'active' })
    const rotated = await printedJson(registry, 'key', 'rotate', '--algorithm', 'EdDSA')
    expect(rotated).toMatchObject({ algorithm: 'EdDSA', state: 'next', until: null, voided: false })
    expect(Date.parse(rotated.since)).toBeGreaterThan(Date.now() + 300_000)
    const { voided: _, ...next } = rotated
    expect(await keys()).toEqual([{ ...first, until: expect.any(String) }, next])
    await becomes(2, async () => (await published()).length)
    expect((await published()).map(({ kid }) => kid).sort()).toEqual([first.kid, next.kid].sort())
    expect(await push(before)).toBe(202)
    const after = await mint()
    expect(kidOf(after)).toBe(first.kid)
    expect(await push(after)).toBe(202)

    const text = await printed(registry, 'key', 'rotate')
    // The algorithm of the newest key is the default.
    expect(text).toMatch(/^Key [\w-]{43} \(EdDSA\) is published, and signs from \d{4}-\S+Z\.$/m)
    const table = await printed(registry, 'key', 'list')
    expect(table.match(/ (?:active|next) /g)).toEqual([' active ', ' next ', ' next '])
  })

  it('with --now voids all tokens, and the running server signs with the new key', async () => {
    const old = await mint()
    const given = await tokenFor(registry, 'repository:orb/a:push', basic('orb', secret))
    expect(await push(old)).toBe(202)
    expect(await push(given)).toBe(202)
    const rotated = await printedJson(registry, 'key', 'rotate', '--now')
    expect(rotated).toMatchObject({ state: 'active', voided: true })
    expect(await keys()).toHaveLength(1)
    await becomes(401, () => push(old))
    await becomes(401, () => push(given))
    const fresh = await mint()
    expect(kidOf(fresh)).toBe(rotated.kid)
    await becomes(202, () => push(fresh))
    expect((await published()).map(({ kid }) => kid)).toEqual([rotated.kid])
    // A credential is not a token: it gets new tokens.
    const again = await tokenFor(registry, 'repository:orb/a:push', basic('orb', secret))
    expect(kidOf(again)).toBe(rotated.kid)
    expect(await push(again)).toBe(202)
    const refused = await errorLineFor(registry, old, 'token', 'revoke', '-')
    expect(refused).toContain('not signed by this')
  })

  it.each([[['rotate', '--algorithm', 'RS256']], [['rotate', 'all']], [['list', '--now']]])(
    '%j is refused in one line',
    async (words) => {
      await errorLine(registry, 'key', ...words)
    },
  )
})

describe('with another master key', () => {
  let folder: string
  let elsewhere: { settings: Record<string, string> }

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-keys-'))
    const file = join(folder, 'master-key')
    elsewhere = { settings: { ...registry.settings, ROOKERY_MASTER_KEY_FILE: file } }
  })

  afterEach(() => rm(folder, { recursive: true }))

  it('rotate is refused, and with --now it creates keys and prints the next step', async () => {
    const file = join(folder, 'master-key')
    const [first] = await keys()
    // The file is missing at first; then it is another one.
    expect(await errorLine(elsewhere, 'key', 'rotate')).toContain(`${file} is missing`)
    await writeFile(file, randomBytes(32).toString('base64'), { mode: 0o600 })
    for (const words of [
      ['key', 'rotate'],
      ['token', 'mint', '--repository', 'a'],
    ]) {
      expect(await errorLine(elsewhere, ...words)).toContain('encrypted with another master key')
    }
    expect(await printedJson(elsewhere, 'key', 'list')).toEqual({ keys: [first] })
    await chmod(file, 0o644)
    expect(await errorLine(elsewhere, 'key', 'rotate', '--now')).toContain('is readable by')
    expect(await keys()).toEqual([first])

    await rm(file)
    const rotated = await rookery(elsewhere, ['key', 'rotate', '--now', '--json'])
    expect(rotated.status).toBe(0)
    expect(rotated.stderr).toBe(
      `rookery: created ${file}: copy it to every replica and restart the running ones\n`,
    )
    const { kid } = JSON.parse(rotated.stdout)
    expect((await keys()).map((key: { kid: string }) => key.kid)).toEqual([kid])
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect((await readFile(file, 'utf8')).trim()).toHaveLength(44)
    expect(kidOf((await printed(elsewhere, 'token', 'mint', '--repository', 'a')).trim())).toBe(kid)
  })
})

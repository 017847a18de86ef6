import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MasterKey, openMasterKey } from '../../src/auth/master-key.ts'
import { rotateSigningKeys } from '../../src/auth/signing-keys.ts'
import { OPERATOR } from '../../src/cli/server/operator.ts'
import { parseConfig } from '../../src/config/config.ts'
import { Database } from '../../src/db/database.ts'
import { createLog } from '../../src/server/log.ts'
import { startServer } from '../../src/server/server.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

let database: TestDatabase
let folder: string
let file: string

beforeEach(async () => {
  database = await createTestDatabase()
  folder = await mkdtemp(join(tmpdir(), 'rookery-master-key-'))
  file = join(folder, 'master-key')
})

afterEach(async () => {
  await database.drop()
  await rm(folder, { recursive: true, force: true })
})

const settings = (more: Record<string, string> = {}) => ({
  ROOKERY_LISTEN: '127.0.0.1:0',
  ROOKERY_DATA_DIR: folder,
  ROOKERY_DATABASE_URL: database.url,
  ...more,
})

/** Starts a server and stops it. Returns its published keys. */
async function startOnce(
  more: Record<string, string> = {},
): Promise<{ kid: string; kty: string }[]> {
  const log = createLog('silent')
  const server = await startServer(parseConfig(settings(more)), log, () => {})
  const answer = await fetch(new URL('/.well-known/jwks.json', server.url))
  const { keys } = (await answer.json()) as { keys: { kid: string; kty: string }[] }
  await server.close()
  return keys
}

const refusal = (message: RegExp, more: Record<string, string> = {}) =>
  expect(startOnce(more)).rejects.toMatchObject({
    name: 'StartError',
    message: expect.stringMatching(message),
  })

it('of the documented command is accepted, with the usual umask', async () => {
  const document = readFileSync(new URL('../../docs/settings.md', import.meta.url), 'utf8')
  const command = /^.*openssl rand.*$/m.exec(document)?.[0] ?? ''
  execFileSync('sh', ['-euc', `umask 022\n${command}`], { cwd: folder })
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  expect((await startOnce({ ROOKERY_MASTER_KEY_FILE: file })).length).toBeGreaterThan(0)
})

describe('the master key', () => {
  it('is created on first start, readable by its owner only, and stays the same', async () => {
    const keys = await startOnce()
    expect(keys).toHaveLength(1)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    const text = await readFile(file, 'utf8')
    expect(Buffer.from(text.trim(), 'base64')).toHaveLength(32)
    expect(await startOnce()).toEqual(keys)
    expect(await readFile(file, 'utf8')).toBe(text)
  })

  it('may be a file that openssl wrote', async () => {
    const given = join(folder, 'given')
    await writeFile(given, `${randomBytes(32).toString('base64')}\n`, { mode: 0o400 })
    const keys = await startOnce({ ROOKERY_MASTER_KEY_FILE: given })
    await refusal(/master-key is missing.*key rotate --now/)
    expect(await startOnce({ ROOKERY_MASTER_KEY_FILE: given })).toEqual(keys)
  })

  it('is the same for processes that start at once', async () => {
    const files = Array.from({ length: 8 }, () => openMasterKey(file, true))
    const [first, ...others] = await Promise.all(files)
    const sealed = (await first?.encrypt('secret')) ?? ''
    for (const other of others) expect(await other.decrypt(sealed)).toBe('secret')
  })

  it.each([
    ['that every user can read', 0o644, 'right', /is readable by every user/],
    ['that every user can write', 0o602, 'right', /is readable by every user/],
    ['that is empty', 0o600, '', /must have 32 random bytes in base64/],
    ['that is too short', 0o600, randomBytes(16).toString('base64'), /must have 32 random bytes/],
    ['that is too long', 0o600, randomBytes(48).toString('base64'), /must have 32 random bytes/],
    ['that is a password', 0o600, 'correct horse battery staple, again', /must have 32 random/],
    ['of zeros', 0o600, Buffer.alloc(32).toString('base64'), /weak key/],
    ['of one word, repeated', 0o600, Buffer.alloc(32, 'rookery').toString('base64'), /weak key/],
    ['as large as a disk', 0o600, 'A'.repeat(100_000), /must have 32 random bytes/],
  ])('a file %s is refused, in one line', async (_what, mode, text, message) => {
    const right = randomBytes(32).toString('base64')
    await writeFile(file, text === 'right' ? right : text)
    await chmod(file, mode)
    await refusal(message)
    await expect(startOnce()).rejects.not.toThrow(right)
  })

  it('of another registry is refused: replicas need the same one', async () => {
    await startOnce()
    await writeFile(file, randomBytes(32).toString('base64'))
    await refusal(/another master key.*ROOKERY_MASTER_KEY_FILE/)
  })

  it('that was lost is replaced by new keys, and the registry starts', async () => {
    const before = await startOnce()
    await rm(file)
    await refusal(/master-key is missing/)
    const db = new Database({
      connection: database.url,
      connectionsMax: 1,
      onIdleError: () => {},
    })
    const kid = await rotateSigningKeys(
      db,
      await openMasterKey(file, true),
      'EdDSA',
      true,
      OPERATOR,
    )
    await db.query(`select 1`)
    await db.close()
    const after = await startOnce()
    expect(after).toMatchObject([{ kid, kty: 'OKP' }])
    expect(after).not.toEqual(before)
  })
})

describe('signing keys', () => {
  it.each([
    ['of another curve', `public_jwk = public_jwk || '{"x":"AAAA"}'`],
    ['of another algorithm', `algorithm = 'EdDSA'`],
  ])('%s are refused', async (_what, change) => {
    await startOnce()
    const db = new Database({ connection: database.url, connectionsMax: 1, onIdleError: () => {} })
    await db.query(`update signing_keys set ${change}`)
    await db.close()
    await refusal(/is malformed/)
  })

  it('are encrypted, and only the master key decrypts them', async () => {
    const mine = new MasterKey(randomBytes(32))
    const theirs = new MasterKey(randomBytes(32))
    const sealed = await mine.encrypt('a private key')
    expect(sealed).not.toContain(Buffer.from('a private key').toString('base64url'))
    expect(await mine.decrypt(sealed)).toBe('a private key')
    expect(await theirs.decrypt(sealed)).toBeUndefined()
    const parts = sealed.split('.')
    const changed = [...parts.slice(0, 3), 'AAAA', ...parts.slice(4)].join('.')
    expect(await mine.decrypt(changed)).toBeUndefined()
    expect(await mine.decrypt('nonsense')).toBeUndefined()
  })
})

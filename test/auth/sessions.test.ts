import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { removeExpiredAuthRows } from '../../src/auth/refresh-loop.ts'
import { hashSecret } from '../../src/auth/secrets.ts'
import { Database } from '../../src/db/database.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { makeCredential, openTokenMinter, sql } from './credentials-client.ts'
import {
  cookieOf,
  logIn,
  nameOnPage,
  secretOf,
  sendForm,
  sendLogin,
  sessionRows,
} from './session-client.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_TRUSTED_PROXIES: '127.0.0.1' })
})

afterAll(() => registry?.close())

const builder = (more: object = {}) =>
  makeCredential(registry, { repositories: ['a/**'], actions: ['pull', 'push'], ...more })
const rowsOf = (cookie: string) => sessionRows(registry, cookie)
const change = (cookie: string, assignment: string) =>
  sql(registry, `update sessions set ${assignment} where secret_sha256 = $1`, [
    hashSecret(secretOf(cookie)),
  ])

it('a session ends with its credential, and when the person logs out', async () => {
  const { name, secret } = await builder()
  const cookies = [await logIn(registry, { name, secret }), await logIn(registry, { name, secret })]
  for (const cookie of cookies) expect(await nameOnPage(registry, cookie)).toBe(name)
  const [first = '', second = ''] = cookies
  await sendForm(registry, '/logout', {}, { cookie: first })
  expect([await nameOnPage(registry, first), await rowsOf(first)]).toEqual([undefined, []])
  expect(await nameOnPage(registry, second)).toBe(name)
  await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
  expect(await nameOnPage(registry, second)).toBeUndefined()
})

describe('a session lives no longer than its login', () => {
  it('and ends with its token', async () => {
    const minter = await openTokenMinter(registry)
    const access = [{ type: 'registry', name: 'admin', actions: ['*'] }] as const
    const { token } = await minter.tokens.mint({ subject: 'operator', access }, 2)
    await minter.close()
    const answer = await sendLogin(registry, { secret: token })
    expect(answer.headers.getSetCookie()[0]).toMatch(/; Max-Age=[12];/)
    const cookie = cookieOf(answer)
    expect(await nameOnPage(registry, cookie)).toBe('operator')
    await expect.poll(() => nameOnPage(registry, cookie), { timeout: 15_000 }).toBeUndefined()
  })

  it('and ends with the day on which its credential expires', async () => {
    const { name, secret } = await builder({
      expiresAt: new Date(Date.now() + 60_000).toISOString(),
    })
    const cookie = await logIn(registry, { name, secret })
    expect((await rowsOf(cookie))[0]?.seconds).toBeLessThanOrEqual(60)
    await sql(registry, 'update credentials set expires_at = now() where name = $1', [name])
    expect(await nameOnPage(registry, cookie)).toBeUndefined()
  })

  it('and has the rights that its credential has now', async () => {
    const { name, secret } = await builder()
    const cookie = await logIn(registry, { name, secret })
    await sql(registry, `update credentials set networks = '{10.0.0.0/8}' where name = $1`, [name])
    expect(await nameOnPage(registry, cookie)).toBeUndefined()
  })

  it('and may be used in the networks of its credential only', async () => {
    const at = (address: string) => ({ 'x-forwarded-for': address, 'x-forwarded-proto': 'https' })
    const { name, secret } = await builder({ networks: ['10.0.0.0/8'] })
    const elsewhere = await sendLogin(registry, { name, secret }, at('192.0.2.1'))
    expect([elsewhere.status, await elsewhere.text()]).toEqual([
      403,
      expect.stringContaining('may not be used from 192.0.2.1'),
    ])
    const cookie = await logIn(registry, { name, secret }, at('10.1.1.1'))
    expect(await nameOnPage(registry, cookie, at('192.0.2.1'))).toBeUndefined()
    expect(await nameOnPage(registry, cookie, at('10.2.2.2'))).toBe(name)
  })
})

describe('a session that nobody uses', () => {
  it('ends after twelve hours, and a used one after seven days', async () => {
    const { name, secret } = await builder()
    const [idle, old, kept] = [
      await logIn(registry, { name, secret }),
      await logIn(registry, { name, secret }),
      await logIn(registry, { name, secret }),
    ]
    expect((await rowsOf(old))[0]?.seconds).toBeGreaterThan(7 * 86_400 - 60)
    await change(idle, `seen_at = now() - interval '12 hours'`)
    await change(old, 'ends_at = now()')
    await change(kept, `seen_at = now() - interval '11 hours 59 minutes'`)
    expect(await nameOnPage(registry, idle)).toBeUndefined()
    expect(await nameOnPage(registry, old)).toBeUndefined()
    expect(await nameOnPage(registry, kept)).toBe(name)
    const recent = `select id from sessions where secret_sha256 = $1 and seen_at > now() - interval '1 hour'`
    await expect.poll(() => sql(registry, recent, [hashSecret(secretOf(kept))])).toHaveLength(1)
  })

  it('is removed a day after its end', async () => {
    const cookie = await logIn(registry, await builder())
    await change(cookie, `ends_at = now() - interval '23 hours'`)
    const db = new Database({
      connection: registry.databaseUrl,
      connectionsMax: 1,
      onIdleError: () => {},
    })
    await removeExpiredAuthRows(db, 365)
    expect(await rowsOf(cookie)).toHaveLength(1)
    await change(cookie, `ends_at = now() - interval '25 hours'`)
    await removeExpiredAuthRows(db, 365)
    expect(await rowsOf(cookie)).toEqual([])
    await db.close()
  })
})

describe('the costs of sessions', () => {
  it('a login has at most a hundred, and the one that was used least recently ends first', async () => {
    const { name, secret } = await builder()
    const [first, second] = [
      await logIn(registry, { name, secret }),
      await logIn(registry, { name, secret }),
    ]
    await change(first, `seen_at = now() - interval '2 hours'`)
    await change(second, `seen_at = now() - interval '1 hour'`)
    await sql(
      registry,
      `insert into sessions
              (secret_sha256, actor, origin, credential_id, credential_secret_sha256, ends_at)
       select sha256(n::text::bytea), actor, origin, credential_id, credential_secret_sha256, ends_at
         from sessions, generate_series(1, 98) as n
        where secret_sha256 = $1`,
      [hashSecret(secretOf(first))],
    )
    const stranger = await logIn(registry, await builder())
    await logIn(registry, { name, secret })
    expect(await rowsOf(first)).toEqual([])
    expect(await rowsOf(second)).toHaveLength(1)
    expect(await rowsOf(stranger)).toHaveLength(1)
  })

  it('a page costs no statement and no write for a session that was used within the minute', async () => {
    const { name, secret } = await builder()
    const cookie = await logIn(registry, { name, secret })
    await change(cookie, `seen_at = now() - interval '2 minutes'`)
    const before = (await rowsOf(cookie))[0]?.version
    expect(await nameOnPage(registry, cookie)).toBe(name)
    await expect.poll(async () => (await rowsOf(cookie))[0]?.version).not.toBe(before)
    const [touched] = await rowsOf(cookie)
    const query = vi.spyOn(Database.prototype, 'query')
    for (let view = 0; view < 5; view += 1) expect(await nameOnPage(registry, cookie)).toBe(name)
    const statements = query.mock.calls
      .map(([text]) => text)
      .filter((text) => /sessions/.test(text))
    query.mockRestore()
    expect(statements).toEqual([])
    expect((await rowsOf(cookie))[0]?.version).toBe(touched?.version)
  })
})

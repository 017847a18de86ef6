import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hashSecret } from '../../src/auth/secrets.ts'
import { parseConfig } from '../../src/config/config.ts'
import { createLog } from '../../src/server/log.ts'
import { type RunningServer, startServer } from '../../src/server/server.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { basic, makeCredential, openTokenMinter, requestToken, sql } from './credentials-client.ts'
import { logIn, nameOnPage, sendForm, sendLogin, sessionRows } from './session-client.ts'

const EVERYWHERE_MILLISECONDS_MAX = 5_000

let registry: TestRegistry
let replica: RunningServer
/** A replica with another password of the administrator. */
let other: RunningServer

beforeAll(async () => {
  registry = await startRegistry()
  const start = (password: string) =>
    startServer(
      parseConfig({ ...registry.settings, ROOKERY_ADMIN_PASSWORD: password }),
      createLog('silent'),
      () => {},
    )
  replica = await start(registry.password)
  other = await start('another long password')
})

afterAll(async () => {
  await Promise.all([replica?.close(), other?.close()])
  await registry?.close()
})

const builder = () =>
  makeCredential(registry, { repositories: ['a/**'], actions: ['pull', 'push'] })

/** Both replicas know the session, and then both do not. */
async function expectEnd(cookie: string, name: string, end: () => Promise<unknown>): Promise<void> {
  for (const server of [registry, replica]) expect(await nameOnPage(server, cookie)).toBe(name)
  await end()
  expect(await nameOnPage(registry, cookie)).toBeUndefined()
  await expect
    .poll(() => nameOnPage(replica, cookie), { timeout: EVERYWHERE_MILLISECONDS_MAX })
    .toBeUndefined()
}

describe('a session ends on every replica within seconds', () => {
  it('when the person logs out', async () => {
    const cookie = await logIn(registry, await builder())
    const name = (await nameOnPage(registry, cookie)) ?? ''
    await expectEnd(cookie, name, async () => {
      const answer = await sendForm(registry, '/logout', {}, { cookie })
      expect([answer.status, answer.headers.get('location')]).toEqual([303, '/'])
      expect(answer.headers.getSetCookie()).toEqual([
        'rookery=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax',
      ])
    })
    expect(await sessionRows(registry, cookie)).toEqual([])
    expect((await sendForm(registry, '/logout', {}, { cookie })).status).toBe(303)
  })

  it('when its credential is revoked', async () => {
    const { name, secret } = await builder()
    const cookie = await logIn(registry, { name, secret })
    await expectEnd(cookie, name, () =>
      registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' }),
    )
  })

  it('when the secret of its credential is rotated at once, and with the overlap otherwise', async () => {
    const { name, secret } = await builder()
    const rotate = (overlapSeconds: number) =>
      registry.request(`/api/v1/credentials/${name}/rotate-secret`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ overlapSeconds }),
      })
    const cookie = await logIn(registry, { name, secret })
    const next = (await (await rotate(60)).json()) as { secret: string }
    expect((await sessionRows(registry, cookie))[0]?.seconds).toBeLessThanOrEqual(60)
    // The login with the earlier secret ends with it, too.
    const late = await logIn(registry, { name, secret })
    expect((await sessionRows(registry, late))[0]?.seconds).toBeLessThanOrEqual(60)
    const newer = await logIn(registry, { name, secret: next.secret })
    expect((await sessionRows(registry, newer))[0]?.seconds).toBeGreaterThan(6 * 86_400)
    await expectEnd(newer, name, () => rotate(0))
  })

  it('when its token is revoked', async () => {
    const token = await requestToken(
      registry,
      basic('admin', registry.password),
      'registry:admin:*',
    )
    const { jti } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
    const cookie = await logIn(registry, { secret: token })
    await expectEnd(cookie, 'admin', () =>
      registry.request(`/api/v1/tokens/${jti}`, { method: 'DELETE' }),
    )
  })

  it('when the policy of its token is deleted', async () => {
    const created = await registry.request('/api/v1/policies', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        name: 'ci',
        issuer: 'https://issuer.example',
        audience: 'registry.example',
        conditions: { sub: 'x' },
        repositories: ['a/**'],
        actions: ['push'],
      }),
    })
    expect(created.status).toBe(201)
    const [policy] = await sql<{ id: number }>(registry, 'select id from trust_policies')
    const minter = await openTokenMinter(registry)
    const access = [{ type: 'repository', name: 'a/b', actions: ['push'] }] as const
    const claims = { subject: 'ci:1', origin: `policy:${policy?.id}`, access }
    const { token } = await minter.tokens.mint(claims, 600)
    await minter.close()
    const cookie = await logIn(registry, { secret: token })
    await expectEnd(cookie, 'ci:1', () =>
      registry.request('/api/v1/policies/ci', { method: 'DELETE' }),
    )
  })

  it('when the password of the administrator is another one', async () => {
    const cookie = await logIn(registry, { name: 'admin', secret: registry.password })
    expect(await nameOnPage(replica, cookie)).toBe('admin')
    expect(await nameOnPage(other, cookie)).toBeUndefined()
    const [row] = await sql<{ text: string }>(
      registry,
      `select sessions::text as text from sessions
                                                           where password_proof is not null`,
    )
    expect(row?.text).not.toContain(hashSecret(registry.password).toString('hex'))
    expect(await nameOnPage(registry, cookie)).toBe('admin')
  })

  it('which a login that was verified before does not survive', async () => {
    const { name, secret } = await builder()
    expect(await nameOnPage(registry, await logIn(registry, { name, secret }))).toBe(name)
    // No process has read this revocation yet.
    await sql(
      registry,
      `insert into revocations (subject, expires_at)
       select 'credential:' || id, now() + interval '1 day' from credentials where name = $1`,
      [name],
    )
    const count = 'select count(*)::int as count from sessions'
    const before = await sql(registry, count)
    const answer = await sendLogin(registry, { name, secret })
    expect([answer.status, answer.headers.getSetCookie()]).toEqual([403, []])
    expect(await sql(registry, count)).toEqual(before)
  })
})

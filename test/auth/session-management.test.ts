import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { basic, bearer, makeCredential, openTokenMinter, sql } from './credentials-client.ts'
import { logIn, nameOnPage } from './session-client.ts'

type Listed = {
  readonly id: string
  readonly actor: string
  readonly login: string
  readonly createdAt: string
  readonly seenAt: string
  readonly endsAt: string
}

const PATH = '/api/v1/sessions'
const IDLE_MILLISECONDS = 12 * 3_600_000

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry?.close())

/** A credential, with the header of its secret and `count` sessions. */
async function personWith(count: number, more: object = {}) {
  const rights = { repositories: ['a/**'], actions: ['pull'] }
  const { name, secret } = await makeCredential(registry, { ...rights, ...more })
  const cookies: string[] = []
  for (let made = 0; made < count; made += 1) cookies.push(await logIn(registry, { name, secret }))
  return { name, secret, cookies, authorization: basic(name, secret) }
}

async function call(authorization: string, method: string, path = PATH) {
  const answer = await registry.anonymous(path, { method, headers: { authorization } })
  const text = await answer.text()
  return { status: answer.status, body: text === '' ? undefined : JSON.parse(text) }
}

async function listed(authorization: string, path = PATH): Promise<Listed[]> {
  const { status, body } = await call(authorization, 'GET', path)
  expect(status).toBe(200)
  return body.sessions
}

describe('sessions', () => {
  it('are listed for their person, with their times and no secret', async () => {
    const { name, authorization, cookies } = await personWith(2)
    await personWith(1)
    const sessions = await listed(authorization)
    expect(sessions.map(({ actor, login }) => [actor, login])).toEqual([
      [name, 'credential'],
      [name, 'credential'],
    ])
    const [newest] = sessions
    expect(Object.keys(newest ?? {}).sort()).toEqual(
      ['actor', 'createdAt', 'endsAt', 'id', 'login', 'seenAt'].sort(),
    )
    // Nobody has used it longer than a moment ago.
    const idle = Date.parse(newest?.endsAt ?? '') - Date.parse(newest?.seenAt ?? '')
    expect(idle).toBe(IDLE_MILLISECONDS)
    for (const cookie of cookies) expect(JSON.stringify(sessions)).not.toContain(cookie.slice(8))
  })

  it('end one by one, and then all', async () => {
    const { name, authorization, cookies } = await personWith(3)
    const [last] = await listed(authorization)
    expect((await call(authorization, 'DELETE', `${PATH}/${last?.id}`)).status).toBe(204)
    const names = async () => Promise.all(cookies.map((cookie) => nameOnPage(registry, cookie)))
    expect((await names()).filter((one) => one === name)).toHaveLength(2)
    expect((await call(authorization, 'DELETE', `${PATH}/${last?.id}`)).status).toBe(404)
    expect((await call(authorization, 'DELETE')).body).toEqual({ ended: 2 })
    expect(await names()).toEqual([undefined, undefined, undefined])
    expect(await listed(authorization)).toEqual([])
    expect((await call(authorization, 'DELETE')).body).toEqual({ ended: 0 })
    // The credential itself stays.
    expect((await registry.anonymous('/v2/', { headers: { authorization } })).status).toBe(200)
  })

  it('that ended are still recognized: their cookies are no guesses', async () => {
    const { authorization, cookies } = await personWith(1)
    await call(authorization, 'DELETE')
    const rows = await sql(registry, 'select 1 from sessions where ends_at <= now()')
    expect(rows.length).toBeGreaterThan(0)
    expect(await nameOnPage(registry, cookies[0] ?? '')).toBeUndefined()
  })

  it('of others are not there, except for administrators', async () => {
    const owner = await personWith(1)
    const other = await personWith(1)
    const [session] = await listed(owner.authorization)
    const path = `${PATH}/${session?.id}`
    expect((await call(other.authorization, 'DELETE', path)).status).toBe(404)
    for (const method of ['GET', 'DELETE']) {
      const refused = await call(other.authorization, method, `${PATH}?actor=${owner.name}`)
      expect(refused.status).toBe(403)
    }
    expect(await listed(owner.authorization)).toHaveLength(1)
    const admin = basic('admin', registry.password)
    expect(await listed(admin, `${PATH}?actor=${owner.name}`)).toEqual([session])
    expect((await call(admin, 'DELETE', path)).status).toBe(204)
    expect((await call(admin, 'DELETE', `${PATH}?actor=${other.name}`)).body).toEqual({ ended: 1 })
  })

  it('of a credential are hidden from its tokens, which have their own', async () => {
    const minter = await openTokenMinter(registry)
    const { name, authorization } = await personWith(1)
    const [{ origin } = { origin: '' }] = await sql<{ origin: string }>(
      registry,
      'select origin from sessions where actor = $1',
      [name],
    )
    const access = [{ type: 'repository', name: 'a/b', actions: ['pull'] }] as const
    const { token } = await minter.tokens.mint({ subject: name, origin, access: [...access] }, 300)
    await minter.close()
    expect(await listed(bearer(token))).toEqual([])
    expect((await call(bearer(token), 'DELETE')).body).toEqual({ ended: 0 })
    await logIn(registry, { secret: token })
    const [own] = await listed(bearer(token))
    expect(own).toMatchObject({ actor: name, login: 'token' })
    // They came from the credential, too.
    expect(await listed(authorization)).toHaveLength(2)
  })

  it('that ended with their login are in no list', async () => {
    const admin = basic('admin', registry.password)
    const { name, authorization } = await personWith(2)
    await sql(
      registry,
      "update sessions set seen_at = now() - interval '13 hours' where actor = $1",
      [name],
    )
    expect(await listed(authorization)).toEqual([])
    const revoked = await personWith(1)
    await registry.request(`/api/v1/credentials/${revoked.name}`, { method: 'DELETE' })
    expect(await listed(admin, `${PATH}?actor=${revoked.name}`)).toEqual([])
  })

  it('have no other ids', async () => {
    const admin = basic('admin', registry.password)
    for (const id of [randomUUID(), '1', 'x', '%00']) {
      expect([id, (await call(admin, 'DELETE', `${PATH}/${id}`)).status]).toEqual([id, 404])
    }
  })

  it('that ended are in the audit log', async () => {
    const { name, authorization } = await personWith(2)
    const [session] = await listed(authorization)
    await call(authorization, 'DELETE', `${PATH}/${session?.id}`)
    await call(authorization, 'DELETE')
    const query = 'select detail from audit where actor = $1 and action = $2 order by id'
    expect(await sql(registry, query, [name, 'end-session'])).toEqual([
      { detail: session?.id },
      { detail: `all of ${name}` },
    ])
  })
})

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expectError } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { basic, makeCredential } from './credentials-client.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

const post = (body: unknown, type = 'application/json') =>
  registry.request('/api/v1/credentials', {
    method: 'POST',
    headers: { 'content-type': type },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })

const RIGHT = { name: 'right', repositories: ['builds/**'], actions: ['pull'] }

type Listed = { name: string; state: string; usedAt: string | null }

async function listed(query = ''): Promise<Listed[]> {
  const answer = await registry.request(`/api/v1/credentials${query}`)
  return ((await answer.json()) as { credentials: Listed[] }).credentials
}

describe('a credential', () => {
  it('is returned with its secret once, and listed without it', async () => {
    const expiresAt = '2099-01-01T00:00:00.000Z'
    const bounds = { tags: ['v*'], networks: ['127.0.0.0/8'], expiresAt }
    const answer = await post({ ...RIGHT, ...bounds })
    expect(answer.status).toBe(201)
    expect(answer.headers.get('cache-control')).toBe('no-store')
    expect(answer.headers.get('location')).toBe('/api/v1/credentials/right')
    const { secret, ...rest } = (await answer.json()) as { secret: string }
    expect(secret).toMatch(/^rky_/)
    expect(rest).toMatchObject({ ...RIGHT, ...bounds, kind: 'builder', state: 'valid' })
    expect(rest).toMatchObject({ createdBy: 'admin', usedAt: null })
    expect(await listed()).toEqual([rest])
    const headers = { authorization: basic('right', secret) }
    expect((await registry.anonymous('/v2/', { headers })).status).toBe(200)
    await expect.poll(async () => (await listed())[0]?.usedAt).not.toBeNull()
  })

  it('has a name that is used once, also after it was revoked', async () => {
    const again = { ...RIGHT, name: 'once' }
    expect((await post(again)).status).toBe(201)
    await expectError(await post(again), 409, 'CONFLICT')
    const path = '/api/v1/credentials/once'
    expect((await registry.request(path, { method: 'DELETE' })).status).toBe(204)
    await expectError(await post(again), 409, 'CONFLICT')
    expect((await listed()).find(({ name }) => name === 'once')?.state).toBe('revoked')
    expect((await registry.request(path, { method: 'DELETE' })).status).toBe(204)
  })

  it('is created once by concurrent requests with one name', async () => {
    const many = await Promise.all(
      Array.from({ length: 8 }, () => post({ ...RIGHT, name: 'at-once' })),
    )
    expect(many.map(({ status }) => status).sort()).toEqual([201, ...Array(7).fill(409)])
  })

  it.each(['nobody', 'UPPER', '%00', '..%2F', 'a'.repeat(300)])(
    'that does not exist cannot be revoked: %s',
    async (name) => {
      const answer = await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
      await expectError(answer, 404, 'NOT_FOUND')
    },
  )

  it('comes in pages, by name', async () => {
    for (let count = 0; count < 5; count += 1) {
      await makeCredential(registry, { repositories: ['a'], actions: ['pull'] })
    }
    const all = (await listed()).map(({ name }) => name)
    expect(all).toEqual([...all].sort())
    expect((await listed('?n=2')).map(({ name }) => name)).toEqual(all.slice(0, 2))
    const rest = await listed(`?n=2&last=${all[1]}`)
    expect(rest.map(({ name }) => name)).toEqual(all.slice(2, 4))
  })
})

describe('an administrator', () => {
  it('may be restricted only by expiry and networks', async () => {
    const bounds = { networks: ['127.0.0.0/8'], expiresAt: '2099-01-01T00:00:00Z' }
    expect((await post({ name: 'chief', kind: 'admin', ...bounds })).status).toBe(201)
  })

  // A caller that sends them would expect them to have an effect.
  it.each([
    { repositories: ['builds/**'] },
    { actions: ['pull'] },
    { tags: ['v*'] },
    { tags: [] },
    { repositories: ['builds/**'], actions: ['pull'], tags: ['v*'] },
  ])('with %j is refused', async (bounds) => {
    await expectError(
      await post({ name: 'bounded', kind: 'admin', ...bounds }),
      400,
      'REQUEST_INVALID',
    )
    expect((await listed()).map(({ name }) => name)).not.toContain('bounded')
  })
})

describe('an invalid credential', () => {
  const wrong = (more: Record<string, unknown>) => ({ ...RIGHT, name: 'wrong', ...more })

  it.each([
    ['no name', { repositories: ['a'], actions: ['pull'] }],
    ...['', 'Upper', '-a', 'a-', 'a b', 'a:b', 'a/b', 'a@b', 'ä', 'a\0', 'a'.repeat(65)].map(
      (name): [string, unknown] => [`the name ${JSON.stringify(name)}`, wrong({ name })],
    ),
    ['the administrator’s name', wrong({ name: 'admin' })],
    ['the operator’s name', wrong({ name: 'operator' })],
    ['the name of every token', wrong({ name: 'token' })],
    ['another kind', wrong({ kind: 'root' })],
    ['no repositories', wrong({ repositories: [] })],
    ['no actions', wrong({ actions: [] })],
    ['an unknown action', wrong({ actions: ['pull', 'fly'] })],
    ['the action of a scope', wrong({ actions: ['*'] })],
    ['the right of a list', wrong({ actions: ['list'] })],
    ['an empty pattern', wrong({ repositories: [''] })],
    ['a pattern of something else', wrong({ repositories: ['Builds/(a|b)'] })],
    ['no tag at all', wrong({ tags: [] })],
    ['a tag with a slash', wrong({ tags: ['a/*'] })],
    ['patterns that are no list', wrong({ repositories: 'builds/**' })],
    ['patterns that are no text', wrong({ repositories: [7] })],
    ['very many patterns', wrong({ repositories: Array(101).fill('a') })],
    ['very long patterns', wrong({ repositories: Array(20).fill('a'.repeat(250)) })],
    ['no network at all', wrong({ networks: [] })],
    ['a network that is none', wrong({ networks: ['10.0.0.0/8', 'everywhere'] })],
    ['an expiry in the past', wrong({ expiresAt: '2020-01-01T00:00:00Z' })],
    ['an expiry that is no time', wrong({ expiresAt: 'tomorrow' })],
    ['an expiry that is no date', wrong({ expiresAt: '2099-13-45T00:00:00Z' })],
    ['an expiry in seconds', wrong({ expiresAt: 4_070_908_800 })],
    ['a secret of one’s own', wrong({ secret: 'password' })],
    ['a list', []],
    ['null', 'null'],
    ['no JSON', '{'],
    ['nothing', ''],
  ])('is refused: %s', async (_what, body) => {
    await expectError(await post(body), 400, 'REQUEST_INVALID')
    expect((await listed()).map(({ name }) => name)).not.toContain('wrong')
  })

  it('is refused as a form, which any web page could send', async () => {
    await expectError(await post(wrong({}), 'text/plain'), 400, 'REQUEST_INVALID')
  })

  it('is refused when it is very long', async () => {
    const answer = await post(wrong({ padding: 'x'.repeat(70_000) }))
    await expectError(answer, 413, 'PAYLOAD_TOO_LARGE')
  })
})

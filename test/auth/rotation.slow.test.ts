import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { printed, printedJson } from '../cli/operator.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { basic, bearer, makeCredential, sql } from './credentials-client.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(async () => {
  await registry.close()
})

const makeBuilder = () =>
  makeCredential(registry, { repositories: ['builds/**'], actions: ['pull', 'push'] })

const rotate = (name: string, body: object = {}) =>
  registry.request(`/api/v1/credentials/${name}/rotate-secret`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })

async function newSecret(name: string, body: object = {}): Promise<string> {
  const answer = await rotate(name, body)
  expect(answer.status).toBe(200)
  expect(answer.headers.get('cache-control')).toBe('no-store')
  return ((await answer.json()) as { secret: string }).secret
}

const login = async (authorization: string) =>
  (await registry.anonymous('/v2/', { headers: { authorization } })).status

async function refreshToken(name: string, secret: string): Promise<string> {
  const headers = { authorization: basic(name, secret) }
  const answer = await registry.anonymous('/token?offline_token=true', { headers })
  return ((await answer.json()) as { refresh_token: string }).refresh_token
}

async function refresh(token: string): Promise<number> {
  const body = new URLSearchParams({ grant_type: 'refresh_token', refresh_token: token })
  return (await registry.anonymous('/token', { method: 'POST', body })).status
}

const endOverlap = (name: string) =>
  sql(
    registry,
    `with ended as (
       update credentials set previous_until = now() where name = $1 returning id
     )
     update refresh_tokens t
        set expires_at = least(t.expires_at, t.ends_at, now()), ends_at = now()
       from ended
      where t.credential_id = ended.id
        and t.ends_at is not null`,
    [name],
  )

describe('a credential that is rotated', () => {
  it('has a new secret, and the old one works until the overlap ends', async () => {
    const { name, secret } = await makeBuilder()
    const next = await newSecret(name)
    expect(next).not.toBe(secret)
    for (const one of [secret, next]) expect(await login(basic(name, one))).toBe(200)
    await endOverlap(name)
    // Another header than before: a process keeps what it verified for a minute.
    expect(await login(bearer(secret))).toBe(401)
    expect(await login(basic(name, next))).toBe(200)
  })

  it('keeps the refresh tokens of the old secret for the overlap, in spite of their use', async () => {
    const { name, secret } = await makeBuilder()
    const before = await refreshToken(name, secret)
    const next = await newSecret(name, { overlapSeconds: 3600 })
    const during = await refreshToken(name, secret)
    const after = await refreshToken(name, next)
    for (const token of [before, during, after]) expect(await refresh(token)).toBe(200)
    const ends = await sql<{ seconds: number }>(
      registry,
      `select extract(epoch from t.expires_at - now())::int as seconds
         from refresh_tokens t
         join credentials c on c.id = t.credential_id
        where c.name = $1
        order by t.id`,
      [name],
    )
    expect(ends.map(({ seconds }) => seconds > 3600)).toEqual([false, false, true])
    await endOverlap(name)
    expect([await refresh(before), await refresh(during), await refresh(after)]).toEqual([
      401, 401, 200,
    ])
  })

  it('with overlap 0 refuses every earlier secret and refresh token at once', async () => {
    const { name, secret } = await makeBuilder()
    const token = await refreshToken(name, secret)
    const second = await newSecret(name)
    // Both are cached.
    for (const one of [secret, second]) expect(await login(basic(name, one))).toBe(200)
    const third = await newSecret(name, { overlapSeconds: 0 })
    for (const one of [secret, second]) expect(await login(basic(name, one))).toBe(401)
    expect(await refresh(token)).toBe(401)
    expect(await login(basic(name, third))).toBe(200)
  })

  it('has one earlier secret at a time, which lists show', async () => {
    const { name } = await makeBuilder()
    await newSecret(name)
    const again = await rotate(name)
    expect(again.status).toBe(409)
    expect(await again.text()).toContain('wait, or end it now with overlapSeconds 0')
    const { credentials } = await printedJson(registry, 'credential', 'list')
    const listed = credentials.find((one: { name: string }) => one.name === name)
    const hours = (Date.parse(listed.previousSecretUntil) - Date.now()) / 3_600_000
    expect(hours).toBeGreaterThan(23)
    expect(hours).toBeLessThanOrEqual(24)
    expect(await printed(registry, 'credential', 'list')).toContain('valid, earlier password until')
    await newSecret(name, { overlapSeconds: 0 })
  })

  it('is recorded in the audit log, without its secret', async () => {
    const { name } = await makeBuilder()
    const secret = await newSecret(name, { overlapSeconds: 120 })
    const answer = await registry.request('/api/v1/audit?action=rotate-credential')
    const text = await answer.text()
    expect(text).toContain(`${name}, the earlier secret ends after 120 s`)
    expect(text).not.toContain(secret)
  })

  it('is not rotated after it ended, and for no overlap beyond the limit', async () => {
    const { name } = await makeBuilder()
    for (const overlapSeconds of [-1, 1, 59, 30 * 86_400 + 1]) {
      expect((await rotate(name, { overlapSeconds })).status).toBe(400)
    }
    await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
    const refused = await rotate(name)
    expect(refused.status).toBe(409)
    expect(await refused.text()).toContain(`${name} is revoked: create another credential`)
    expect((await rotate('absent')).status).toBe(404)
  })
})

describe('rookery credential rotate', () => {
  it('prints the new login and the end of the old one', async () => {
    const { name, secret } = await makeBuilder()
    const text = await printed(registry, 'credential', 'rotate', name, '--overlap', '2h')
    expect(text).toMatch(/\n {2}password {2}rky_\S+\n/)
    expect(text).toContain('The old password works until ')
    expect(await login(basic(name, secret))).toBe(200)
    const ended = await printedJson(registry, 'credential', 'rotate', name, '--now')
    expect(ended).toMatchObject({ name, previousSecretUntil: null })
    expect(await login(basic(name, ended.secret))).toBe(200)
    await expect.poll(() => login(basic(name, secret)), { timeout: 20_000 }).toBe(401)
  })
})

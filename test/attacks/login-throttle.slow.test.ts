import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generateSecret } from '../../src/auth/secrets.ts'
import { basic, bearer, makeCredential, requestToken, sql } from '../auth/credentials-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let builder: { name: string; secret: string }

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_TRUSTED_PROXIES: '127.0.0.1' })
  builder = await makeCredential(registry, {
    repositories: ['builds/**'],
    actions: ['pull', 'push'],
  })
})
afterAll(() => registry.close())

let addresses = 0
const newAddress = () => {
  addresses += 1
  return `198.51.100.${addresses}`
}

/** Returns the status of a login at `/v2/` from this address. */
const login = async (from: string, authorization: string) => {
  const headers = { authorization, 'x-forwarded-for': from }
  return (await registry.anonymous('/v2/', { headers })).status
}

const postToken = (from: string, fields: Record<string, string>) =>
  registry.anonymous('/token', {
    method: 'POST',
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      'x-forwarded-for': from,
    },
    body: new URLSearchParams(fields).toString(),
  })

/** Fails until the address gets 429 for this user name. */
async function guess(from: string, user: string): Promise<void> {
  for (let attempt = 0; attempt < 30; attempt += 1) {
    if ((await login(from, basic(user, `bad${attempt}`))) === 429) return
  }
  throw new Error('the guesser was never throttled')
}

const newToken = () =>
  requestToken(registry, basic(builder.name, builder.secret), 'repository:builds/a:push')

describe('somebody who guesses passwords, behind the address of others', () => {
  it('is throttled, and the others log in with tokens, secrets and passwords', async () => {
    const from = newAddress()
    await guess(from, 'x')
    // Another user name also has a limit together: 200 failures of an address.
    expect(await login(from, bearer(await newToken()))).toBe(200)
    expect(await login(from, basic('any', await newToken()))).toBe(200)
    const fresh = await makeCredential(registry, { repositories: ['a'], actions: ['pull'] })
    expect(await login(from, basic(fresh.name, fresh.secret))).toBe(200)
    expect(await login(from, bearer(fresh.secret))).toBe(200)
    expect(await login(from, basic('admin', registry.password))).toBe(200)
  })

  it('and with the name of a builder, does not lock that builder out', async () => {
    const from = newAddress()
    const victim = await makeCredential(registry, { repositories: ['a'], actions: ['pull'] })
    await guess(from, victim.name)
    expect(await login(from, basic(victim.name, victim.secret))).toBe(200)
    const fields = { grant_type: 'password', username: victim.name, password: victim.secret }
    expect((await postToken(from, fields)).status).toBe(200)
  })

  it('and changes the user name each time, is throttled, and nobody else is', async () => {
    const from = newAddress()
    let throttled = 0
    for (let attempt = 0; attempt < 300; attempt += 1) {
      if ((await login(from, basic(`u${attempt}`, 'wrong'))) === 429) throttled += 1
    }
    expect(throttled).toBeGreaterThan(0)
    expect(await login(from, basic(builder.name, builder.secret))).toBe(200)
    const fresh = await makeCredential(registry, { repositories: ['a'], actions: ['pull'] })
    expect(await login(from, basic(fresh.name, fresh.secret))).toBe(200)
  })

  it('does not learn that the password of admin is right, not even with many guesses at once', async () => {
    const attacked = await startRegistry()
    try {
      const send = (password: string) =>
        attacked.anonymous('/v2/', { headers: { authorization: basic('admin', password) } })
      const statuses = (
        await Promise.all(Array.from({ length: 60 }, () => send(`bad${randomUUID()}`)))
      ).map(({ status }) => status)
      expect(statuses.filter((status) => status === 401).length).toBeLessThan(30)
      const throttled = await send(attacked.password)
      expect(throttled.status).toBe(429)
      const seconds = Number(throttled.headers.get('retry-after'))
      expect(seconds).toBeGreaterThan(0)
      await new Promise((done) => setTimeout(done, seconds * 1000 + 50))
      expect((await send(attacked.password)).status).toBe(200)
    } finally {
      await attacked.close()
    }
  })
})

describe('a client with an old login', () => {
  it('that repeats one wrong password in a loop is refused, and is no guesser', async () => {
    const from = newAddress()
    for (let time = 0; time < 60; time += 1) {
      expect(await login(from, basic('admin', 'an old password'))).toBe(401)
    }
    expect(await login(from, basic('admin', registry.password))).toBe(200)
  })

  it('with a revoked or expired secret gets 401 for ever, and never 429', async () => {
    const from = newAddress()
    const revoked = await makeCredential(registry, { repositories: ['a'], actions: ['pull'] })
    const expired = await makeCredential(registry, { repositories: ['a'], actions: ['pull'] })
    const path = `/api/v1/credentials/${revoked.name}`
    expect((await registry.request(path, { method: 'DELETE' })).status).toBeLessThan(300)
    await sql(registry, `update credentials set expires_at = now() where name = $1`, [expired.name])
    for (let time = 0; time < 30; time += 1) {
      expect(await login(from, basic(revoked.name, revoked.secret))).toBe(401)
      expect(await login(from, basic(expired.name, expired.secret))).toBe(401)
    }
    expect(await login(from, basic('admin', 'wrong'))).toBe(401)
  })

  it('as docker push sends it, ten times to POST /token, locks nobody out', async () => {
    const from = newAddress()
    const query = 'service=rookery&offline_token=true&scope=repository:builds/a:push'
    const renewals: string[] = []
    const logins: string[] = []
    for (let made = 0; made < 30; made += 1) {
      const { name, secret } = await makeCredential(registry, {
        repositories: ['builds/a'],
        actions: ['pull', 'push'],
      })
      const headers = { authorization: basic(name, secret) }
      const answer = await registry.anonymous(`/token?${query}`, { headers })
      renewals.push(((await answer.json()) as { refresh_token: string }).refresh_token)
      logins.push(name)
    }
    await sql(registry, `update refresh_tokens set expires_at = now() - interval '1 hour'`)
    for (const name of logins.slice(0, 5)) {
      await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
    }
    for (const token of [...renewals, ...renewals]) {
      const fields = { grant_type: 'refresh_token', refresh_token: token }
      expect((await postToken(from, fields)).status).toBe(401)
    }
    const unknown = generateSecret('refresh')
    for (let time = 0; time < 40; time += 1) {
      const fields = { grant_type: 'refresh_token', refresh_token: unknown }
      expect((await postToken(from, fields)).status).toBe(401)
    }
    expect(await login(from, basic(builder.name, builder.secret))).toBe(200)
    expect(await login(from, basic('admin', registry.password))).toBe(200)
  })

  it('of wrong, forged or foreign tokens is refused each time, and never throttled', async () => {
    const from = newAddress()
    const [header, payload] = (await newToken()).split('.')
    for (let time = 0; time < 40; time += 1) {
      const forged = `${header}.${payload}.${Buffer.from(randomUUID()).toString('base64url')}`
      expect(await login(from, bearer(forged))).toBe(401)
      const subject = { subject_token: forged, subject_token_type: IDENTITY }
      expect((await postToken(from, { grant_type: EXCHANGE, ...subject })).status).toBe(401)
    }
    expect(await login(from, bearer(await newToken()))).toBe(200)
  })
})

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const IDENTITY = 'urn:ietf:params:oauth:token-type:id_token'

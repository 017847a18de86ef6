import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { claimsOf } from '../auth/credentials-client.ts'
import {
  assertionOf,
  enrolHost,
  issuerOf,
  JWT_BEARER,
  makeCode,
  makeHostKey,
  postForm,
} from '../support/hosts.ts'
import { expectError, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let audience: string

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_DEFAULT_VISIBILITY: 'private' })
  audience = await issuerOf(registry)
})

afterAll(() => registry.close())

const json = (body: object) => ({
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
})

describe('a code', () => {
  it('comes with the command for the host', async () => {
    const made = await registry.request(
      '/api/v1/enrolments',
      json({ name: 'web-0', repositories: ['builds/*'], labels: { site: 'a' } }),
    )
    expect(made.status).toBe(201)
    expect(made.headers.get('cache-control')).toBe('no-store')
    const { code, command, expiresAt, ...rest } = (await made.json()) as Record<string, string>
    expect(rest).toEqual({
      name: 'web-0',
      repositories: ['builds/*'],
      networks: null,
      labels: { site: 'a' },
    })
    expect(code).toMatch(/^rke_/)
    expect(command).toBe(`rookery-agent enrol ${registry.url} ${code} --name web-0`)
    const minutes = (Date.parse(String(expiresAt)) - Date.now()) / 60_000
    expect(minutes).toBeGreaterThan(59)
    expect(minutes).toBeLessThan(61)
  })
})

describe('a host', () => {
  it.each(['EdDSA', 'ES256'] as const)(
    'enrols with a key for %s, and gets a token',
    async (alg) => {
      const name = `with-${alg.toLowerCase()}`
      const key = makeHostKey(alg)
      const code = await makeCode(registry, { name, repositories: ['builds/*'] })
      const enrolled = await postForm(registry, '/api/v1/hosts/enrol', {
        code,
        name,
        jwk: JSON.stringify(key.jwk),
        proof: assertionOf(key, audience),
      })
      expect(enrolled.status).toBe(201)
      expect(await enrolled.json()).toEqual({
        host: name,
        state: 'active',
        fingerprint: key.thumbprint,
      })
      const answer = await postForm(registry, '/token', {
        grant_type: JWT_BEARER,
        assertion: assertionOf(key, audience),
      })
      expect(answer.status).toBe(200)
      const token = (await answer.json()) as Record<string, unknown>
      expect(token).toMatchObject({ token_type: 'Bearer', expires_in: 900 })
      expect(token.scope).toBe(`host:${name}:report repository:builds/*:pull`)
      const { origin, sub, access } = claimsOf(String(token.access_token))
      expect(origin).toMatch(/^host:\d+$/)
      expect(sub).toBe(`host:${name}`)
      expect(access).toEqual([
        { type: 'host', name, actions: ['report'], grantVersion: 1 },
        { type: 'repository', name: 'builds/*', actions: ['pull'] },
      ])
    },
  )

  it('enrols with JSON, and without the name that its code has', async () => {
    const key = makeHostKey()
    const code = await makeCode(registry, { name: 'by-json' })
    const body = { code, jwk: key.jwk, proof: assertionOf(key, audience) }
    const enrolled = await registry.anonymous('/api/v1/hosts/enrol', json(body))
    expect(enrolled.status).toBe(201)
    expect(await enrolled.json()).toMatchObject({ host: 'by-json' })
  })

  it('that got no answer sends its request again', async () => {
    const key = makeHostKey()
    const code = await makeCode(registry, { name: 'again' })
    const fields = { code, jwk: JSON.stringify(key.jwk), proof: assertionOf(key, audience) }
    for (let times = 0; times < 3; times += 1) {
      const enrolled = await postForm(registry, '/api/v1/hosts/enrol', fields)
      expect(enrolled.status).toBe(201)
    }
  })

  it('pulls its repositories, and neither others nor pushes', async () => {
    await pushImage(registry, 'builds/www', 'live')
    await pushImage(registry, 'other/www', 'live')
    const host = await enrolHost(registry, { repositories: ['builds/*'] })
    const head = (path: string) => host.request(path, { method: 'HEAD' })
    expect((await head('/v2/builds/www/manifests/live')).status).toBe(200)
    expect((await head('/v2/other/www/manifests/live')).status).toBe(401)
    const start = (name: string) => host.request(`/v2/${name}/blobs/uploads/`, { method: 'POST' })
    expect((await start('builds/www')).status).toBe(401)
    const remove = await host.request('/v2/builds/www/manifests/live', { method: 'DELETE' })
    expect(remove.status).toBe(401)
  })

  it('gets a token for one pull, which cannot report', async () => {
    const host = await enrolHost(registry, { repositories: ['builds/*'] })
    const answer = await postForm(registry, '/token', {
      grant_type: JWT_BEARER,
      assertion: assertionOf(host.key, audience),
      scope: 'repository:builds/www:pull,push',
    })
    const { access_token: token, scope } = (await answer.json()) as Record<string, string>
    expect(scope).toBe('repository:builds/www:pull')
    const headers = { authorization: `Bearer ${token}` }
    const pull = await registry.anonymous('/v2/builds/www/manifests/live', { headers })
    expect(pull.status).toBe(200)
    const report = await registry.anonymous(`/api/v1/hosts/${host.name}/keys`, {
      ...json({}),
      headers: { ...headers, 'content-type': 'application/json' },
    })
    await expectError(report, 403, 'DENIED')
  })
})

describe('the rotation of a key', () => {
  const rotate = (host: Awaited<ReturnType<typeof enrolHost>>, key = makeHostKey()) =>
    host.request(`/api/v1/hosts/${host.name}/keys`, {
      method: 'POST',
      body: new URLSearchParams({
        jwk: JSON.stringify(key.jwk),
        proof: assertionOf(key, audience),
        assertion: assertionOf(host.key, audience),
      }),
    })

  it('gives the host another key; the earlier one is accepted for ten minutes', async () => {
    const host = await enrolHost(registry)
    const next = makeHostKey('ES256')
    const rotated = await rotate(host, next)
    expect(rotated.status).toBe(200)
    expect(await rotated.json()).toEqual({
      host: host.name,
      fingerprint: next.thumbprint,
      overlapSeconds: 600,
    })
    for (const key of [next, host.key]) {
      const answer = await postForm(registry, '/token', {
        grant_type: JWT_BEARER,
        assertion: assertionOf(key, audience),
      })
      expect(answer.status).toBe(200)
    }
    expect((await rotate(host, next)).status).toBe(200)
  })

  it('needs an assertion of the present key: a token alone changes no key', async () => {
    const host = await enrolHost(registry)
    const key = makeHostKey()
    const fields = { jwk: JSON.stringify(key.jwk), proof: assertionOf(key, audience) }
    const send = (assertion: string) =>
      host.request(`/api/v1/hosts/${host.name}/keys`, {
        method: 'POST',
        body: new URLSearchParams({ ...fields, assertion }),
      })
    await expectError(await send(assertionOf(key, audience)), 400, 'REQUEST_INVALID')
    const other = await enrolHost(registry)
    await expectError(await send(assertionOf(other.key, audience)), 401, 'UNAUTHORIZED')
    await expectError(await rotate(host, other.key), 409, 'CONFLICT')
  })
})

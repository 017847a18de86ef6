import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expectError, newRepository, pushImage, putManifest } from '../support/push.ts'
import { basic, RawClient } from '../support/raw-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pathOfRoute, ROUTES } from './route-paths.ts'

const FORM = 'text/plain'
const OTHER_SITE: readonly Record<string, string>[] = [
  { 'Sec-Fetch-Site': 'cross-site' },
  { 'Sec-Fetch-Site': 'same-site' },
  { 'Sec-Fetch-Site': 'unheard-of' },
  { Origin: 'https://evil.example' },
  { Origin: 'null' },
  { Origin: 'http://127.0.0.1:1' },
  { Origin: 'http://127.0.0.1' },
  { 'Sec-Fetch-Site': 'none', Origin: 'https://evil.example' },
  { 'Sec-Fetch-Site': 'same-origin', Origin: 'null' },
]

let registry: TestRegistry
let client: RawClient
let authorization: string

beforeAll(async () => {
  registry = await startRegistry()
  client = new RawClient(registry.url)
  authorization = basic(registry.password)
})

afterAll(async () => {
  client?.close()
  await registry?.close()
})

const writes = ROUTES.filter(({ method }) => method !== 'GET' && method !== 'HEAD')

describe('a request that a page of another site makes a browser send', () => {
  it.each(writes.map(({ method, path }) => [method, path] as const))(
    'is refused before anything else: %s %s',
    async (method, path) => {
      const target = pathOfRoute(path, 'a/b')
      const { host } = new URL(registry.url)
      for (const sent of OTHER_SITE) {
        // The login is right, and the body is never read: it is announced, and does not come.
        const headers = {
          Host: host,
          Authorization: authorization,
          'Content-Type': FORM,
          'Content-Length': '1000',
          ...sent,
        }
        const answer = await client.request({ method, target, headers })
        expect(answer.status, JSON.stringify(sent)).toBe(403)
        expect(answer.body.toString()).toMatch(/another site/)
        expect(answer.headers.has('www-authenticate')).toBe(false)
      }
    },
  )

  it('gets no token with a remembered login', async () => {
    for (const sent of OTHER_SITE) {
      const headers = { Host: new URL(registry.url).host, Authorization: authorization, ...sent }
      const target = '/token?offline_token=true&service=x'
      const answer = await client.request({ method: 'GET', target, headers })
      expect(answer.status).toBe(403)
      expect(answer.body.toString()).not.toMatch(/eyJ|rk[a-z]_/)
    }
  })

  it('moves no tag, is no login attempt and leaves no entry in the audit log', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'live')
    const { digest } = await pushImage(registry, repository, 'live')
    const headers = { Host: new URL(registry.url).host, 'Sec-Fetch-Site': 'cross-site' }
    const target = `/api/v1/repositories/${repository}/tags/live/rollback`
    const rollback = {
      method: 'POST',
      target,
      headers: { ...headers, Authorization: authorization },
    }
    expect((await client.request(rollback)).status).toBe(403)
    const live = await registry.anonymous(`/v2/${repository}/manifests/live`)
    expect(live.headers.get('docker-content-digest')).toBe(digest)
    for (let attempt = 0; attempt < 30; attempt += 1) {
      const wrong = { ...headers, Authorization: basic('wrong') }
      expect((await client.request({ method: 'POST', target, headers: wrong })).status).toBe(403)
    }
    expect((await registry.request('/api/v1/audit')).status).toBe(200)
    const audit = await (await registry.request('/api/v1/audit?action=authenticate')).json()
    expect(audit).toEqual({ entries: [] })
  })
})

describe('a request of a page of the registry', () => {
  it('may write, and names the registry by the Host that the browser used', async () => {
    for (const [host, origin] of [
      [new URL(registry.url).host, registry.url],
      ['registry.example', 'https://registry.example'],
      ['registry.example:5000', 'http://registry.example:5000'],
    ] as const) {
      const target = `/v2/${newRepository()}/blobs/uploads/`
      const headers = { Host: host, Origin: origin, 'Sec-Fetch-Site': 'same-origin' }
      const right = { ...headers, Authorization: authorization }
      const answer = await client.request({ method: 'POST', target, headers: right })
      expect(answer.status, origin).toBe(202)
    }
  })

  it('behind a proxy that changes Host, by the public URL', async () => {
    const proxied = await startRegistry({ ROOKERY_PUBLIC_URL: 'https://registry.example.org' })
    try {
      const post = (origin: string) =>
        proxied.request('/v2/a/b/blobs/uploads/', { method: 'POST', headers: { origin } })
      expect((await post('https://registry.example.org')).status).toBe(202)
      await expectError(await post('http://registry.example.org'), 403, 'DENIED')
      await expectError(await post('https://registry.example.org.evil.example'), 403, 'DENIED')
    } finally {
      await proxied.close()
    }
  })

  it('clients that are no browsers send neither header, and are not affected', async () => {
    const repository = newRepository()
    const image = await pushImage(registry, repository, 'v1')
    const again = await putManifest(registry, repository, 'v2', image.body)
    expect(again.status).toBe(201)
  })

  it('reading is not affected by the page that a link is on', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'v1')
    const headers = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }
    const answer = await registry.anonymous(`/v2/${repository}/manifests/v1`, { headers })
    expect(answer.status).toBe(200)
  })
})

const BROWSERS: readonly Record<string, string>[] = [
  { 'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-Site': 'none', 'Sec-Fetch-Dest': 'document' },
  { 'Sec-Fetch-Mode': 'no-cors', 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Dest': 'image' },
  { 'User-Agent': 'Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0' },
  { Accept: 'text/html,application/xhtml+xml' },
]

describe('a browser is never asked for a password, so that it has none to remember', () => {
  it('on every route', async () => {
    for (const { method, path } of ROUTES) {
      for (const headers of BROWSERS) {
        const target = pathOfRoute(path, 'a/b')
        const answer = await client.request({ method, target, headers })
        const challenge = answer.headers.get('www-authenticate') ?? ''
        expect(challenge, `${method} ${target}`).not.toMatch(/basic/i)
      }
    }
  })

  it('while curl and others that wait for the challenge get it', async () => {
    const answer = await client.request({ method: 'GET', target: '/api/v1/credentials' })
    expect(answer.status).toBe(401)
    expect(answer.headers.get('www-authenticate')).toMatch(/^Basic /)
  })
})

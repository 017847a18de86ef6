import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { responseHeaders } from '../../src/http/response-headers.ts'
import { digestOf } from '../support/digest.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import { expectError, newRepository, pushBlob, pushImage } from '../support/push.ts'
import { basic, type RawAnswer, RawClient, RawConnection } from '../support/raw-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pathOfRoute, ROUTES } from './route-paths.ts'

let registry: TestRegistry
let client: RawClient

beforeAll(async () => {
  registry = await startRegistry()
  client = new RawClient(registry.url)
})

afterAll(async () => {
  client?.close()
  await registry?.close()
})

/** Asserts that a browser neither runs nor renders the response, of any bytes. */
function expectInert({ headers }: Pick<RawAnswer, 'headers'>, what: string): void {
  expect(headers.get('x-content-type-options'), what).toBe('nosniff')
  const policy = headers.get('content-security-policy') ?? ''
  const directives = policy.split('; ')
  expect(directives, what).toContain('sandbox')
  expect(directives, what).toContain("default-src 'none'")
  expect(directives, what).toContain("frame-ancestors 'none'")
  expect(headers.get('referrer-policy'), what).toBe('no-referrer')
  expect(headers.get('cross-origin-resource-policy'), what).toBe('same-origin')
}

/** Asserts that a page loads nothing of another server, runs nothing but the script of the registry, and is in no frame. */
function expectPage({ headers, status }: Pick<RawAnswer, 'headers' | 'status'>, what: string) {
  // The answer that sends a reader to the form for the login has no content.
  if (status === 303) return
  expect(headers.get('x-content-type-options'), what).toBe('nosniff')
  const policy = headers.get('content-security-policy') ?? ''
  expect(policy.split('; ').sort(), what).toEqual([
    "base-uri 'none'",
    "connect-src 'self'",
    "default-src 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "img-src 'self' data:",
    "script-src 'self'",
    "style-src 'self'",
  ])
  // Without any referrer, a browser sends the forms of a page with the origin `null`.
  expect(headers.get('referrer-policy'), what).toBe('same-origin')
  expect(headers.get('cross-origin-resource-policy'), what).toBe('same-origin')
}

describe('every answer is inert in a browser', () => {
  it.each(['administrator', 'nobody'])('on every route, for %s', async (who) => {
    const authorization = who === 'nobody' ? {} : { Authorization: basic(registry.password) }
    for (const { method, path, page } of ROUTES) {
      const target = pathOfRoute(path, 'a/b')
      const answer = await client.request({ method, target, headers: authorization })
      const assertSafe = page ? expectPage : expectInert
      assertSafe(answer, `${method} ${target}`)
    }
  })

  it('without a route, with a wrong method, and for OPTIONS', async () => {
    for (const [method, target] of [
      ['GET', '/elsewhere'],
      ['GET', '/v2/%zz/manifests/x'],
      ['GET', 'http://[/'],
      ['DELETE', '/v2/'],
      ['OPTIONS', '/api/v1/credentials'],
    ] as const) {
      expectInert(await client.request({ method, target }), `${method} ${target}`)
    }
  })

  it('for content, 304, 206, 416 and an event stream', async () => {
    const repository = newRepository()
    const { digest } = await pushImage(registry, repository, 'v1')
    const blob = await pushBlob(registry, repository)
    const at = `/v2/${repository}`
    for (const method of ['GET', 'HEAD']) {
      for (const [target, headers, status] of [
        [`${at}/manifests/v1`, {}, 200],
        [`${at}/manifests/v1`, { 'If-None-Match': `"${digest}"` }, 304],
        [`${at}/blobs/${blob.digest}`, {}, 200],
        [`${at}/blobs/${blob.digest}`, { 'If-None-Match': `"${blob.digest}"` }, 304],
        ...(method === 'HEAD'
          ? []
          : ([
              [`${at}/blobs/${blob.digest}`, { Range: 'bytes=0-1' }, 206],
              [`${at}/blobs/${blob.digest}`, { Range: 'bytes=999999-' }, 416],
            ] as const)),
        ['/metrics', { Authorization: basic(registry.password) }, 200],
        ['/.well-known/jwks.json', {}, 200],
      ] as const) {
        const answer = await client.request({ method, target, headers })
        expect(answer.status, target).toBe(status)
        expectInert(answer, `${method} ${target} ${status}`)
      }
    }
    const stream = await fetch(`${registry.url}/api/v1/events`, {
      headers: { accept: 'text/event-stream' },
    })
    expectInert({ headers: new Map(stream.headers) }, 'event stream')
    await stream.body?.cancel()
  })

  it('also when the request is not HTTP, and no route sees it', async () => {
    for (const bytes of [
      'NONSENSE\r\n\r\n',
      `GET / HTTP/1.1\r\nX: ${'x'.repeat(70_000)}\r\n\r\n`,
    ]) {
      const connection = await RawConnection.open(registry.url)
      await connection.send(bytes)
      const answer = await connection.answer()
      expect([400, 431]).toContain(answer.status)
      expectInert(answer, bytes.slice(0, 40))
      connection.close()
    }
  })

  it('a browser stays on HTTPS when the registry has the whole host', () => {
    const sent = (publicUrl: string | undefined) =>
      'Strict-Transport-Security' in responseHeaders(publicUrl)
    expect(sent('https://registry.example.org')).toBe(true)
    expect(sent('https://registry.example.org:5443')).toBe(false)
    expect(sent('http://registry.example.org')).toBe(false)
    expect(sent(undefined)).toBe(false)
  })
})

const SCRIPT = '<script>alert(1)</script>'
const ACTIVE = [
  ...['text/html', 'TEXT/HTML', 'text/html; charset=utf-8', 'text/plain', 'text/css', 'text/xml'],
  ...['text/javascript', 'text/cache-manifest', 'text/x-component', 'text/event-stream'],
  ...['image/svg+xml', 'image/png', 'video/mp4', 'audio/mpeg', 'font/woff2', 'model/vrml'],
  ...['multipart/x-mixed-replace', 'message/rfc822', 'chemical/x-pdb', 'x-any/x-thing', 'a/b'],
  ...['application/xhtml+xml', 'Application/XHTML+XML', 'application/xml', 'application/rss+xml'],
  ...['application/vnd.wap.xhtml+xml', 'application/vnd.mozilla.xul+xml', 'application/xslt+xml'],
  ...['application/javascript', 'application/ecmascript', 'application/x-javascript'],
  ...[
    'application/pdf',
    'application/wasm',
    'application/x-shockwave-flash',
    'application/signed-exchange',
  ],
  ...['application/x-xpinstall', 'application/x-chrome-extension', 'application/java-archive'],
]

describe('a manifest', () => {
  const put = (repository: string, contentType: string | undefined, body: string) =>
    registry.request(`/v2/${repository}/manifests/edge`, {
      method: 'PUT',
      headers: contentType === undefined ? {} : { 'content-type': contentType },
      body: new Uint8Array(Buffer.from(body)),
    })

  it.each(ACTIVE)('of the type %s is refused, in the header and in the manifest', async (type) => {
    const repository = newRepository()
    await expectError(await put(repository, type, SCRIPT), 400, 'MANIFEST_INVALID')
    const inside = JSON.stringify({ mediaType: type.split(';')[0], x: SCRIPT })
    await expectError(await put(repository, undefined, inside), 400, 'MANIFEST_INVALID')
    const answer = await registry.request(`/v2/${repository}/manifests/edge`)
    await expectError(answer, 404, 'NAME_UNKNOWN')
  })

  it.each([
    ['application/vnd.example.thing.v1+json', null],
    ['application/example+json', null],
    ['application/json', null],
    ['application/vnd.example.thing', 'attachment'],
    ['application/vnd.example.thing+jws', 'attachment'],
    ['application/octet-stream', 'attachment'],
  ])('of the unknown type %s is stored, and served as data', async (type, disposition) => {
    const repository = newRepository()
    expect((await put(repository, type, SCRIPT)).status).toBe(201)
    for (const accept of ['*/*', 'text/html', 'image/svg+xml;q=1, text/html']) {
      const headers = { accept }
      const answer = await registry.anonymous(`/v2/${repository}/manifests/edge`, { headers })
      expect(answer.headers.get('content-type')).toBe(type)
      expect(answer.headers.get('content-disposition')).toBe(disposition)
      expect(await answer.text()).toBe(SCRIPT)
    }
  })

  it('that an earlier release stored as a page is served as a file', async () => {
    const repository = newRepository()
    const type = 'application/vnd.example.page'
    expect((await put(repository, type, SCRIPT)).status).toBe(201)
    const db = new pg.Client(registry.databaseUrl)
    await db.connect()
    const update = 'update manifests set media_type = $1 where media_type = $2'
    const { rowCount } = await db.query(update, ['text/html', type])
    await db.end()
    expect(rowCount).toBe(1)
    for (const method of ['GET', 'HEAD']) {
      const answer = await registry.anonymous(`/v2/${repository}/manifests/edge`, { method })
      expect(answer.headers.get('content-type')).toBe('application/octet-stream')
      expect(answer.headers.get('content-disposition')).toBe('attachment')
    }
  })
})

describe('other bytes that a tenant stores', () => {
  it('a blob is a file to save, under any type of its layer, its upload and Accept', async () => {
    const repository = newRepository()
    const digest = digestOf(SCRIPT)
    const pushed = await registry.request(`/v2/${repository}/blobs/uploads/?digest=${digest}`, {
      method: 'POST',
      headers: { 'content-type': 'text/html' },
      body: SCRIPT,
    })
    expect(pushed.status).toBe(201)
    const empty = await pushBlob(registry, repository, Buffer.from('{}'))
    const layers = [{ mediaType: 'text/html', digest, size: SCRIPT.length }]
    const config = { mediaType: 'text/html', digest: empty.digest, size: empty.size }
    const image = { schemaVersion: 2, mediaType: IMAGE_MANIFEST, config, layers }
    const manifest = await registry.request(`/v2/${repository}/manifests/v1`, {
      method: 'PUT',
      headers: { 'content-type': IMAGE_MANIFEST },
      body: JSON.stringify(image),
    })
    expect(manifest.status).toBe(201)
    for (const method of ['GET', 'HEAD']) {
      const answer = await registry.anonymous(`/v2/${repository}/blobs/${digest}`, {
        method,
        headers: { accept: 'text/html' },
      })
      expect(answer.headers.get('content-type')).toBe('application/octet-stream')
      expect(answer.headers.get('content-disposition')).toBe('attachment')
    }
  })

  it('a name in a path is repeated in JSON only', async () => {
    for (const path of [
      `/v2/${encodeURIComponent(SCRIPT)}/tags/list`,
      `/api/v1/kernels/${encodeURIComponent(SCRIPT)}`,
      `/api/v1/packages/opam/${encodeURIComponent(SCRIPT)}`,
      `/token?scope=${encodeURIComponent(SCRIPT)}`,
    ]) {
      const answer = await registry.anonymous(path)
      expect(answer.headers.get('content-type'), path).toMatch(/^application\/json/)
    }
  })
})

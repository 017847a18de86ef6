import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BUILDER_WEB_ROUTES, pathOfRoute, ROUTES } from '../attacks/route-paths.ts'
import { fixture } from '../images/image-fixtures.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_BUILDER_WEB: 'on' })
})
afterAll(() => registry.close())

const isOwn = ({ path }: { path: string }) => /^\/(api\/v1|upload)\//.test(path)
const OWN = [...ROUTES.filter(isOwn), ...BUILDER_WEB_ROUTES].map(
  (route) => [`${route.method} ${route.path}`, route] as const,
)
const OTHERS = ROUTES.filter((route) => !isOwn(route))

async function refusal(method: string, path: string) {
  const answer = await registry.request(path, { method })
  const text = await answer.text()
  const { code, message = '' } = text === '' ? {} : JSON.parse(text).errors[0]
  return { status: answer.status, code, message: String(message) }
}

describe('a query parameter that a route does not know', () => {
  it.each(OWN)('is refused, and the message has the right ones: %s', async (_name, route) => {
    const path = pathOfRoute(route.path, 'a/b')
    const names = typeof route.query === 'object' ? Object.keys(route.query) : []
    for (const query of ['surprise=1', '=1', 'surprise', '%00=1', '__proto__=1', 'toString=1']) {
      const found = await refusal(route.method, `${path}?${query}`)
      expect(found.status, query).toBe(400)
      if (route.method === 'HEAD') continue
      expect(found.code).toBe('QUERY_INVALID')
      expect(found.message).toMatch(/^unknown parameter "/)
      for (const name of names) expect(found.message).toContain(name)
    }
  })

  it.each(OWN)('is refused beside known ones, in other case and twice: %s', async (_n, route) => {
    const path = pathOfRoute(route.path, 'a/b')
    for (const [name, often] of Object.entries(route.query ?? {})) {
      const upper = name.toUpperCase()
      expect((await refusal(route.method, `${path}?${upper}=1`)).status, upper).toBe(400)
      expect((await refusal(route.method, `${path}?${name}=1&${name}s=1`)).status).toBe(400)
      // An administrator is no host, and values are read after the access.
      const status = route.access === 'host' ? 403 : 400
      expect((await refusal(route.method, `${path}?${name}=a%00`)).status).toBe(status)
      if (often === 'many') continue
      expect((await refusal(route.method, `${path}?${name}=1&${name}=1`)).status).toBe(400)
    }
  })

  it('is ignored where clients of another protocol send their own', () => {
    expect(OTHERS.length).toBeGreaterThan(20)
    expect(OTHERS.filter(({ query }) => query !== 'any')).toEqual([])
  })

  it.each([
    '/v2/?account=ci&service=x',
    '/v2/_catalog?n=5&surprise=1',
    '/token?service=x&account=ci&client_id=docker&offline_token=true&surprise=1',
    '/healthz?surprise=1',
    '/metrics?name[]=x',
  ])('%s is answered', async (path) => {
    expect((await registry.request(path)).status).toBe(200)
  })

  it('is not repeated with hidden characters, controls or in full length', async () => {
    const names = ['\u202etag', 'a\nb', '\u001b[2J', 'x'.repeat(5000), '\u0085', '😀'.repeat(30)]
    for (const name of names) {
      const { message } = await refusal('GET', `/api/v1/audit?${encodeURIComponent(name)}=1`)
      expect(message).toMatch(/^[\x20-\x7e😀]+$/u)
      expect(message.length).toBeLessThan(300)
    }
  })

  it.each([
    ['tags=live', 'unknown parameter "tags", did you mean tag? this accepts tag'],
    ['Tag=live', 'unknown parameter "Tag", did you mean tag? this accepts tag'],
    ['%74ags=live', 'unknown parameter "tags", did you mean tag? this accepts tag'],
    ['repository=x', 'unknown parameter "repository"; this accepts tag'],
  ])('names the nearest: images?%s', async (query, message) => {
    const found = await refusal('POST', `/api/v1/repositories/a/b/images?${query}`)
    expect(found.message).toBe(message)
  })

  it('stops a push before it stores anything', async () => {
    const repository = newRepository()
    const path = `/api/v1/repositories/${repository}/images`
    const form = new FormData()
    form.append('kernel', new Blob([new Uint8Array(fixture('elf/mini-net.hvt'))]), 'mini-net.hvt')
    const post = (query: string) =>
      registry.request(`${path}?${query}`, { method: 'POST', body: form })
    expect((await post('tags=live')).status).toBe(400)
    expect((await registry.request(path)).status).toBe(404)
    expect((await post('%74ag=live')).status).toBe(201)
    expect((await registry.request(`${path}/live/kernel?targt=spt`)).status).toBe(400)
  })

  it('is not repeated when it is a secret', async () => {
    const secret = `rku_${'a'.repeat(43)}`
    const { message } = await refusal('PUT', `/upload/${secret}?${secret}`)
    expect(message).toBe('unknown parameter "…"; this takes no parameters')
  })

  it('does not use up an upload URL', async () => {
    const path = `/api/v1/repositories/${newRepository()}/tags/v1/upload-urls`
    const created = await registry.request(path, { method: 'POST' })
    const { url } = (await created.json()) as { url: string }
    const put = (query: string) =>
      registry.anonymous(`${url}${query}`, { method: 'PUT', body: 'bytes' })
    expect((await put('?tag=v2')).status).toBe(400)
    expect((await put('')).status).toBe(201)
  })
})

describe('a bad value of a query parameter', () => {
  it.each([
    ['/api/v1/repositories/a/b/images?target=hvtt', /hvt, spt, virtio/],
    ['/api/v1/repositories/a/b/images/v1/kernel?arch=x86', /x86_64/],
    ['/api/v1/repositories/a/b/images?n=abc', /whole number/],
    ['/api/v1/audit?decision=denied', /allowed or refused/],
    ['/api/v1/audit?repository=A', /lower/],
    ['/api/v1/events?n=abc', /whole number/],
  ])('%s is refused with the right ones', async (path, rule) => {
    const found = await refusal('GET', path)
    expect(found.status).toBe(400)
    expect(found.message).toMatch(rule)
  })

  it('is refused in a stream, too', async () => {
    const headers = { accept: 'text/event-stream' }
    for (const query of ['n=abc', 'wait=long']) {
      const answer = await registry.request(`/api/v1/events?${query}`, { headers })
      expect(answer.status).toBe(400)
    }
  })
})

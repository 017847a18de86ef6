import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { allRoutes, type RouteDeps } from '../../src/http/routes.ts'
import { expectError, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

// The test only reads the table and calls no handler.
const rows = allRoutes({ auth: {} } as RouteDeps)

const SPEC =
  'end-1 end-2 end-3 end-4a end-4b end-4c end-5 end-6 end-7a end-7b end-8a end-8b end-9 end-10 end-11 end-12a end-12b end-13 end-14'

describe('the table of routes', () => {
  it('has every endpoint of the spec', () => {
    const served = new Set(rows.flatMap(({ spec = [] }) => spec))
    expect([...served].sort()).toEqual(SPEC.split(' ').sort())
  })

  it('states the access of each route', () => {
    for (const { access } of rows) {
      expect([
        'none',
        'pull',
        'push',
        'delete',
        'admin',
        'metrics',
        'publicRead',
        'authenticated',
        'host',
      ]).toContain(access)
    }
  })

  it('has HEAD before GET, which also answers HEAD', () => {
    rows.forEach((row, index) => {
      if (row.method !== 'HEAD') return
      const get = rows.findIndex(({ method, path }) => method === 'GET' && path === row.path)
      expect(index).toBeLessThan(get)
    })
  })
})

describe('requests that match no route', () => {
  let registry: TestRegistry

  beforeAll(async () => {
    registry = await startRegistry()
  })

  afterAll(() => registry.close())

  it.each([
    '/v2/nothing',
    '/v2/a/b/blobs',
    '/v2/a/tags',
    '/v2/a/b/unheard/of',
    '/elsewhere',
    '/v2/_oci/ext/other',
  ])('%s is 404 in the spec’s JSON', async (path) => {
    await expectError(await registry.request(path), 404, 'PATH_UNKNOWN')
  })

  it.each([
    ['POST', '/v2/a/manifests/latest'],
    ['PATCH', '/v2/a/blobs/uploads/'],
    ['PUT', '/v2/a/tags/list'],
    ['DELETE', '/v2/'],
    ['OPTIONS', '/v2/a/tags/list'],
  ])('%s %s is 405 with Allow', async (method, path) => {
    const answer = await registry.request(path, { method })
    expect(answer.headers.get('allow')).toMatch(/[A-Z]+/)
    await expectError(answer, 405, 'UNSUPPORTED')
  })

  it.each(['UPPER', 'a//b', '-a', 'a-', 'a..b', 'a___b', 'a/', 'a%2F..%2Fb', 'a%00', 'é'])(
    'the name %s is 400 NAME_INVALID',
    async (name) => {
      await expectError(await registry.request(`/v2/${name}/manifests/x`), 400, 'NAME_INVALID')
    },
  )

  it('a name of 255 characters is accepted, one of 256 is not', async () => {
    const path = (length: number) => `/v2/${'a'.repeat(length)}/manifests/x`
    await expectError(await registry.request(path(255)), 404, 'NAME_UNKNOWN')
    await expectError(await registry.request(path(256)), 400, 'NAME_INVALID')
  })

  it('an encoded slash is a slash', async () => {
    const { digest } = await pushImage(registry, 'en/coded', 'v1')
    const answer = await registry.anonymous('/v2/en%2Fcoded/manifests/v1')
    expect(answer.headers.get('docker-content-digest')).toBe(digest)
    const tags = await registry.anonymous('/v2/en%2Fcoded/tags/list')
    expect(await tags.json()).toEqual({ name: 'en/coded', tags: ['v1'] })
  })

  it('a repository may have the name of a part of the path', async () => {
    for (const name of ['blobs', 'manifests/uploads', 'a/blobs/uploads', 'tags/list', 'v2']) {
      const { digest } = await pushImage(registry, name, 'v1')
      const answer = await registry.anonymous(`/v2/${name}/manifests/v1`)
      expect(answer.headers.get('docker-content-digest')).toBe(digest)
      const tags = await registry.anonymous(`/v2/${name}/tags/list`)
      expect(await tags.json()).toEqual({ name, tags: ['v1'] })
    }
  })

  it('a path that cannot be decoded is 400', async () => {
    for (const path of ['/v2/%zz/manifests/x', '/v2/a/manifests/%ff', '/v2/%ff/tags/list']) {
      await expectError(await registry.request(path), 400, 'REQUEST_INVALID')
    }
  })

  it('end-1: /v2/ is 200 for a credential and 401 with a challenge without', async () => {
    expect((await registry.request('/v2/')).status).toBe(200)
    const answer = await registry.anonymous('/v2/')
    expect(answer.headers.get('www-authenticate')).toMatch(
      /^Bearer realm="http:[^"]+\/token",service="[^"]+"$/,
    )
    expect(answer.headers.get('docker-distribution-api-version')).toBe('registry/2.0')
    await expectError(answer, 401, 'UNAUTHORIZED')
  })
})

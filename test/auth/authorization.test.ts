import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { allRoutes, type RegistryParts } from '../../src/http/routes.ts'
import { digestOf, pushImage } from '../conformance/kit.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const rows = allRoutes({} as RegistryParts)

// Each row, and what it answers: to the administrator on a repository that has nothing of the kind,
// and to a stranger on a public repository. Everything else follows from these two.
const MISSING = digestOf('what nobody pushed')
const UPLOAD = '00000000-0000-4000-8000-000000000000'
const TABLE: Record<string, { admin: number; stranger: number }> = {
  'GET /v2/': { admin: 200, stranger: 401 },
  'GET /v2': { admin: 200, stranger: 401 },
  'GET /v2/_oci/ext/discover': { admin: 200, stranger: 401 },
  'GET /v2/*repository/_oci/ext/discover': { admin: 200, stranger: 200 },
  'POST /v2/*repository/blobs/uploads/': { admin: 202, stranger: 401 },
  'PATCH /v2/*repository/blobs/uploads/:upload': { admin: 404, stranger: 401 },
  'PUT /v2/*repository/blobs/uploads/:upload': { admin: 400, stranger: 401 },
  'GET /v2/*repository/blobs/uploads/:upload': { admin: 404, stranger: 401 },
  'DELETE /v2/*repository/blobs/uploads/:upload': { admin: 404, stranger: 401 },
  'HEAD /v2/*repository/blobs/:digest': { admin: 404, stranger: 404 },
  'GET /v2/*repository/blobs/:digest': { admin: 404, stranger: 404 },
  'DELETE /v2/*repository/blobs/:digest': { admin: 404, stranger: 401 },
  'HEAD /v2/*repository/manifests/:reference': { admin: 404, stranger: 404 },
  'GET /v2/*repository/manifests/:reference': { admin: 404, stranger: 404 },
  'PUT /v2/*repository/manifests/:reference': { admin: 400, stranger: 401 },
  'DELETE /v2/*repository/manifests/:reference': { admin: 404, stranger: 401 },
  'GET /v2/*repository/tags/list': { admin: 200, stranger: 200 },
  'GET /v2/*repository/referrers/:digest': { admin: 200, stranger: 200 },
  'GET /v2/_catalog': { admin: 200, stranger: 401 },
  'GET /healthz': { admin: 200, stranger: 200 },
  'GET /readyz': { admin: 200, stranger: 200 },
  'GET /metrics': { admin: 200, stranger: 401 },
}

const filled = (path: string, repository: string) =>
  path
    .replace('*repository', repository)
    .replace(':upload', UPLOAD)
    .replace(':digest', MISSING)
    .replace(':reference', 'missing')

const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`

const STRANGERS: Record<string, (password: string) => string | undefined> = {
  anonymous: () => undefined,
  'nobody over Basic': () => basic(':'),
}

const REFUSED: Record<string, (password: string) => string> = {
  'a wrong password': () => basic('admin:wrong'),
  'another user': (password) => basic(`root:${password}`),
  'no user': (password) => basic(`:${password}`),
  'a user alone': () => basic('admin'),
  'broken Basic': () => 'Basic %%%',
  'a bearer token': (password) => `Bearer ${password}`,
  nonsense: () => 'x',
}

describe('every route as every kind of caller', () => {
  let open: TestRegistry
  let closed: TestRegistry

  beforeAll(async () => {
    open = await startRegistry()
    closed = await startRegistry({ ROOKERY_DEFAULT_VISIBILITY: 'private' })
    for (const registry of [open, closed]) await pushImage(registry, 'a/b', 'v1')
  })

  afterAll(async () => {
    await open.close()
    await closed.close()
  })

  async function ask(
    registry: TestRegistry,
    row: string,
    repository: string,
    authorization: string | undefined,
  ) {
    const [method = '', path = ''] = row.split(' ')
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization }
    const answer = await registry.anonymous(filled(path, repository), { method, headers })
    const challenge = answer.headers.get('www-authenticate')
    return { status: answer.status, challenge, body: await answer.text() }
  }

  const administrator = (registry: TestRegistry) => basic(`admin:${registry.password}`)

  it('is in the table', () => {
    expect(rows.map(({ method, path }) => `${method} ${path}`).sort()).toEqual(
      Object.keys(TABLE).sort(),
    )
  })

  describe.each(Object.entries(TABLE))('%s', (row, expected) => {
    const inRepository = row.includes('*repository')
    const everybody = ['GET /healthz', 'GET /readyz'].includes(row)

    it('the administrator, on public and private repositories', async () => {
      for (const registry of [open, closed]) {
        const { status } = await ask(registry, row, 'a/b', administrator(registry))
        expect(status).toBe(expected.admin)
      }
    })

    it.each(Object.entries(STRANGERS))('%s, on a public repository', async (_who, header) => {
      const answer = await ask(open, row, 'a/b', header(open.password))
      expect(answer.status).toBe(expected.stranger)
      if (answer.status === 401) expect(answer.challenge).toMatch(/^Basic realm=/)
    })

    it.each(Object.entries(STRANGERS))(
      '%s cannot tell a private repository from none',
      async (_who, header) => {
        if (!inRepository) return
        const hidden = await ask(closed, row, 'a/b', header(closed.password))
        const missing = await ask(closed, row, 'c/d', header(closed.password))
        expect(hidden).toEqual(missing)
        // The list of extensions is the registry's, and the same wherever it is asked for.
        if (!row.includes('_oci')) expect(hidden.status).toBe(401)
      },
    )

    it.each(Object.entries(REFUSED))('%s is refused', async (_who, header) => {
      for (const registry of [open, closed]) {
        const answer = await ask(registry, row, 'a/b', header(registry.password))
        if (everybody) continue
        expect(answer.status).toBe(401)
        expect(answer.challenge).toMatch(/^Basic realm=/)
        if (!row.startsWith('HEAD')) {
          expect(JSON.parse(answer.body).errors[0].code).toBe('UNAUTHORIZED')
        }
        expect(answer.body).not.toContain(registry.password)
      }
    })
  })

  it('no password and no header stands in the log', () => {
    for (const registry of [open, closed]) {
      expect(registry.log.length).toBeGreaterThan(50)
      const text = registry.log.join('')
      expect(text).not.toContain(registry.password)
      expect(text).not.toContain(administrator(registry).slice(6))
    }
  })

  it('the administrator sees private repositories in the catalog', async () => {
    expect(await (await closed.request('/v2/_catalog')).json()).toEqual({
      repositories: expect.arrayContaining(['a/b']),
    })
  })
})

import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { createLog } from '../../src/server/log.ts'
import { type RunningServer, startServer } from '../../src/server/server.ts'
import { sql } from '../auth/credentials-client.ts'
import {
  assertionOf,
  enrolHost,
  issuerOf,
  JWT_BEARER,
  keyFields,
  makeCode,
  makeHostKey,
  postForm,
  type TestHost,
} from '../support/hosts.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

/** Every replica reads revocations each 2 s; a busy machine needs a little longer. */
const REVOKED_MILLISECONDS_MAX = 5_000

let here: TestRegistry
let there: RunningServer
let audience: string

beforeAll(async () => {
  here = await startRegistry({ ROOKERY_DEFAULT_VISIBILITY: 'private' })
  there = await startServer(parseConfig(here.settings), createLog('silent'), () => {})
  audience = await issuerOf(here)
  await pushImage(here, 'builds/www', 'live')
})
afterAll(async () => {
  await there.close()
  await here.close()
})

/** The other replica, as a client of it. */
const other = {
  anonymous: (path: string, init?: RequestInit) => fetch(new URL(path, there.url), init),
}

async function pullThere(host: TestHost): Promise<number> {
  const headers = { authorization: `Bearer ${await host.token()}` }
  const path = '/v2/builds/www/manifests/live'
  return (await other.anonymous(path, { method: 'HEAD', headers })).status
}

it('a revoked host has no rights on any replica within seconds', async () => {
  const host = await enrolHost(here, { repositories: ['builds/*'] })
  expect(await pullThere(host)).toBe(200)
  const removed = await here.request(`/api/v1/hosts/${host.name}`, { method: 'DELETE' })
  expect(removed.status).toBe(204)
  expect((await host.request('/v2/builds/www/manifests/live')).status).toBe(401)
  await expect
    .poll(() => pullThere(host), { timeout: REVOKED_MILLISECONDS_MAX, interval: 100 })
    .toBe(401)
  const assertion = assertionOf(host.key, audience)
  const minted = await postForm(other, '/token', { grant_type: JWT_BEARER, assertion })
  expect(minted.status).toBe(400)
})

it('a revoked host has no open request on any replica after seconds', async () => {
  const host = await enrolHost(here, { repositories: ['builds/*'] })
  const headers = { authorization: `Bearer ${await host.token()}` }
  const path = `/api/v1/hosts/${host.name}/desired`
  const now = await other.anonymous(path, { headers })
  const etag = now.headers.get('etag') ?? ''
  await now.arrayBuffer()
  const waiting = other.anonymous(`${path}?wait=55`, {
    headers: { ...headers, 'if-none-match': etag },
  })
  const removed = await here.request(`/api/v1/hosts/${host.name}`, { method: 'DELETE' })
  expect(removed.status).toBe(204)
  const revokedAt = Date.now()
  const answer = await waiting
  await answer.arrayBuffer()
  expect(answer.status).toBeOneOf([304, 401, 404])
  expect(Date.now() - revokedAt).toBeLessThan(REVOKED_MILLISECONDS_MAX)
})

it('a host of the same name is another one: the earlier key and token do not speak for it', async () => {
  const host = await enrolHost(here, { name: 'again', repositories: ['builds/*'] })
  expect((await here.request('/api/v1/hosts/again', { method: 'DELETE' })).status).toBe(204)
  const next = await enrolHost(here, { name: 'again', repositories: ['builds/*'] })
  expect(next.id).not.toBe(host.id)
  const path = '/api/v1/hosts/again/desired'
  expect((await host.request(path)).status).toBe(401)
  expect((await next.request(path)).status).toBe(200)
  const headers = { authorization: `Bearer ${await host.token()}` }
  await expect
    .poll(async () => (await other.anonymous(path, { headers })).status, {
      timeout: REVOKED_MILLISECONDS_MAX,
      interval: 100,
    })
    .toBe(401)
})

it('a change of its networks ends its tokens on any replica within seconds', async () => {
  const host = await enrolHost(here, { repositories: ['builds/*'] })
  expect(await pullThere(host)).toBe(200)
  const changed = await here.request(`/api/v1/hosts/${host.name}`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ networks: ['127.0.0.0/8'] }),
  })
  expect(changed.status).toBe(200)
  await expect
    .poll(() => pullThere(host), { timeout: REVOKED_MILLISECONDS_MAX, interval: 100 })
    .toBe(401)
  const assertion = assertionOf(host.key, audience)
  const minted = await postForm(other, '/token', { grant_type: JWT_BEARER, assertion })
  const { access_token: token } = (await minted.json()) as { access_token: string }
  const headers = { authorization: `Bearer ${token}` }
  const pull = await other.anonymous('/v2/builds/www/manifests/live', { headers })
  expect(pull.status).toBe(200)
})

it('a code and an assertion are used once among all replicas', async () => {
  for (let round = 0; round < 5; round += 1) {
    const name = `race-${round}`
    const code = await makeCode(here, { name })
    const keys = [makeHostKey(), makeHostKey(), makeHostKey(), makeHostKey()]
    const enrolled = await Promise.all(
      keys.map((key, index) =>
        postForm(
          index % 2 === 0 ? here : other,
          '/api/v1/hosts/enrol',
          keyFields(key, audience, { code }),
        ),
      ),
    )
    const winner = enrolled.findIndex(({ status }) => status === 201)
    expect(enrolled.filter(({ status }) => status === 201)).toHaveLength(1)
    const hosts = await sql(here, 'select 1 from hosts where name = $1', [name])
    expect(hosts).toHaveLength(1)
    const assertion = assertionOf(keys[winner] ?? makeHostKey(), audience)
    const minted = await Promise.all(
      [here, other, here, other].map((one) =>
        postForm(one, '/token', { grant_type: JWT_BEARER, assertion }),
      ),
    )
    expect(minted.filter(({ status }) => status === 200)).toHaveLength(1)
  }
})

it('expired codes, waiting hosts and used assertions are removed', async () => {
  const { removeExpiredAuthRows } = await import('../../src/auth/refresh-loop.ts')
  const { Database } = await import('../../src/db/database.ts')
  await makeCode(here, { name: 'old' })
  const host = await enrolHost(here)
  await sql(here, `update enrolments set expires_at = now() - interval '2 days' where name = 'old'`)
  await sql(here, `update used_assertions set expires_at = now() - interval '1 s'`)
  await sql(
    here,
    `insert into hosts (name, state, trust, repositories, created_by, expires_at)
     values ('never-approved', 'pending', 'key', '{}', '192.0.2.1', now() - interval '1 s')`,
  )
  const connection = here.databaseUrl
  const db = new Database({ connection, connectionsMax: 1, onIdleError: () => {} })
  try {
    await removeExpiredAuthRows(db, 365)
  } finally {
    await db.close()
  }
  const left = `select (select count(*)::integer from enrolments where name = 'old') as codes,
    (select count(*)::integer from hosts where name = 'never-approved') as waiting,
    (select count(*)::integer from used_assertions) as assertions,
    (select count(*)::integer from hosts where id = $1) as hosts`
  expect(await sql(here, left, [host.id])).toEqual([
    { codes: 0, waiting: 0, assertions: 0, hosts: 1 },
  ])
})

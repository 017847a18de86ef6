import { afterAll, beforeAll, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import {
  assertionOf,
  enrolHost,
  issuerOf,
  makeCode,
  makeHostKey,
  type TestHost,
} from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { call, listAll } from './described-request.ts'
import { seen } from './expect-answer.ts'
import { OPERATIONS, partsOf } from './openapi-document.ts'
import { isManagement, keyOf } from './wrong-requests.ts'

const HOSTS = '/api/v1/hosts'
let registry: TestRegistry
let audience: string
let host: TestHost

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_HOST_ENROLMENT: 'approve' })
  audience = await issuerOf(registry)
  host = await enrolHost(registry, { name: 'web-1', networks: ['127.0.0.0/8'] })
})
afterAll(() => registry.close())

const as =
  (name: string, secret: string) =>
  (path: string, init: RequestInit = {}) =>
    registry.anonymous(path, {
      ...init,
      headers: { ...(init.headers as Record<string, string>), authorization: basic(name, secret) },
    })

/** A body with a key and its proof. */
function keyed(more: object = {}, key = makeHostKey()) {
  return { jwk: key.jwk, proof: assertionOf(key, audience), ...more }
}

async function statusOf(...request: Parameters<typeof call>): Promise<number> {
  return (await call(...request)).status
}

it('hosts, made in each way, listed, changed and revoked', async () => {
  const { request: admin, anonymous } = registry
  const grant = { repositories: ['builds/*'], labels: { site: 'a' } }
  const created = await call(admin, 'POST', HOSTS, { name: 'weak', ...grant })
  expect(created.status).toBe(201)
  const code = await call(admin, 'POST', '/api/v1/enrolments', { name: 'web-2', ...grant })
  expect(code.status).toBe(201)
  const enrol = (body: object) => statusOf(anonymous, 'POST', `${HOSTS}/enrol`, body)
  expect(await enrol(keyed({ code: code.body.code }))).toBe(201)
  const key = makeHostKey()
  expect(await enrol(keyed({ name: 'waits' }, key))).toBe(202)
  const approval = { fingerprint: key.thumbprint, ...grant }
  expect(await statusOf(admin, 'POST', `${HOSTS}/waits/approve`, approval)).toBe(200)
  const change = { networks: null, labels: { site: 'b' } }
  expect(await statusOf(admin, 'PATCH', `${HOSTS}/waits`, change)).toBe(200)
  expect(await statusOf(admin, 'GET', `${HOSTS}/web-1`)).toBe(200)
  expect(await listAll(admin, `${HOSTS}?n=2`, 'hosts')).toHaveLength(4)
  expect(await statusOf(admin, 'DELETE', `${HOSTS}/waits`)).toBe(204)
  expect(await listAll(admin, `${HOSTS}?state=revoked`, 'hosts')).toHaveLength(1)
})

it('the management of a host is refused as described', async () => {
  const { request: admin, anonymous } = registry
  const lead = await makeCredential(registry, { repositories: ['**'], actions: ['admin'] })
  const request = as(lead.name, lead.secret)
  // It may not pull, so its hosts may not.
  expect(await statusOf(request, 'PATCH', `${HOSTS}/web-1`, { networks: null })).toBe(403)
  const approval = { fingerprint: 'a'.repeat(43), repositories: ['a/*'] }
  expect(await statusOf(request, 'POST', `${HOSTS}/web-1/approve`, approval)).toBe(403)
  expect(await statusOf(admin, 'POST', `${HOSTS}/web-1/approve`, approval)).toBe(409)
  expect(await statusOf(anonymous, 'POST', `${HOSTS}/enrol`, keyed({ name: 'pending' }))).toBe(202)
  expect(await statusOf(admin, 'PATCH', `${HOSTS}/pending`, { labels: {} })).toBe(409)
})

it('an enrolment is refused as described', async () => {
  const elsewhere = await makeCode(registry, { name: 'far', networks: ['192.0.2.0/24'] })
  const used = await makeCode(registry, { name: 'used' })
  const enrol = (body: unknown) => statusOf(registry.anonymous, 'POST', `${HOSTS}/enrol`, body)
  expect(await enrol(keyed({ code: used }))).toBe(201)
  expect(await enrol({})).toBe(400)
  expect(await enrol(keyed({ code: elsewhere }))).toBe(403)
  expect(await enrol(keyed({ code: 'rke_mistyped' }))).toBe(404)
  expect(await enrol(keyed({ name: 'web-1' }))).toBe(409)
  const taken = { name: 'web-1', repositories: ['builds/*'] }
  expect(await statusOf(registry.request, 'POST', '/api/v1/enrolments', taken)).toBe(409)
  expect(await enrol(keyed({ code: used }))).toBe(410)
  expect(await enrol({ proof: 'a'.repeat(70_000) })).toBe(413)
  let last = 0
  for (let guess = 0; guess < 25; guess += 1) last = await enrol(keyed({ code: `rke_${guess}` }))
  expect(last).toBe(429)
})

it('another key is refused as described', async () => {
  const path = `${HOSTS}/web-1/keys`
  const rotate = (body: unknown) => statusOf(host.request, 'POST', path, body)
  const assertion = () => assertionOf(host.key, audience)
  const other = await enrolHost(registry)
  expect(await rotate(keyed())).toBe(400)
  expect(await rotate({ proof: 'a'.repeat(70_000) })).toBe(413)
  expect(await rotate(keyed({ assertion: assertion() }, other.key))).toBe(409)
  expect(await statusOf(registry.anonymous, 'POST', path, keyed())).toBe(401)
  expect(await statusOf(registry.request, 'POST', path, keyed())).toBe(403)
  expect(await rotate(keyed({ assertion: assertion() }))).toBe(200)
  for (let wrong = 0; wrong < 25; wrong += 1) {
    await registry.anonymous('/v2/', { headers: { authorization: basic('admin', `w${wrong}`) } })
  }
  expect(await statusOf(as('admin', 'another'), 'POST', path, keyed())).toBe(429)
})

it('the tests saw every described answer', () => {
  const byHost = ['/api/v1/hosts/enrol', '/api/v1/hosts/{host}/keys']
  const others = ['/api/v1/hosts', '/api/v1/enrolments']
  const described = OPERATIONS.filter(
    (operation) => isManagement(operation) || [...byHost, ...others].includes(operation.path),
  ).flatMap((operation) =>
    partsOf(operation.place, 'responses')
      .filter(([status]) => status !== 'default' && status !== '503')
      // test/api/refusals.test.ts has the refusals that these share with all operations.
      .filter(([status]) => byHost.includes(operation.path) || !/^4(?!03|09)/.test(status))
      .filter(([status]) => !others.includes(operation.path) || /^2/.test(status))
      .map(([status]) => `${keyOf(operation)} ${status}`),
  )
  expect(described.filter((one) => !seen.has(one))).toEqual([])
})

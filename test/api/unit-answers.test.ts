import { afterAll, beforeAll, expect, it } from 'vitest'
import { pushBuild } from '../images/image-fixtures.ts'
import { enrolHost, type TestHost } from '../support/hosts.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { call } from './described-request.ts'
import { seen } from './expect-answer.ts'
import { OPERATIONS, partsOf } from './openapi-document.ts'

let registry: TestRegistry
let host: TestHost
let desired: string
let unit: string
const REPORT = { bootId: 'boot', sequence: 1, state: 'absent', kernel: null }

beforeAll(async () => {
  registry = await startRegistry()
  host = await enrolHost(registry, { repositories: ['conformance/*'] })
  desired = `/api/v1/hosts/${host.name}/desired`
  unit = `/api/v1/hosts/${host.name}/units/www`
})
afterAll(() => registry.close())

it('the answers to a host are as described', async () => {
  const repository = newRepository()
  await pushBuild(registry, repository, 'live')
  const report = { ...REPORT, follows: { repository, tag: 'live' } }
  await call(host.request, 'PUT', unit, report)
  await call(host.request, 'PUT', `${unit}-2`, {
    ...{ ...report, devices: ['net:service'], reason: 'exited', message: 'it ended' },
    ...{ exit: { code: 1 }, log: { text: 'line' }, since: '2026-05-20T18:07:42Z', agent: 'a/1' },
    tenders: [{ target: 'xen', abi: null, architecture: 'x86_64' }],
    follows: { repository, tag: 'none', target: 'hvt' },
  })
  const form = new FormData()
  for (const [name, value] of Object.entries({ ...report, sequence: 2 })) {
    if (value !== null) form.set(name, typeof value === 'string' ? value : JSON.stringify(value))
  }
  await call(host.request, 'PUT', unit, form)
  const first = await call(host.request, 'GET', desired)
  expect(first.body.units).toHaveLength(2)
  await call(host.request, 'GET', desired, undefined, { accept: 'text/plain' })
  const headers = { 'if-none-match': first.headers.get('etag') ?? '' }
  await call(host.request, 'GET', `${desired}?wait=1`, undefined, headers)
  await call(host.request, 'DELETE', unit)
})

it('the runs of kernels are as described', async () => {
  const path = '/api/v1/runs'
  const follows = { repository: newRepository(), tag: 'live' }
  const kernel = `sha256:${'a'.repeat(64)}`
  await call(host.request, 'PUT', unit, { ...REPORT, sequence: 3, follows, kernel })
  const { body } = await call(registry.request, 'GET', `${path}?running=1&host=${host.name}`)
  expect(body.runs).toHaveLength(1)
  const refused = await Promise.all([
    call(registry.request, 'GET', `${path}?running=yes`),
    call(registry.anonymous, 'GET', path),
  ])
  expect(refused.map(({ status }) => status)).toEqual([400, 401])
})

it('refusals are as described', async () => {
  const follows = { repository: 'conformance/none', tag: 'live' }
  const statuses = await Promise.all([
    call(host.request, 'PUT', unit, { ...REPORT, follows, message: 'x'.repeat(2000) }),
    call(host.request, 'PUT', unit, { ...REPORT, follows, log: { text: 'x'.repeat(70_000) } }),
    call(host.request, 'PUT', unit, { ...REPORT, follows: { ...follows, repository: 'other/x' } }),
    call(registry.anonymous, 'PUT', unit, { ...REPORT, follows }),
    call(host.request, 'DELETE', `${unit}${'x'.repeat(100)}`),
    call(host.request, 'DELETE', `${unit}-3`),
    call(registry.request, 'DELETE', unit),
    call(registry.anonymous, 'DELETE', unit),
    call(host.request, 'GET', `${desired}?wait=x`),
    call(registry.request, 'GET', desired),
    call(registry.anonymous, 'GET', desired),
  ])
  expect(statuses.map(({ status }) => status)).toEqual([
    ...[400, 413, 403, 401],
    ...[400, 404, 403, 401],
    ...[400, 403, 401],
  ])
})

it('the tests saw every described answer to a host', () => {
  const described = OPERATIONS.filter(({ path }) =>
    /\/hosts\/[^/]+\/(?:desired|units)|\/runs$/.test(path),
  )
    .flatMap(({ method, path, place }) =>
      partsOf(place, 'responses').map(([status]) => `${method} ${path} ${status}`),
    )
    // test/api/refusals.test.ts has an example of an overloaded server.
    .filter((one) => !/ (?:429|503|default)$/.test(one))
  expect(described.length).toBeGreaterThan(10)
  expect(described.filter((one) => !seen.has(one))).toEqual([])
})

import { afterAll, beforeAll, expect, it } from 'vitest'
import { pushBuild } from '../images/image-fixtures.ts'
import { enrolHost, type TestHost } from '../support/hosts.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { insertDeployment } from './reporting.ts'

/** Half of the connections may wait. */
const CONNECTIONS_MAX = 40
const WAITING_MAX = CONNECTIONS_MAX / 2
const STREAM = { accept: 'text/event-stream' }

let registry: TestRegistry
let hosts: TestHost[]
let deployment: string

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_CONNECTIONS_MAX: String(CONNECTIONS_MAX),
    // Each client has an address of its own.
    ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
  })
  hosts = []
  while (hosts.length <= WAITING_MAX) hosts.push(await enrolHost(registry))
  const repository = newRepository()
  const digest = await pushBuild(registry, repository, 'live')
  deployment = await insertDeployment(registry, repository, digest)
}, 60_000)
afterAll(() => registry.close())

/** Asks what the host should run, and waits: it knows that, and nothing changes. */
async function waits(host: TestHost, init: { headers?: object; signal?: AbortSignal } = {}) {
  const path = `/api/v1/hosts/${host.name}/desired`
  const etag = (await host.request(path)).headers.get('etag') ?? ''
  const headers = { 'if-none-match': etag, ...init.headers }
  return host.request(`${path}?wait=30`, { ...init, headers })
}

async function expectRefused(answer: Response, message: string): Promise<void> {
  expect(answer.status).toBe(429)
  expect(answer.headers.get('retry-after')).toBe('10')
  expect(answer.headers.get('content-type')).toContain('application/json')
  expect(await answer.json()).toMatchObject({ errors: [{ code: 'TOOMANYREQUESTS', message }] })
}

it('a host above the limit is refused, before a stream begins, and gets the place of one that leaves', async () => {
  const leaving = new AbortController()
  const { signal } = leaving
  const [last, ...others] = hosts
  const [asking] = others
  if (last === undefined || asking === undefined) throw new Error('hosts are missing')
  const streams = await Promise.all(others.map((host) => waits(host, { headers: STREAM, signal })))
  expect(new Set(streams.map(({ status }) => status))).toEqual(new Set([200]))
  const message = `${WAITING_MAX} hosts already wait at this server`
  await expectRefused(await waits(last), message)
  await expectRefused(await waits(last, { headers: STREAM }), message)
  // A request that does not wait is answered, and a host that asks again has its own place.
  expect((await last.request(`/api/v1/hosts/${last.name}/desired`)).status).toBe(200)
  const polling = waits(asking, { signal }).catch(() => 'gone')
  await streams[0]?.text()
  await expectRefused(await waits(last), message)
  leaving.abort()
  expect(await polling).toBe('gone')
  const status = async () => {
    const answer = await waits(last, { headers: STREAM })
    await answer.body?.cancel()
    return answer.status
  }
  await expect.poll(status).toBe(200)
})

it('clients that watch deployments and events have a limit of their own', async () => {
  const leaving = new AbortController()
  const { signal } = leaving
  const shown = await registry.request(`/api/v1/deployments/${deployment}`)
  const etag = { 'if-none-match': shown.headers.get('etag') ?? '' }
  const streams = await Promise.all(
    Array.from({ length: WAITING_MAX }, (_, index) => {
      const headers = { ...STREAM, 'x-forwarded-for': `192.0.2.${index}` }
      const path = index % 2 === 0 ? '/api/v1/events' : `/api/v1/deployments/${deployment}`
      return registry.request(path, { headers, signal })
    }),
  )
  expect(new Set(streams.map(({ status }) => status))).toEqual(new Set([200]))
  const refused: [string, Record<string, string>][] = [
    ['/api/v1/events', STREAM],
    ['/api/v1/events?wait=30', {}],
    [`/api/v1/deployments/${deployment}`, STREAM],
    [`/api/v1/deployments/${deployment}?wait=30`, etag],
  ]
  for (const [path, more] of refused) {
    const headers = { ...more, 'x-forwarded-for': '192.0.2.200' }
    const message = `${WAITING_MAX} clients already wait for events`
    await expectRefused(await registry.request(path, { headers }), message)
  }
  expect((await registry.request('/api/v1/events')).status).toBe(200)
  expect((await registry.request(`/api/v1/deployments/${deployment}`)).status).toBe(200)
  leaving.abort()
})

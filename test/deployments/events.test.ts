import { afterAll, beforeAll, expect, it } from 'vitest'
import { EVENT_TYPES } from '../../src/events/event.ts'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { validateEvent } from '../events/event-schema.ts'
import { appendToOutbox } from '../events/outbox.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let start: string
const secrets = new Map<string, string>()

const DEPLOYMENT_TYPES = ['deployment.created', 'deployment.updated', 'deployment.finished']
const HOST_TYPES = ['host.enrolled', 'host.lost', 'host.returned', 'host.conflict']
const TARGETS = 'type=deployment.target.changed'

beforeAll(async () => {
  registry = await startRegistry()
  await pushImage(registry, 'public/www', 'live')
  await pushImage(registry, 'private/www', 'live')
  const settings = { method: 'PUT', headers: { 'content-type': 'application/json' } }
  const path = '/api/v1/repositories/private/www/settings'
  const body = JSON.stringify({ visibility: 'private' })
  expect((await registry.request(path, { ...settings, body })).status).toBe(200)
  for (const action of ['pull', 'push', 'admin']) {
    const grant = { actions: [action, 'pull'], repositories: ['public/**', 'private/**'] }
    const { name, secret } = await makeCredential(registry, grant)
    secrets.set(action, basic(name, secret))
  }
  secrets.set('administrator', basic('admin', registry.password))
  const page = await registry.request('/api/v1/events?n=0')
  start = ((await page.json()) as { cursor: string }).cursor
  const types = EVENT_TYPES.filter((type) => /^(?:deployment|host)\./.test(type))
  await appendToOutbox(registry, 'public/www', types)
  await appendToOutbox(registry, 'private/www', types)
})
afterAll(() => registry.close())

type Event = { readonly type: string; readonly data: Record<string, unknown> }

/** Reads the feed of one repository as a caller, once the last of its events is there. */
async function read(who: string, query: string): Promise<Event[]> {
  await expect
    .poll(async () => (await fetchEvents('administrator', 'type=host.conflict')).length)
    .toBe(2)
  return fetchEvents(who, query)
}

async function fetchEvents(who: string, query: string): Promise<Event[]> {
  const authorization = secrets.get(who)
  const headers = authorization === undefined ? {} : { authorization }
  const path = `/api/v1/events?after=${start}&n=100&${query}`
  const answer = await registry.anonymous(path, { headers })
  expect(answer.status).toBe(200)
  const { events } = (await answer.json()) as { events: Event[] }
  for (const event of events) validateEvent(JSON.stringify(event))
  return events
}

const typesOf = (events: readonly Event[]) => events.map(({ type }) => type)

it('an anonymous reader sees the deployments of public repositories, without actors', async () => {
  const events = await read('anonymous', '')
  expect(typesOf(events)).toEqual(DEPLOYMENT_TYPES)
  for (const { data } of events) {
    expect(data).toMatchObject({ repository: 'public/www', tag: 'live', number: 1 })
    expect(data).not.toHaveProperty('actor')
  }
})

it('the reason of a deployment names hosts, so only those who push or administer see it', async () => {
  const query = 'type=deployment.finished&repository=public/www'
  const reasons = (who: string) =>
    read(who, query).then((events) => events.map(({ data }) => data.reason))
  expect(await reasons('anonymous')).toEqual([null])
  expect(await reasons('pull')).toEqual([null])
  expect(await reasons('push')).toEqual(['www on web-1 failed'])
  expect(await reasons('administrator')).toEqual(['www on web-1 failed'])
})

it('events about targets and hosts are left out unless a filter names the type', async () => {
  const types = typesOf(await read('administrator', 'repository=private/www'))
  expect(types).toEqual([...HOST_TYPES, ...DEPLOYMENT_TYPES, ...HOST_TYPES])
  expect(typesOf(await read('push', 'repository=private/www'))).toEqual(DEPLOYMENT_TYPES)
})

it.each([
  ['anonymous', 0],
  ['pull', 0],
  ['push', 2],
  ['admin', 2],
  ['administrator', 2],
])('events that name hosts are for those who push or administer: %s', async (who, count) => {
  const events = await read(who, TARGETS)
  expect(typesOf(events)).toEqual(Array(count).fill('deployment.target.changed'))
})

it.each(['anonymous', 'pull', 'push', 'admin'])(
  'nobody but administrators sees %s',
  async (who) => {
    const query = HOST_TYPES.map((type) => `type=${type}`).join('&')
    expect(await read(who, query)).toEqual([])
  },
)

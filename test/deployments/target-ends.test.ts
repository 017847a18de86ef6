import { afterAll, beforeAll, expect, it } from 'vitest'
import { validateEvent } from '../events/event-schema.ts'
import { enrolHost } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { insertDeployment, KERNEL, report } from './reporting.ts'
import { type RunningUnit, runningUnit } from './running-unit.ts'

let registry: TestRegistry
/** The cursor of the feed before all tests. */
let start: string

beforeAll(async () => {
  registry = await startRegistry()
  const page = await registry.request('/api/v1/events?n=0')
  start = ((await page.json()) as { cursor: string }).cursor
})
afterAll(() => registry.close())

type Data = { host: string; unit: string; state: string; reason: string | null }

/** The changes of targets in a repository, once there is one. */
async function changesIn(repository: string): Promise<Data[]> {
  const query = `after=${start}&type=deployment.target.changed&repository=${repository}`
  let changes: Data[] = []
  const read = async () => {
    const answer = await registry.request(`/api/v1/events?${query}`)
    expect(answer.status).toBe(200)
    const { events } = (await answer.json()) as { events: { data: Data }[] }
    for (const event of events) validateEvent(JSON.stringify(event))
    changes = events.map(({ data }) => data)
    return changes.length
  }
  await expect.poll(read).toBe(1)
  return changes
}

const patch = { method: 'PATCH', headers: { 'content-type': 'application/json' } }

it.each<[string, string, (unit: RunningUnit) => Promise<unknown>]>([
  [
    'a unit is removed by its host',
    'unfollowed',
    ({ host }) => host.request(`/api/v1/hosts/${host.name}/units/www`, { method: 'DELETE' }),
  ],
  [
    'a unit follows another tag',
    'unfollowed',
    ({ host, follows }) =>
      report(host, { follows: { ...follows, tag: 'next' }, kernel: KERNEL, state: 'healthy' }),
  ],
  [
    'a host is revoked',
    'revoked',
    ({ host }) => registry.request(`/api/v1/hosts/${host.name}`, { method: 'DELETE' }),
  ],
  [
    'a host may not pull the repository any more',
    'unfollowed',
    ({ host }) => {
      const body = JSON.stringify({ repositories: ['other/*'] })
      return registry.request(`/api/v1/hosts/${host.name}`, { ...patch, body })
    },
  ],
])('there is an event of the target that is skipped when %s', async (_, reason, leave) => {
  const unit = await runningUnit(registry)
  const deployment = await unit.granted()
  await leave(unit)
  expect(await changesIn(unit.repository)).toEqual([
    expect.objectContaining({
      ...{ deployment, host: unit.host.name, unit: 'www', state: 'skipped', reason },
    }),
  ])
})

it('there is an event of a unit that joins a deployment and cannot run its image', async () => {
  const { repository, follows, good } = await runningUnit(registry)
  const deployment = await insertDeployment(registry, repository, good)
  const host = await enrolHost(registry)
  const tenders = [{ target: 'spt', abi: 1, architecture: 'x86_64' }]
  await report(host, { follows, tenders })
  expect(await changesIn(repository)).toEqual([
    expect.objectContaining({
      ...{ deployment, host: host.name, unit: 'www', state: 'refused', reason: 'target' },
    }),
  ])
})

import { afterAll, beforeAll, expect, it } from 'vitest'
import { pushBuild } from '../images/image-fixtures.ts'
import { enrolHost, type TestHost } from '../support/hosts.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { grant, insertDeployment, OTHER, OTHER_KERNEL, report, targetOf } from './reporting.ts'
import { newest, putRollout, SOON } from './rolling.ts'
import { rowsOf } from './rows.ts'

const SETTLE = 30

let registry: TestRegistry
let host: TestHost
let repository: string
let deployment: string

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

/** A host whose unit is healthy with a kernel that has to stay so for SETTLE seconds. */
async function healthy(): Promise<void> {
  repository = newRepository()
  host = await enrolHost(registry)
  const digest = await pushBuild(registry, repository, 'live', OTHER)
  await report(host, { follows: { repository, tag: 'live' } })
  const rollout = { settleSeconds: SETTLE }
  deployment = await insertDeployment(registry, repository, digest, 'rolling', rollout)
  await grant(registry, host, deployment, OTHER_KERNEL)
  await says('healthy', OTHER_KERNEL)
  expect(await targetOf(registry, deployment)).toMatchObject({ state: 'healthy' })
}

const says = (state: string, kernel: string | null, more: Record<string, unknown> = {}) =>
  report(host, { follows: { repository, tag: 'live' }, deployment, state, kernel, ...more })

const stateOfUnit = async () =>
  (
    await rowsOf<{ state: string }>(registry, 'select state from units where host_id = $1', [
      host.id,
    ])
  )[0]?.state

it('a kernel that ended a second before the end of the watch time failed', async () => {
  await healthy()
  await says('failed', null, { healthySeconds: SETTLE - 1 })
  expect(await targetOf(registry, deployment)).toMatchObject({ state: 'failed' })
})

it('a kernel that ended a second after it was healthy for the whole time, also when the report comes first', async () => {
  await healthy()
  await says('failed', null, { healthySeconds: SETTLE + 1 })
  expect(await targetOf(registry, deployment)).toMatchObject({ state: 'healthy' })
  expect(await stateOfUnit()).toBe('failed')
})

it('a host that restores the previous kernel is checking, and its end is the one that it reports then', async () => {
  await healthy()
  await says('checking', null)
  expect(await targetOf(registry, deployment)).toMatchObject({ state: 'checking' })
  await says('rolled-back', null, { healthySeconds: SETTLE - 1 })
  expect(await targetOf(registry, deployment)).toMatchObject({ state: 'rolled-back' })
})

it('a target that has settled is not checking again', async () => {
  await healthy()
  await rowsOf(registry, 'update targets set settled_at = now() where deployment_id = $1', [
    deployment,
  ])
  await says('checking', null)
  await says('failed', null, { healthySeconds: 0 })
  expect(await targetOf(registry, deployment)).toMatchObject({ state: 'healthy' })
})

it('a target settles when a report of an end within the watch time would have arrived', async () => {
  repository = newRepository()
  host = await enrolHost(registry)
  await pushBuild(registry, repository, 'live')
  await report(host, { follows: { repository, tag: 'live' } })
  await putRollout(registry, repository, { canary: 0, batch: null, settleSeconds: 1 })
  await pushBuild(registry, repository, 'live', OTHER)
  await expect
    .poll(() => newest(registry, repository), SOON)
    .toMatchObject({ targets: [`${host.name} granted`] })
  deployment = (await newest(registry, repository)).id
  await says('healthy', OTHER_KERNEL)
  await expect.poll(() => newest(registry, repository), SOON).toMatchObject({ state: 'succeeded' })
  const [row] = await rowsOf<{ seconds: number }>(
    registry,
    `select extract(epoch from settled_at - healthy_at)::float as seconds
       from targets
      where deployment_id = $1`,
    [deployment],
  )
  expect(row?.seconds).toBeGreaterThanOrEqual(2)
})

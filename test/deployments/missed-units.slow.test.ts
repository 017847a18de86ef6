import { afterAll, beforeAll, expect, it } from 'vitest'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { deploymentsOf, followed, newest, pushKernel, putRollout } from './rolling.ts'
import { followTag, rowsOf } from './rows.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

const LATER = { timeout: 20_000, interval: 100 }

/** Sets the time at which the units of a repository began to follow their tag. */
const registeredNow = (repository: string) =>
  rowsOf(registry, 'update units set registered_at = now() where repository = $1', [repository])

it('a tag that moved while its first unit registered gets its deployment', async () => {
  const repository = newRepository()
  const { digest } = await pushKernel(registry, repository)
  await followTag(registry, repository, 'live', [{ name: 'late' }])
  expect(await deploymentsOf(registry, repository)).toEqual([])
  await registeredNow(repository)
  await expect
    .poll(() => deploymentsOf(registry, repository), LATER)
    .toMatchObject([{ number: 1, digest, kind: 'push', state: 'rolling' }])
  await expect
    .poll(async () => (await newest(registry, repository)).targets, LATER)
    .toEqual(['late granted'])
})

it('a unit that registered while its deployment began becomes part of it, as its last unit', async () => {
  const { repository, becomes } = await followed(registry, 2)
  await putRollout(registry, repository, {})
  await pushKernel(registry, repository)
  await becomes('rolling', 'a granted', 'b waiting')
  await followTag(registry, repository, 'live', [{ name: 'aa-later' }])
  await registeredNow(repository)
  await expect
    .poll(async () => (await newest(registry, repository)).targets, LATER)
    .toEqual(['a granted', 'b waiting', 'aa-later waiting'])
})

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { deploymentsOf, followed, newest, pushKernel, putRollout, SOON } from './rolling.ts'
import { rowsOf } from './rows.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

describe('a rollout', () => {
  it('updates the canary, and then batch after batch in the order of a label', async () => {
    const { repository, becomes, say } = await followed(registry, 4, (at) => ({
      site: `s${9 - at}`,
    }))
    await putRollout(registry, repository, { order: 'site' })
    await pushKernel(registry, repository)
    await becomes('rolling', 'd granted', 'c waiting', 'b waiting', 'a waiting')
    await say('d', 'checking')
    await becomes('rolling', 'd checking', 'c waiting', 'b waiting', 'a waiting')
    await say('d', 'healthy')
    await becomes('rolling', 'd healthy', 'c granted', 'b granted', 'a waiting')
    await say('b', 'healthy')
    await becomes('rolling', 'd healthy', 'c granted', 'b healthy', 'a granted')
    await say('a', 'healthy')
    await say('c', 'healthy')
    await becomes('succeeded', 'd healthy', 'c healthy', 'b healthy', 'a healthy')
  })

  it('ends at a failed canary: the others keep what they run', async () => {
    const { repository, becomes, say, runs } = await followed(registry, 3)
    const first = await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b granted', 'c granted')
    for (const host of ['a', 'b', 'c']) await say(host, 'healthy')
    await putRollout(registry, repository, {})
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b waiting', 'c waiting')
    await say('a', 'rolled-back')
    await becomes('halted', 'a rolled-back', 'b skipped', 'c skipped')
    expect((await newest(registry, repository)).reason).toMatch(
      /^the canary www on a\S+ was rolled back$/,
    )
    expect(await runs('b')).toBe(first.digest)
    const states = (await deploymentsOf(registry, repository)).map(({ state }) => state)
    expect(states).toEqual(['superseded', 'halted'])
  })

  it('includes only hosts with its labels', async () => {
    const { repository, becomes } = await followed(registry, 3, (at) => ({ ring: String(at % 2) }))
    await putRollout(registry, repository, { require: { ring: '0' } })
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'c waiting')
  })

  it('passes over a host that is offline, and gives it the image at the end', async () => {
    const { repository, becomes, say, runs, lost } = await followed(registry, 2)
    await putRollout(registry, repository, {})
    await lost('a', true)
    const { digest } = await pushKernel(registry, repository)
    await becomes('rolling', 'a offline', 'b granted')
    expect(await runs('a')).toBe(null)
    await say('b', 'healthy')
    await becomes('succeeded', 'a offline', 'b healthy')
    expect(await runs('a')).toBe(digest)
    await lost('a', false)
    await becomes('succeeded', 'a granted', 'b healthy')
    await say('a', 'healthy')
    await becomes('succeeded', 'a healthy', 'b healthy')
  })

  it('a host that says nothing is overdue, also of a deployment that has ended', async () => {
    const { repository, becomes, say } = await followed(registry, 2)
    await putRollout(registry, repository, { canary: 0, batch: null, deadlineSeconds: 2 })
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b granted')
    await say('b', 'failed')
    await becomes('failed', 'a granted', 'b failed')
    await becomes('failed', 'a overdue', 'b failed')
    expect(await newest(registry, repository)).toMatchObject({ wakeAt: null })
  })
})

describe('a newer push', () => {
  it('supersedes, and begins with the units that are in flight', async () => {
    const { repository, becomes, say } = await followed(registry, 4)
    await putRollout(registry, repository, {})
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b waiting', 'c waiting', 'd waiting')
    await say('a', 'healthy')
    await becomes('rolling', 'a healthy', 'b granted', 'c granted', 'd waiting')
    await say('c', 'starting')
    await pushKernel(registry, repository)
    await becomes('rolling', 'b granted', 'c waiting', 'a waiting', 'd waiting')
    const [first] = await deploymentsOf(registry, repository)
    // It ends in a step of its own, after the first one of the newer.
    await expect
      .poll(async () => (await deploymentsOf(registry, repository))[0], SOON)
      .toMatchObject({ state: 'superseded', reason: 'deployment 2 of the tag is newer' })
    const states = await rowsOf<{ state: string }>(
      registry,
      'select state from targets where deployment_id = $1 order by place',
      [first?.id],
    )
    // A unit in flight goes on until it is granted the newer image.
    expect(states.map(({ state }) => state)).toEqual(['healthy', 'skipped', 'starting', 'skipped'])
  })

  it('a unit that runs the kernel is healthy at once, unless it is on the way to another one', async () => {
    const { repository, becomes, say } = await followed(registry, 2)
    await putRollout(registry, repository, { canary: 1 })
    const { digest } = await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b waiting')
    await say('a', 'healthy')
    await becomes('rolling', 'a healthy', 'b granted')
    await say('b', 'healthy')
    await becomes('succeeded', 'a healthy', 'b healthy')
    await pushKernel(registry, repository)
    // The host may have started the other kernel, and its report may be lost.
    await becomes('rolling', 'a granted', 'b waiting')
    const answer = await registry.request(`/api/v1/repositories/${repository}/tags/live/rollback`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ digest }),
    })
    expect(answer.status).toBe(200)
    await becomes('rolling', 'a granted', 'b healthy')
    expect(await newest(registry, repository)).toMatchObject({ kind: 'rollback', number: 3 })
    await say('a', 'healthy')
    await becomes('succeeded', 'a healthy', 'b healthy')
  })
})

it('a deployment whose tag or repository is deleted is cancelled, and the units keep running', async () => {
  const { repository, becomes, runs } = await followed(registry, 1)
  const { digest } = await pushKernel(registry, repository)
  await becomes('rolling', 'a granted')
  await registry.request(`/v2/${repository}/manifests/live`, { method: 'DELETE' })
  await becomes('cancelled', 'a granted')
  expect(await newest(registry, repository)).toMatchObject({ reason: 'tag live was deleted' })
  expect(await runs('a')).toBe(digest)
  await pushKernel(registry, repository)
  await becomes('rolling', 'a granted')
  const gone = await registry.request(`/api/v1/repositories/${repository}`, { method: 'DELETE' })
  expect(gone.status).toBe(204)
  await expect
    .poll(() => deploymentsOf(registry, repository), SOON)
    .toContainEqual(expect.objectContaining({ number: 2, reason: 'the repository was deleted' }))
})

describe('a failed deployment of a rollout with onFailure rollback', () => {
  it('moves the tag back to the last good image, at all units at once', async () => {
    const { repository, becomes, say, runs } = await followed(registry, 2)
    await putRollout(registry, repository, { canary: 1, onFailure: 'rollback' })
    const good = await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b waiting')
    await say('a', 'healthy')
    await becomes('rolling', 'a healthy', 'b granted')
    await say('b', 'healthy')
    await becomes('succeeded', 'a healthy', 'b healthy')
    const bad = await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b waiting')
    await say('a', 'rolled-back')
    // Both run the good image: one never got the other, and the host of the other went back by itself.
    await becomes('succeeded', 'a healthy', 'b healthy')
    const made = await deploymentsOf(registry, repository)
    expect(made.map(({ kind, state, digest }) => [kind, state, digest])).toEqual([
      ['push', 'succeeded', good.digest],
      ['push', 'failed', bad.digest],
      ['rollback', 'succeeded', good.digest],
    ])
    expect(await runs('a')).toBe(good.digest)
    const history = await registry.request(`/api/v1/repositories/${repository}/tags/live/history`)
    const { positions } = (await history.json()) as { positions: Record<string, unknown>[] }
    expect(positions[0]).toMatchObject({
      ...{ digest: good.digest, reason: 'rollback', actor: `rollout ${repository}` },
    })
  })

  it('says why it moved nothing: there was no image before', async () => {
    const { repository, becomes, say } = await followed(registry, 1)
    await putRollout(registry, repository, { onFailure: 'rollback' })
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted')
    await say('a', 'failed')
    await expect
      .poll(async () => (await newest(registry, repository)).reason, SOON)
      .toMatch(/^the canary www on a\S+ failed; the tag was not moved back: it had no other image/)
    await expect.poll(async () => (await newest(registry, repository)).wakeAt, SOON).toBe(null)
  })
})

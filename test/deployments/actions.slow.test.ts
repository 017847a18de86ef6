import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { DeploymentActions } from '../../src/deployments/actions.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { deploymentsOf, followed, newest, pushKernel, putRollout } from './rolling.ts'

let registry: TestRegistry
let db: Database
let actions: DeploymentActions

beforeAll(async () => {
  registry = await startRegistry()
  db = new Database({ connection: registry.databaseUrl, connectionsMax: 2, onIdleError: () => {} })
  actions = new DeploymentActions(db)
})
afterAll(async () => {
  await db.close()
  await registry.close()
})

const actor = {
  ...{ name: 'deployer', origin: null, tokenId: null, keyId: null, address: null, requestId: null },
}

describe('pause and resume', () => {
  it('a pause grants nothing more, and a resume continues', async () => {
    const { repository, becomes, say } = await followed(registry, 3)
    await putRollout(registry, repository, {})
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b waiting', 'c waiting')
    const { id } = await newest(registry, repository)
    await actions.pause(id, actor)
    await say('a', 'healthy')
    await becomes('paused', 'a healthy', 'b waiting', 'c waiting')
    expect(await newest(registry, repository)).toMatchObject({ reason: 'deployer paused it' })
    await actions.pause(id, actor)
    await actions.resume(id, actor)
    await becomes('rolling', 'a healthy', 'b granted', 'c granted')
    expect(await newest(registry, repository)).toMatchObject({ reason: null })
  })

  it('a resume passes the review after the canary', async () => {
    const { repository, becomes, say } = await followed(registry, 2)
    await putRollout(registry, repository, { pauseAfter: 'canary' })
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b waiting')
    await say('a', 'healthy')
    await becomes('paused', 'a healthy', 'b waiting')
    const { id, reason } = await newest(registry, repository)
    expect(reason).toBe('the canary is done: resume to continue')
    await actions.resume(id, actor)
    await becomes('rolling', 'a healthy', 'b granted')
    await actions.resume(id, actor)
    await becomes('rolling', 'a healthy', 'b granted')
  })
})

describe('cancel', () => {
  it('skips units that wait, and lets those in flight continue', async () => {
    const { repository, becomes, say } = await followed(registry, 2)
    await putRollout(registry, repository, {})
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b waiting')
    const { id } = await newest(registry, repository)
    await actions.cancel(id, actor)
    await becomes('cancelled', 'a granted', 'b skipped')
    expect(await newest(registry, repository)).toMatchObject({ reason: 'deployer cancelled it' })
    await say('a', 'healthy')
    await becomes('cancelled', 'a healthy', 'b skipped')
    for (const action of ['pause', 'resume', 'cancel'] as const) {
      await expect(actions[action](id, actor)).rejects.toMatchObject({ code: 'CONFLICT' })
    }
  })
})

describe('retry', () => {
  it('grants the image to the units that failed once more, at once and to no others', async () => {
    const { repository, becomes, say, runs } = await followed(registry, 3)
    await putRollout(registry, repository, { canary: 0, batch: 3, maxFailures: 1 })
    const { digest } = await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b granted', 'c granted')
    const { id } = await newest(registry, repository)
    await expect(actions.retry(id, undefined, actor)).rejects.toMatchObject({
      ...{
        code: 'CONFLICT',
        message: 'deployment 1 of tag live is in progress: wait for it, or cancel it',
      },
    })
    await say('a', 'healthy')
    await say('b', 'failed')
    await say('c', 'failed')
    await becomes('failed', 'a healthy', 'b failed', 'c failed')
    expect(await runs('b')).toBe(null)
    const again = await actions.retry(id, undefined, actor)
    await becomes('rolling', 'b granted', 'c granted')
    expect(await runs('b')).toBe(digest)
    expect(await newest(registry, repository)).toMatchObject({
      id: again,
      kind: 'retry',
      number: 2,
    })
    await say('b', 'healthy')
    await say('c', 'healthy')
    await becomes('succeeded', 'b healthy', 'c healthy')
    await expect(actions.retry(again, undefined, actor)).rejects.toMatchObject({ code: 'CONFLICT' })
  })

  it('of one host also includes a unit that was skipped', async () => {
    const { repository, hosts, becomes, say } = await followed(registry, 3)
    await putRollout(registry, repository, {})
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b waiting', 'c waiting')
    await say('a', 'failed')
    await becomes('halted', 'a failed', 'b skipped', 'c skipped')
    const { id } = await newest(registry, repository)
    await actions.retry(id, hosts[1], actor)
    await becomes('rolling', 'b granted')
    await expect(actions.retry(id, 'nobody', actor)).rejects.toMatchObject({ code: 'CONFLICT' })
  })

  it('is refused when the tag names another image', async () => {
    const { repository, becomes, say } = await followed(registry, 1)
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted')
    await say('a', 'failed')
    await becomes('failed', 'a failed')
    const { id } = await newest(registry, repository)
    await pushKernel(registry, repository)
    await expect(actions.retry(id, undefined, actor)).rejects.toMatchObject({ code: 'CONFLICT' })
    expect(await deploymentsOf(registry, repository)).toHaveLength(2)
    const nothing = '00000000-0000-7000-8000-000000000000'
    await expect(actions.retry(nothing, undefined, actor)).rejects.toMatchObject({
      code: 'NOT_FOUND',
    })
  })
})

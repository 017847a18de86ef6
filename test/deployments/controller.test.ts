import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { followed, newest, pushKernel, putRollout } from './rolling.ts'
import { rowsOf } from './rows.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

describe('a push without a rollout', () => {
  it('is granted to all units within a second', async () => {
    const { repository, becomes, runs } = await followed(registry, 3)
    const { digest } = await pushKernel(registry, repository)
    const begun = performance.now()
    await becomes('rolling', 'a granted', 'b granted', 'c granted')
    expect(performance.now() - begun).toBeLessThan(1000)
    expect(await runs('b')).toBe(digest)
  })

  it('succeeds when all are healthy, and a report is seen within a second', async () => {
    const { repository, becomes, say } = await followed(registry, 2)
    await putRollout(registry, repository, { canary: 0, batch: null })
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b granted')
    await say('a', 'healthy')
    await say('b', 'healthy')
    const begun = performance.now()
    await becomes('succeeded', 'a healthy', 'b healthy')
    expect(performance.now() - begun).toBeLessThan(1000)
    const { wakeAt, reason } = await newest(registry, repository)
    expect({ wakeAt, reason }).toEqual({ wakeAt: null, reason: '2 units healthy' })
  })

  it('an image without a kernel is refused before any host fetches it', async () => {
    const { repository, becomes } = await followed(registry, 2)
    await pushImage(registry, repository, 'live')
    await becomes('failed', 'a refused', 'b refused')
    const events = async () =>
      (
        await rowsOf<{ body: string }>(
          registry,
          `select body
             from events
            where type = 'deployment.target.changed'
              and repository_id = (select id from repositories where name = $1)`,
          [repository],
        )
      ).map(({ body }) => JSON.parse(body).data)
    await expect.poll(events).toHaveLength(2)
    for (const data of await events()) {
      expect(data).toMatchObject({ unit: 'www', state: 'refused', message: expect.any(String) })
    }
  })
})

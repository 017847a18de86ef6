import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pushBuild } from '../images/image-fixtures.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { call } from './described-request.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

describe('events are as described', () => {
  it('page by page, from a snapshot, and after a pruned position', async () => {
    const repository = newRepository()
    await pushBuild(registry, repository, 'v1', 'hello-key-1')
    const path = `/api/v1/events?repository=${repository}`
    const begun = await call(registry.anonymous, 'GET', `${path}&snapshot=1`)
    expect(begun.body).toMatchObject({ events: [], snapshot: [{ tag: 'v1', unikernels: [{}] }] })
    await pushBuild(registry, repository, 'v1', 'hello-key-2')
    const { cursor } = begun.body as { cursor: string }
    const page = await call(
      registry.anonymous,
      'GET',
      `${path}&after=${cursor}&wait=5&type=image.tag.updated`,
    )
    expect(page.body).toMatchObject({ events: [{ type: 'image.tag.updated' }] })
    const lost = await call(registry.anonymous, 'GET', `${path}&after=${'7'.repeat(32)}`)
    expect(lost.body).toMatchObject({ events: [], reset: { reason: 'another-epoch' } })
  })
})

import { afterAll, beforeAll, expect, it } from 'vitest'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { followTag, rowsOf } from './rows.ts'

type Row = {
  number: number
  tag: string
  digest: string
  previous: string | null
  kind: string
  actor: string
  rollout: { name: string | null; canary: unknown; batch: unknown; onFailure: string }
}

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

const deploymentsOf = (repository: string) =>
  rowsOf<Row>(
    registry,
    `select d.number, d.tag, d.digest, d.previous, d.kind, d.actor, d.rollout
       from deployments d
       join repositories r on r.id = d.repository_id
      where r.name = $1
      order by d.tag, d.number`,
    [repository],
  )

it('a push of a tag that a unit follows makes a deployment, and no other push does', async () => {
  const repository = newRepository()
  await followTag(registry, repository, 'live', [{ name: `h-${repository}` }])
  const first = await pushImage(registry, repository, 'live')
  await pushImage(registry, repository, 'test')
  await pushImage(registry, repository)
  const second = await pushImage(registry, repository, 'live')
  // The tag does not move.
  const again = await registry.request(`/v2/${repository}/manifests/live`, {
    method: 'PUT',
    headers: { 'content-type': second.mediaType },
    body: second.body,
  })
  expect(again.status).toBe(201)
  expect(await deploymentsOf(repository)).toEqual([
    expect.objectContaining({ number: 1, digest: first.digest, previous: null, kind: 'push' }),
    expect.objectContaining({
      ...{ number: 2, digest: second.digest, previous: first.digest, kind: 'push' },
      ...{ tag: 'live', actor: 'admin' },
    }),
  ])
})

it('a push of several tags makes a deployment for each that units follow', async () => {
  const repository = newRepository()
  await followTag(registry, repository, 'b', [{ name: `b-${repository}` }])
  await followTag(registry, repository, 'c', [{ name: `c-${repository}` }])
  const image = await pushImage(registry, repository)
  const answer = await registry.request(
    `/v2/${repository}/manifests/${image.digest}?tag=a&tag=b&tag=c`,
    { method: 'PUT', headers: { 'content-type': image.mediaType }, body: image.body },
  )
  expect(answer.status).toBe(201)
  const made = await deploymentsOf(repository)
  expect(made.map(({ tag, number }) => [tag, number])).toEqual([
    ['b', 1],
    ['c', 1],
  ])
})

it('a push that is refused makes none', async () => {
  const repository = newRepository()
  await followTag(registry, repository, 'live', [{ name: `h-${repository}` }])
  const image = await pushImage(registry, repository)
  const refused = await registry.request(`/v2/${repository}/manifests/live`, {
    method: 'PUT',
    headers: { 'content-type': image.mediaType, 'if-match': `"${image.digest}"` },
    body: image.body,
  })
  expect(refused.status).toBe(412)
  expect(await deploymentsOf(repository)).toEqual([])
})

it('a rollback of the tag makes a deployment to all units at once, also with a rollout', async () => {
  const repository = newRepository()
  await rowsOf(
    registry,
    `insert into rollouts (name, repositories, tags, policy, created_by)
     values ('a-other', '{other/*}', '{**}', '{"canary": 9}', 'admin'),
            ('b-this', array[$1], '{l*}', $2, 'admin'),
            ('c-all', '{**}', '{**}', '{"canary": 8}', 'admin')`,
    [
      repository,
      {
        ...{ canary: 1, batch: '10%', order: 'name', settleSeconds: 1, deadlineSeconds: 9 },
        ...{ pauseAfter: 'canary', maxFailures: 0, onFailure: 'rollback', require: {} },
      },
    ],
  )
  await followTag(registry, repository, 'live', [{ name: `h-${repository}` }])
  const first = await pushImage(registry, repository, 'live')
  await pushImage(registry, repository, 'live')
  const answer = await registry.request(`/api/v1/repositories/${repository}/tags/live/rollback`, {
    method: 'POST',
  })
  expect(answer.status).toBe(200)
  const made = await deploymentsOf(repository)
  expect(made.map(({ kind, digest }) => [kind, digest]).at(-1)).toEqual(['rollback', first.digest])
  expect(made.map(({ rollout }) => rollout)).toEqual([
    expect.objectContaining({ name: 'b-this', canary: 1, batch: '10%', onFailure: 'rollback' }),
    expect.objectContaining({ name: 'b-this', canary: 1, pauseAfter: 'canary' }),
    expect.objectContaining({ name: 'b-this', canary: 0, batch: null, pauseAfter: null }),
  ])
  await rowsOf(registry, 'delete from rollouts')
})

it('pushes of one tag at the same time number their deployments one after the other', async () => {
  const repository = newRepository()
  await followTag(registry, repository, 'live', [{ name: `h-${repository}` }])
  await Promise.all(Array.from({ length: 8 }, () => pushImage(registry, repository, 'live')))
  const made = await deploymentsOf(repository)
  expect(made.map(({ number }) => number)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
  // Each begins with the digest that the one before it brought.
  expect(made.slice(1).map(({ previous }) => previous)).toEqual(
    made.slice(0, -1).map(({ digest }) => digest),
  )
})

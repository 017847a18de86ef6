import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { IMAGE_INDEX } from '../support/media-types.ts'
import { newRepository, pushImage, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let client: pg.Client

beforeAll(async () => {
  registry = await startRegistry()
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
})
afterAll(async () => {
  await client.end()
  await registry.close()
})

const WAITING = `select count(*)::int as n
                   from pg_stat_activity
                  where datname = current_database()
                    and wait_event_type = 'Lock'`
const waiting = async (): Promise<number> => (await client.query(WAITING)).rows[0].n

const remove = (repository: string, path: string) =>
  registry.request(`/v2/${repository}/${path}`, { method: 'DELETE' })

/** Runs two requests while `lock` holds, the second when the first waits. */
async function race(
  lock: readonly [text: string, value: string],
  first: () => Promise<Response>,
  second: () => Promise<Response>,
): Promise<number[]> {
  await client.query('begin')
  await client.query(lock[0], [lock[1]])
  const one = first()
  await expect.poll(waiting).toBe(1)
  const two = second()
  await expect.poll(waiting).toBe(2)
  await client.query('rollback')
  return (await Promise.all([one, two])).map(({ status }) => status)
}

it('a blob deleted just before a push that needs it: the push is refused', async () => {
  const repository = newRepository()
  const image = await pushImage(registry, repository)
  const layer = JSON.parse(image.body).layers[0].digest
  await remove(repository, `manifests/${image.digest}`)
  const statuses = await race(
    ['select id from blobs where digest = $1 for update', layer],
    () => remove(repository, `blobs/${layer}`),
    () => putManifest(registry, repository, 'live', image.body),
  )
  expect(statuses).toEqual([202, 400])
  expect((await registry.anonymous(`/v2/${repository}/manifests/live`)).status).toBe(404)
})

it('a child deleted while a tag moves to its index: the tag keeps the child, or does not move', async () => {
  const repository = newRepository()
  const { body: _, ...child } = await pushImage(registry, repository)
  const index = { schemaVersion: 2, mediaType: IMAGE_INDEX, manifests: [child] }
  await putManifest(registry, repository, 'live', index)
  await pushImage(registry, repository, 'live')
  const rollback = `/api/v1/repositories/${repository}/tags/live/rollback`
  const statuses = await race(
    [
      `select name
         from tags
        where repository_id = (select id from repositories where name = $1)
          for update`,
      repository,
    ],
    () => registry.request(rollback, { method: 'POST' }),
    () => remove(repository, `manifests/${child.digest}`),
  )
  expect(statuses).toEqual([200, 403])
  expect((await registry.anonymous(`/v2/${repository}/manifests/${child.digest}`)).status).toBe(200)
})

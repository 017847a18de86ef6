import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { newRepository, pushImage, pushImageBlobs, putManifest } from '../support/push.ts'
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

type Change = (repository: string, digest: string) => Promise<Response>

const remove = (repository: string, reference: string) =>
  registry.request(`/v2/${repository}/manifests/${reference}`, { method: 'DELETE' })

const CHANGES: readonly (readonly [string, Change])[] = [
  [
    'push',
    async (repository) =>
      putManifest(registry, repository, 'live', await pushImageBlobs(registry, repository)),
  ],
  [
    'rollback',
    (repository) =>
      registry.request(`/api/v1/repositories/${repository}/tags/live/rollback`, { method: 'POST' }),
  ],
  ['delete of the tag', (repository) => remove(repository, 'live')],
  ['delete of its manifest', remove],
]

// `pg_locks` also has the locks of other databases.
const WAITING = `select count(*)::int as n
                   from pg_stat_activity
                  where datname = current_database()
                    and wait_event_type = 'Lock'`

/** Holds the row of the tag `live` until the transaction ends. */
async function lockTag(repository: string): Promise<void> {
  await client.query('begin')
  await client.query(
    `update tags
        set moved_at = moved_at
      where name = 'live'
        and repository_id = (select id from repositories where name = $1)`,
    [repository],
  )
}

async function waitForLock(): Promise<void> {
  await expect.poll(async () => (await client.query(WAITING)).rows[0].n).toBeGreaterThan(0)
}

async function changeSettings(repository: string, change: Record<string, unknown>): Promise<void> {
  const { status } = await registry.request(`/api/v1/repositories/${repository}/settings`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(change),
  })
  expect(status).toBe(200)
}

it.each(CHANGES)(
  'a %s that waits for a tag while it becomes immutable is refused',
  async (...[, change]) => {
    const repository = newRepository()
    await pushImage(registry, repository, 'live')
    const { digest } = await pushImage(registry, repository, 'live')
    await lockTag(repository)
    const changed = change(repository, digest)
    await waitForLock()
    await changeSettings(repository, { immutableTags: ['live'] })
    await client.query('rollback')
    const refused = await changed
    expect(refused.status).toBe(403)
    expect(await refused.text()).toMatch(/tag live is immutable/)
    const there = await registry.request(`/v2/${repository}/manifests/live`, { method: 'HEAD' })
    expect(there.headers.get('docker-content-digest')).toBe(digest)
  },
)

it('a push that waits for a tag while provenance becomes required is refused', async () => {
  const repository = newRepository()
  const { digest } = await pushImage(registry, repository, 'live')
  const other = await pushImageBlobs(registry, repository)
  await lockTag(repository)
  const pushed = putManifest(registry, repository, 'live', other)
  await waitForLock()
  await changeSettings(repository, { provenance: 'required' })
  await client.query('rollback')
  expect((await pushed).status).toBe(400)
  const there = await registry.request(`/v2/${repository}/manifests/live`, { method: 'HEAD' })
  expect(there.headers.get('docker-content-digest')).toBe(digest)
})

import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  expectError,
  newRepository,
  pushBlob,
  pushImage,
  pushImageBlobs,
  putManifest,
  send,
  startUpload,
} from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { openSweeper, type Sweeper } from './sweeper.ts'

let registry: TestRegistry
let sweeper: Sweeper

beforeAll(async () => {
  registry = await startRegistry()
  sweeper = await openSweeper(registry)
})

afterAll(async () => {
  await sweeper.close()
  await registry.close()
})

async function statusOf(repository: string, digest: string, method = 'HEAD'): Promise<number> {
  const answer = await registry.request(`/v2/${repository}/blobs/${digest}`, { method })
  await answer.arrayBuffer()
  return answer.status
}

async function age(digest: string, hours: number): Promise<void> {
  const statement = `update blobs set touched_at = now() - make_interval(hours => $2)
                      where digest = $1`
  await sweeper.client.query(statement, [digest, hours])
}

it('a blob without a manifest is removed after the grace period, with its bytes', async () => {
  const repository = newRepository()
  const blob = await pushBlob(registry, repository)
  expect(await sweeper.garbage(3600).sweep()).toMatchObject({ blobs: 0, checked: 0 })
  expect(await statusOf(repository, blob.digest, 'GET')).toBe(200)
  await age(blob.digest, 2)
  const preview = await sweeper.garbage(3600).preview(() => {})
  expect(preview).toMatchObject({ blobs: 1, bytes: blob.size })
  expect(await sweeper.garbage(3600).sweep()).toMatchObject({ blobs: 1, bytes: blob.size })
  expect(await statusOf(repository, blob.digest)).toBe(404)
  await sweeper.garbage(3600).sweep()
  expect(await registry.storedObjects()).toEqual([])
  expect(await pushBlob(registry, repository, blob.bytes)).toMatchObject({ digest: blob.digest })
  expect(await statusOf(repository, blob.digest, 'GET')).toBe(200)
})

it('a blob with a manifest stays until its last manifest is deleted', async () => {
  const [one, two] = [newRepository(), newRepository()]
  const image = await pushImage(registry, one, 'v1')
  const layer = JSON.parse(image.body).layers[0].digest
  const config = JSON.parse(image.body).config.digest
  for (const digest of [layer, config]) {
    const mount = `/v2/${two}/blobs/uploads/?mount=${digest}&from=${one}`
    expect((await registry.request(mount, { method: 'POST' })).status).toBe(201)
  }
  expect((await putManifest(registry, two, 'v1', JSON.parse(image.body))).status).toBe(201)
  await sweeper.sweepAll()
  expect(await statusOf(one, layer, 'GET')).toBe(200)
  const forget = (repository: string) =>
    registry.request(`/v2/${repository}/manifests/${image.digest}`, { method: 'DELETE' })
  expect((await forget(one)).status).toBe(202)
  await sweeper.sweepAll()
  expect(await statusOf(two, layer, 'GET')).toBe(200)
  expect((await forget(two)).status).toBe(202)
  await sweeper.sweepAll()
  expect(await statusOf(two, layer, 'GET')).toBe(404)
  expect(await statusOf(one, layer, 'GET')).toBe(404)
})

it('deleting a manifest restarts the grace period of its blobs', async () => {
  const repository = newRepository()
  const image = await pushImage(registry, repository, 'v1')
  const layer = JSON.parse(image.body).layers[0].digest
  await age(layer, 48)
  const path = `/v2/${repository}/manifests/${image.digest}`
  expect((await registry.request(path, { method: 'DELETE' })).status).toBe(202)
  expect(await sweeper.garbage(3600).sweep()).toMatchObject({ blobs: 0 })
  expect(await statusOf(repository, layer, 'GET')).toBe(200)
})

it.each([
  ['HEAD', (repository: string, digest: string) => statusOf(repository, digest)],
  [
    'a mount',
    async (repository: string, digest: string) => {
      const path = `/v2/${newRepository()}/blobs/uploads/?mount=${digest}&from=${repository}`
      return (await registry.request(path, { method: 'POST' })).status
    },
  ],
])('%s keeps a blob for another grace period', async (_what, touch) => {
  const repository = newRepository()
  const blob = await pushBlob(registry, repository)
  await age(blob.digest, 48)
  expect(await touch(repository, blob.digest)).toBeLessThan(300)
  expect(await sweeper.garbage(3600).sweep()).toMatchObject({ blobs: 0 })
  expect(await statusOf(repository, blob.digest, 'GET')).toBe(200)
})

it('HEAD writes nothing when the blob was touched recently', async () => {
  const repository = newRepository()
  const blob = await pushBlob(registry, repository)
  const touched = async () => {
    const statement = 'select touched_at from blobs where digest = $1'
    return (await sweeper.client.query(statement, [blob.digest])).rows[0].touched_at.toISOString()
  }
  const before = await touched()
  expect(await statusOf(repository, blob.digest)).toBe(200)
  expect(await touched()).toBe(before)
})

it('a push whose blob was swept gets the digest of the missing blob', async () => {
  const repository = newRepository()
  const manifest = await pushImageBlobs(registry, repository)
  await sweeper.sweepAll()
  const answer = await putManifest(registry, repository, 'v1', manifest)
  await expectError(answer, 400, 'MANIFEST_BLOB_UNKNOWN')
})

it('cancelled and expired uploads leave nothing behind', async () => {
  await sweeper.sweepAll()
  const before = (await registry.storedObjects()).length
  const expired = await startUpload(registry, newRepository())
  const cancelled = await startUpload(registry, newRepository())
  for (const location of [expired, cancelled]) {
    const chunk = Buffer.alloc(9_000_000, location)
    expect((await send(registry, 'PATCH', location, chunk)).status).toBe(202)
  }
  expect((await registry.storedObjects()).length).toBeGreaterThan(before)
  expect((await registry.request(cancelled, { method: 'DELETE' })).status).toBe(204)
  await sweeper.client.query(`update uploads set expires_at = now() - interval '1 second'`)
  await sweeper.sweepAll()
  expect(await registry.storedObjects()).toHaveLength(before)
  expect((await sweeper.client.query('select id from deletion_queue')).rows).toEqual([])
})

it('bytes stay during a deletion pause, and are deleted afterwards', async () => {
  const repository = newRepository()
  const blob = await pushBlob(registry, repository)
  const key = `select storage_key as key from blobs where digest = $1`
  const { rows } = await sweeper.client.query(key, [blob.digest])
  const isHeld = async () =>
    (await registry.storedObjects()).some((held) => held.key === rows[0].key)
  const hold = `insert into deletion_pauses (until, reason) values (now() + interval '1 hour', 'test')`
  await sweeper.client.query(hold)
  await sweeper.sweepAll()
  expect(await statusOf(repository, blob.digest)).toBe(404)
  expect(await isHeld()).toBe(true)
  await sweeper.client.query('delete from deletion_pauses')
  await sweeper.sweepAll()
  expect(await isHeld()).toBe(false)
})

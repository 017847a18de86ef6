import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { openBlobStore } from '../../src/server/blob-store.ts'
import type { BlobStore } from '../../src/storage/blob-store.ts'
import { createUploadUrl } from '../auth/upload-url-client.ts'
import { build, printedJson } from '../cli/builder.ts'
import { rookery } from '../cli/rookery.ts'
import {
  fixtureOf,
  kernel,
  net,
  postImage,
  pushLayers,
  UNIKERNEL,
} from '../images/image-fixtures.ts'
import { digestOf } from '../support/digest.ts'
import {
  expectError,
  newRepository,
  pushBlob,
  putManifest,
  send,
  startUpload,
} from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { openSweeper, type Sweeper } from './sweeper.ts'

let registry: TestRegistry
let sweeper: Sweeper
let store: BlobStore
let closeStore: () => void

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_GC_INTERVAL_SECONDS: '3600' })
  sweeper = await openSweeper(registry)
  const opened = await openBlobStore(parseConfig({ ...registry.settings }), registry.folder)
  store = opened.store
  closeStore = opened.close
})

afterAll(async () => {
  closeStore()
  await sweeper.close()
  await registry.close()
})

async function* one(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes
}

async function rowOf(digest: string): Promise<{ key: string; lost: boolean }> {
  const { rows } = await sweeper.client.query(
    'select storage_key as key, lost_at is not null as lost from blobs where digest = $1',
    [digest],
  )
  return rows[0]
}

/** Ways in which a disk or an object store loses the bytes of a blob. */
const LOSSES = {
  removed: (key: string) => store.remove(key),
  shortened: (key: string, bytes: Buffer) => store.put(key, one(bytes.subarray(1))),
  emptied: (key: string) => store.put(key, one(Buffer.alloc(0))),
} as const
type Loss = keyof typeof LOSSES

async function lose(digest: string, bytes: Buffer, loss: Loss = 'removed'): Promise<void> {
  await LOSSES[loss]((await rowOf(digest)).key, bytes)
}

/** Deletes the bytes that are queued for deletion, and no blob. */
async function deleteQueued(): Promise<void> {
  await sweeper.client.query('update deletion_queue set due_at = now()')
  const { failures } = await sweeper.garbage(3600).sweep()
  expect(failures).toEqual([])
}

const blobPath = (repository: string, digest: string) => `/v2/${repository}/blobs/${digest}`

async function expectReadable(repository: string, bytes: Buffer): Promise<void> {
  const path = blobPath(repository, digestOf(bytes))
  expect((await registry.anonymous(path, { method: 'HEAD' })).status).toBe(200)
  const answer = await registry.anonymous(path)
  expect(answer.status).toBe(200)
  expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true)
}

async function expectUnknown(repository: string, digest: string): Promise<void> {
  const path = blobPath(repository, digest)
  await expectError(await registry.anonymous(path), 404, 'BLOB_UNKNOWN')
  expect((await registry.anonymous(path, { method: 'HEAD' })).status).toBe(404)
}

/** Every way to push the bytes of a blob. Each answers with the status of its last request. */
const WAYS: Readonly<Record<string, (repository: string, bytes: Buffer) => Promise<Response>>> = {
  'one POST': (repository, bytes) =>
    send(registry, 'POST', `/v2/${repository}/blobs/uploads/?digest=${digestOf(bytes)}`, bytes),
  'POST and PUT': async (repository, bytes) => {
    const location = await startUpload(registry, repository)
    return send(registry, 'PUT', `${location}?digest=${digestOf(bytes)}`, bytes)
  },
  'POST, PATCH and PUT': async (repository, bytes) => {
    const location = await startUpload(registry, repository)
    expect((await send(registry, 'PATCH', location, bytes)).status).toBe(202)
    return send(registry, 'PUT', `${location}?digest=${digestOf(bytes)}`)
  },
  'a mount that becomes an upload': async (repository, bytes) => {
    const digest = digestOf(bytes)
    // A mount believes the row. Somebody has read the blob, or a scrub did, so the row says that it is lost.
    await registry.anonymous(blobPath(lastRepository, digest)).then((answer) => answer.text())
    const location = await startUpload(
      registry,
      repository,
      `?mount=${digest}&from=${lastRepository}`,
    )
    return send(registry, 'PUT', `${location}?digest=${digest}`, bytes)
  },
  'a form': (repository, bytes) => {
    const form = new FormData()
    form.append('kernel', new Blob([new Uint8Array(bytes)]), 'mini-net.hvt')
    return postImage(registry, repository, '?tag=live', form)
  },
  'an upload URL': async (repository, bytes) => {
    const { url } = await createUploadUrl(registry, repository, 'v1')
    return registry.anonymous(url, { method: 'PUT', body: new Uint8Array(bytes) })
  },
}
let lastRepository = ''

/** The bytes of a kernel, different each time: a loader ignores what follows the file. */
const kernelBytes = () => Buffer.concat([net, randomBytes(16)])

describe.each(Object.keys(WAYS))('%s', (way) => {
  const push = WAYS[way] as (repository: string, bytes: Buffer) => Promise<Response>

  it.each(Object.keys(LOSSES) as Loss[])(
    'replaces the bytes of a blob that were %s, in every repository',
    async (loss) => {
      const repository = newRepository()
      lastRepository = repository
      const bytes = kernelBytes()
      const { digest } = await pushBlob(registry, repository, bytes)
      await lose(digest, bytes, loss)
      const other = newRepository()
      expect((await push(other, bytes)).status).toBe(201)
      await expectReadable(other, bytes)
      await expectReadable(repository, bytes)
      await deleteQueued()
      await expectReadable(repository, bytes)
    },
  )
})

it('rookery push repairs an image after a scrub found its kernel missing', async () => {
  const repository = newRepository()
  const image = `${registry.url.replace('http://', '')}/${repository}:live`
  const words = ['token', 'mint', '--repository', '**', '--action', 'pull', '--action', 'push']
  const token = { ROOKERY_TOKEN: (await rookery(registry, words)).stdout.trim() }
  const push = () => printedJson(['push', build('hello-key-2'), image], token)
  const { digest } = await push()
  const bytes = fixtureOf('hello-key-2', 'kernel')
  await lose(digestOf(bytes), bytes)
  expect(await rookery(registry, ['scrub', '--restart'])).toMatchObject({ status: 1 })
  const kernelPath = `/api/v1/repositories/${repository}/images/live/kernel`
  await expectError(await registry.anonymous(kernelPath), 404, 'BLOB_UNKNOWN')
  expect(await push()).toMatchObject({ digest })
  await expectReadable(repository, bytes)
  expect((await registry.anonymous(kernelPath)).status).toBe(200)
})

it('a blob whose bytes are there keeps them, and the second copy is deleted', async () => {
  const repository = newRepository()
  const { digest, bytes } = await pushBlob(registry, repository)
  const { key } = await rowOf(digest)
  await pushBlob(registry, newRepository(), bytes)
  expect(await rowOf(digest)).toEqual({ key, lost: false })
  const blobsOfSize = 'select id from blobs where size = $1'
  const { rowCount } = await sweeper.client.query(blobsOfSize, [bytes.length])
  const copies = async () =>
    (await registry.storedObjects()).filter(({ size }) => size === bytes.length).length
  await expect.poll(copies).toBe(rowCount)
})

it('a failed read makes the blob unknown to every client, with one line in the log', async () => {
  const repository = newRepository()
  const layer = await pushBlob(registry, repository)
  const config = await pushBlob(registry, repository)
  const manifest = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: config.mediaType, digest: config.digest, size: config.size },
    layers: [{ mediaType: layer.mediaType, digest: layer.digest, size: layer.size }],
  }
  expect((await putManifest(registry, repository, 'v1', manifest)).status).toBe(201)
  await lose(layer.digest, layer.bytes)
  const path = blobPath(repository, layer.digest)
  const before = registry.log.length
  await expectUnknown(repository, layer.digest)
  await expectUnknown(repository, layer.digest)
  const lines = registry.log.slice(before).filter((line) => line.includes('the store lost'))
  expect(lines).toHaveLength(1)
  expect(lines[0]).toContain(layer.digest)
  expect((await registry.anonymous(path, { headers: { range: 'bytes=1-2' } })).status).toBe(404)
  const mounted = `/v2/${newRepository()}/blobs/uploads/?mount=${layer.digest}`
  for (const query of ['', `&from=${repository}`]) {
    expect((await registry.request(mounted + query, { method: 'POST' })).status).toBe(202)
  }
  const again = await putManifest(registry, repository, 'v2', manifest)
  await expectError(again, 400, 'MANIFEST_BLOB_UNKNOWN')
  await pushBlob(registry, repository, layer.bytes)
  expect((await putManifest(registry, repository, 'v2', manifest)).status).toBe(201)
  await expectReadable(repository, layer.bytes)
})

it('a kernel that is lost before it is analyzed is named to its pusher', async () => {
  const repository = newRepository()
  const bytes = kernelBytes()
  const { digest } = await pushBlob(registry, repository, bytes)
  const push = () => pushLayers(registry, repository, 'v1', [kernel(bytes)], UNIKERNEL)
  const { key } = await rowOf(digest)
  expect((await push()).status).toBe(201)
  await sweeper.client.query('delete from layer_analyses')
  await store.remove(key)
  const body = await registry.request(`/v2/${repository}/manifests/v1`).then((one) => one.text())
  const refused = await putManifest(registry, repository, 'v2', body)
  const text = await refused.clone().text()
  await expectError(refused, 400, 'MANIFEST_BLOB_UNKNOWN')
  expect(text).toContain(digest)
  expect(await rowOf(digest)).toEqual({ key, lost: true })
  await pushBlob(registry, repository, bytes)
  expect((await putManifest(registry, repository, 'v2', body)).status).toBe(201)
})

it('a scrub marks missing and corrupt blobs, and a push repairs them', async () => {
  const repository = newRepository()
  const [missing, changed] = [
    await pushBlob(registry, repository),
    await pushBlob(registry, repository),
  ]
  await lose(missing.digest, missing.bytes)
  const { key } = await rowOf(changed.digest)
  await store.put(key, one(randomBytes(changed.size)))
  const scrubbed = await rookery(registry, ['scrub'])
  expect(scrubbed).toMatchObject({ status: 1 })
  expect(scrubbed.stdout).toContain('unknown to clients until somebody pushes them again')
  for (const { digest, bytes } of [missing, changed]) {
    await expectUnknown(repository, digest)
    const mounted = await registry.request(
      `/v2/${newRepository()}/blobs/uploads/?mount=${digest}&from=${repository}`,
      { method: 'POST' },
    )
    expect(mounted.status).toBe(202)
    await pushBlob(registry, repository, bytes)
    await expectReadable(repository, bytes)
  }
  await deleteQueued()
  expect(await store.stat(key)).toBeUndefined()
  await expectReadable(repository, changed.bytes)
})

it('a scrub clears the mark when the bytes are back', async () => {
  const repository = newRepository()
  const { digest, bytes } = await pushBlob(registry, repository)
  const { key } = await rowOf(digest)
  await lose(digest, bytes)
  await expectUnknown(repository, digest)
  await store.put(key, one(bytes))
  await expectUnknown(repository, digest)
  const ran = await rookery(registry, ['scrub', '--json', '--restart'])
  expect(JSON.parse(ran.stdout).recovered).toBe(1)
  await expectReadable(repository, bytes)
  expect(await rowOf(digest)).toEqual({ key, lost: false })
})

it('pushes of the same lost blob at the same time all succeed, and one copy stays', async () => {
  const repository = newRepository()
  const { digest, bytes } = await pushBlob(registry, repository, randomBytes(1111))
  await lose(digest, bytes)
  const pushes = Array.from({ length: 8 }, () => pushBlob(registry, newRepository(), bytes))
  await Promise.all(pushes)
  await expectReadable(repository, bytes)
  await deleteQueued()
  const held = (await registry.storedObjects()).filter(({ size }) => size === 1111)
  expect(held.map(({ key }) => key)).toEqual([(await rowOf(digest)).key])
})

it('a lost blob that nobody references is collected like any other', async () => {
  const repository = newRepository()
  const { digest, bytes } = await pushBlob(registry, repository)
  await lose(digest, bytes)
  await expectUnknown(repository, digest)
  await sweeper.sweepAll()
  expect(await rowOf(digest)).toBeUndefined()
  await pushBlob(registry, repository, bytes)
  await expectReadable(repository, bytes)
})

describe('while the store has the mark of another installation', () => {
  it('a read is 503 and marks nothing, and pushes wait', async () => {
    const repository = newRepository()
    const { digest, bytes } = await pushBlob(registry, repository)
    const mark = await store.readMark()
    await lose(digest, bytes)
    await store.writeMark('c0ffee00-0000-4000-8000-000000000000')
    try {
      const path = blobPath(repository, digest)
      await expectError(await registry.anonymous(path), 503, 'UNAVAILABLE')
      expect(await rowOf(digest)).toMatchObject({ lost: false })
      await expectError(await registry.anonymous('/readyz'), 503, 'UNAVAILABLE')
      const started = `/v2/${repository}/blobs/uploads/`
      await expectError(await registry.request(started, { method: 'POST' }), 503, 'UNAVAILABLE')
      const push = await send(registry, 'POST', `${started}?digest=${digest}`, bytes)
      await expectError(push, 503, 'UNAVAILABLE')
      const scrubbed = await rookery(registry, ['scrub', '--restart', '--delete-orphans'])
      expect(scrubbed).toMatchObject({ status: 2, stdout: '' })
      expect(scrubbed.stderr).toContain('c0ffee00-0000-4000-8000-000000000000')
      expect(scrubbed.stderr).toContain(mark)
    } finally {
      await store.writeMark(mark ?? '')
    }
    expect((await registry.anonymous('/readyz')).status).toBe(200)
    await pushBlob(registry, repository, bytes)
    await expectReadable(repository, bytes)
    const lines = registry.log.filter((line) => line.includes('is not that of the database'))
    expect(lines).toHaveLength(1)
    expect(lines[0]).toContain('c0ffee00-0000-4000-8000-000000000000')
  })
})

import { randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, beforeEach, expect, it, vi } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { ProcessLock } from '../../src/db/process-lock.ts'
import { Deriver } from '../../src/derivation/deriver.ts'
import { parseReference, parseRepository } from '../../src/oci/reference.ts'
import { Blobs } from '../../src/registry/blobs.ts'
import { ImageAnalyzer } from '../../src/registry/images/analyzer.ts'
import { type ManifestPush, Manifests } from '../../src/registry/manifests.ts'
import { KernelBlobs } from '../../src/registry/unwrap/kernel-blobs.ts'
import { Unwrapper } from '../../src/registry/unwrap/unwrapper.ts'
import { Uploads } from '../../src/registry/uploads/uploads.ts'
import { FilesystemStore } from '../../src/storage/filesystem/filesystem-store.ts'
import { containerManifest, OCI_LAYER, tarOf } from '../support/container-images.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let db: Database
let reader: ImageAnalyzer
let unwrapper: Unwrapper
let withoutUnwrapping: Unwrapper
let reads: string[]
let sent: { text: string; rows: Promise<unknown> }[]

beforeAll(async () => {
  registry = await startRegistry()
  db = new Database({
    connection: registry.databaseUrl,
    connectionsMax: 2,
    onIdleError: () => {},
  })
  // A pull analyzes no images.
  const store = await FilesystemStore.open(registry.folder)
  const read = store.read.bind(store)
  vi.spyOn(store, 'read').mockImplementation((key, range) => {
    reads.push(key)
    return read(key, range)
  })
  reader = new ImageAnalyzer(db, store, new Deriver())
  const blobs = new Blobs(db, store, { visibility: 'public', graceSeconds: 3600 })
  const uploads = new Uploads(db, store, {
    ...{ lifetimeSeconds: 60, blobBytesMax: 1024, visibility: 'public' },
    processLock: new ProcessLock(),
  })
  const kernels = new KernelBlobs(blobs, uploads)
  unwrapper = new Unwrapper(db, store, reader, kernels, true)
  withoutUnwrapping = new Unwrapper(db, store, reader, kernels, false)
  // Records the statements sent to the real database.
  const query = db.query.bind(db)
  vi.spyOn(db, 'query').mockImplementation((text, values) => {
    const answer = query(text, values)
    sent.push({ text, rows: answer.then(({ rows }) => rows) })
    return answer as never
  })
  const transaction = db.transaction.bind(db)
  vi.spyOn(db, 'transaction').mockImplementation((work) =>
    transaction((tx) =>
      work({
        ...tx,
        query(text, values) {
          const answer = tx.query(text, values)
          sent.push({ text, rows: answer.then(({ rows }) => rows) })
          return answer as never
        },
      }),
    ),
  )
})

beforeEach(() => {
  sent = []
  reads = []
})

afterAll(async () => {
  await db.close()
  await registry.close()
})

const bytesSent = async () =>
  (await Promise.all(sent.map(({ rows }) => rows)))
    .flat()
    .map((row) => (row as { bytes: Buffer | null }).bytes !== null)

it('a manifest by tag takes one round trip, and its bytes are sent once', async () => {
  const name = newRepository()
  const image = await pushImage(registry, name, 'live')
  const manifests = new Manifests(db, 'public', reader, unwrapper)
  const view = { repository: parseRepository(name), publicOnly: true }
  for (let count = 0; count < 3; count += 1) {
    const found = await manifests.find(view, parseReference('live'), { withBytes: true })
    expect(found.bytes?.toString()).toBe(image.body)
  }
  expect(await bytesSent()).toEqual([true, false, false])
  const moved = await pushImage(registry, name, 'live')
  sent = []
  const found = await manifests.find(view, parseReference('live'), { withBytes: true })
  expect(found.bytes?.toString()).toBe(moved.body)
  expect(await bytesSent()).toEqual([true])
})

it('a cached manifest by digest takes one query, for the permission only', async () => {
  const name = newRepository()
  const image = await pushImage(registry, name, 'live')
  const manifests = new Manifests(db, 'public', reader, unwrapper)
  const view = { repository: parseRepository(name), publicOnly: true }
  await manifests.find(view, parseReference('live'), { withBytes: true })
  for (const bytes of [true, false]) {
    const found = await manifests.find(view, parseReference(image.digest), { withBytes: bytes })
    expect(found.size).toBe(image.size)
  }
  expect(await bytesSent()).toEqual([true, false, false])
  await registry.request(`/v2/${name}/manifests/${image.digest}`, { method: 'DELETE' })
  const gone = manifests.find(view, parseReference(image.digest), { withBytes: true })
  await expect(gone).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' })
})

it('64 simultaneous readers share round trips', async () => {
  const name = newRepository()
  await pushImage(registry, name, 'live')
  const manifests = new Manifests(db, 'public', reader, unwrapper)
  const view = { repository: parseRepository(name), publicOnly: true }
  const readers = Array.from({ length: 64 }, () =>
    manifests.find(view, parseReference('live'), { withBytes: true }),
  )
  await Promise.all(readers)
  expect(sent.length).toBe(1)
})

const gzippedLayer = async () =>
  gzipSync(
    await tarOf([
      ['etc/passwd', 'root:x:0:0'],
      ['salt', randomBytes(9).toString('hex')],
    ]),
  )

/** Pushes the blobs of a container image, and returns the push of its manifest. */
async function pushOf(layers: Buffer[], layerType?: string): Promise<ManifestPush> {
  const name = newRepository()
  const options = { kind: 'oci', ...(layerType && { layerType }) } as const
  const manifest = await containerManifest(registry, name, layers, options)
  const nobody = { origin: null, tokenId: null, keyId: null, address: null, requestId: null }
  return {
    repository: parseRepository(name),
    reference: parseReference('live'),
    tags: [],
    contentType: manifest.mediaType,
    bytes: Buffer.from(JSON.stringify(manifest)),
    actor: { name: 'builder', ...nobody },
    precondition: { kind: 'none' },
    bounds: undefined,
  }
}

/** Counts the statements of a push, with begin and commit. */
async function statementsOf(push: ManifestPush, of = unwrapper): Promise<number> {
  sent = []
  reads = []
  await new Manifests(db, 'public', reader, of).put(push)
  return sent.length + 2
}

it('a container image of new ordinary layers takes one statement more than without unwrapping', async () => {
  const plain = await statementsOf(await pushOf([await gzippedLayer()]), withoutUnwrapping)
  expect(plain).toBeLessThanOrEqual(7)
  const push = await pushOf([await gzippedLayer(), await gzippedLayer(), await gzippedLayer()])
  expect(await statementsOf(push)).toBe(plain + 1)
  expect(reads.length).toBe(3)
  await statementsOf(push)
  expect(reads).toEqual([])
})

it('a container image of layers that are no archives takes no statement more', async () => {
  const bytes = () => randomBytes(2000)
  const plain = await statementsOf(await pushOf([bytes()], OCI_LAYER), withoutUnwrapping)
  expect(await statementsOf(await pushOf([bytes()], OCI_LAYER))).toBe(plain)
})

it('a push that is refused keeps what it read: the next one reads no layer', async () => {
  const push = await pushOf([await gzippedLayer()])
  const precondition = { kind: 'match', digests: '*' } as const
  const refused = statementsOf({ ...push, precondition })
  await expect(refused).rejects.toMatchObject({ code: 'PRECONDITION_FAILED' })
  expect(reads.length).toBe(1)
  await statementsOf(push)
  expect(reads).toEqual([])
})

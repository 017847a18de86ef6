import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { Database } from '../../src/db/database.ts'
import { Deriver } from '../../src/derivation/deriver.ts'
import { parseManifest } from '../../src/oci/manifest.ts'
import { IMAGE_MANIFEST } from '../../src/oci/media-type.ts'
import { parseRepository } from '../../src/oci/reference.ts'
import { ImageAnalyzer } from '../../src/registry/images/analyzer.ts'
import { startReanalysis } from '../../src/registry/images/reanalysis.ts'
import { openBlobStore } from '../../src/server/blob-store.ts'
import { newRepository, pushBlob } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { EMPTY, fixture, KERNEL, PLAIN, pushBuild, pushLayers } from './image-fixtures.ts'

let registry: TestRegistry
let db: Database
let client: pg.Client
let closeStore: () => void
let analyzer: ImageAnalyzer
let reads: string[]

beforeAll(async () => {
  registry = await startRegistry()
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
  db = new Database({
    connection: registry.databaseUrl,
    connectionsMax: 2,
    onIdleError: () => {},
  })
  const { store, close } = await openBlobStore(parseConfig(registry.settings), registry.folder)
  closeStore = close
  const read = store.read.bind(store)
  // Counts the reads of the real store.
  vi.spyOn(store, 'read').mockImplementation((key, range) => {
    reads.push(key)
    return read(key, range)
  })
  analyzer = new ImageAnalyzer(db, store, new Deriver())
})

beforeEach(() => {
  reads = []
})

afterAll(async () => {
  closeStore()
  await db.close()
  await client.end()
  await registry.close()
})

const plainLayers = (count: number) =>
  Array.from({ length: count }, (_, index) => ({
    mediaType: PLAIN,
    bytes: Buffer.from(`plain layer ${index} ${Math.random()}`),
    title: `layer-${index}`,
  }))

/** Forgets all analyses, as if the manifests came from an earlier release. */
async function forgetAnalyses(): Promise<void> {
  await client.query('delete from layer_analyses')
}

/** Analyzes a pushed manifest as a push of it does. */
async function analyze(repository: string, reference: string) {
  const answer = await registry.request(`/v2/${repository}/manifests/${reference}`, {
    headers: { accept: IMAGE_MANIFEST },
  })
  const manifest = parseManifest(Buffer.from(await answer.arrayBuffer()), IMAGE_MANIFEST)
  return analyzer.analyze(parseRepository(repository), manifest, 'builder')
}

describe('a plain image of eight layers', () => {
  it('has its layers opened by the first push only', async () => {
    const repository = newRepository()
    await pushLayers(registry, repository, 'v1', plainLayers(8))
    expect((await analyze(repository, 'v1')).image).toBeUndefined()
    expect(reads).toEqual([])

    await forgetAnalyses()
    await analyze(repository, 'v1')
    expect(new Set(reads).size).toBe(8)
    reads = []
    await analyze(repository, 'v1')
    expect(reads).toEqual([])
  })

  it('is opened again by another version of the analyzer', async () => {
    const repository = newRepository()
    await pushLayers(registry, repository, 'v1', plainLayers(8))
    await client.query('update layer_analyses set analyzer_version = analyzer_version - 1')
    await analyze(repository, 'v1')
    expect(new Set(reads).size).toBe(8)
  })

  it('is not opened by a re-analysis of its manifest', async () => {
    const repository = newRepository()
    await pushLayers(registry, repository, 'v1', plainLayers(8))
    await client.query(
      `update manifests
          set analyzer_version = 0
        where repository_id = (select id from repositories where name = $1)`,
      [repository],
    )
    const done = new Promise((resolve, reject) => {
      const loop = startReanalysis(
        db,
        analyzer,
        (result) => void loop.stop().then(() => resolve(result)),
        reject,
      )
    })
    expect(await done).toMatchObject({ manifests: 1, images: 0, refused: 0 })
    expect(reads).toEqual([])
  })
})

it('a blob that several layers have is opened once in a push', async () => {
  const repository = newRepository()
  const [layer] = plainLayers(1)
  if (layer === undefined) throw new Error('no layer')
  await pushLayers(registry, repository, 'v1', [layer, layer, { ...layer, title: 'twin' }])
  await forgetAnalyses()
  await analyze(repository, 'v1')
  expect(reads).toHaveLength(1)
})

it('a unikernel is read by its first push only, also for its build hashes', async () => {
  const repository = newRepository()
  await pushBuild(registry, repository, 'v1')
  const first = await analyze(repository, 'v1')
  expect(first.image?.kernel.solo5?.abi.target).toBe('hvt')
  expect(reads).toEqual([])
})

it('a malformed layer that declares no role is opened once', async () => {
  const repository = newRepository()
  const bytes = fixture('elf/mini-net.hvt').subarray(0, 100)
  await pushLayers(registry, repository, 'v1', [{ mediaType: PLAIN, bytes, title: 'cut' }])
  expect((await analyze(repository, 'v1')).image).toBeUndefined()
  expect(reads).toEqual([])
})

it('a declared kernel that is not one is refused again without being opened', async () => {
  const repository = newRepository()
  const { bytes: _bytes, ...blob } = await pushBlob(registry, repository)
  const layers = [{ ...blob, mediaType: KERNEL }]
  await pushBlob(registry, repository, Buffer.from('{}'))
  const image = { schemaVersion: 2, mediaType: IMAGE_MANIFEST, config: EMPTY, layers }
  const manifest = parseManifest(Buffer.from(JSON.stringify(image)), IMAGE_MANIFEST)
  for (const count of [1, 0]) {
    reads = []
    await expect(
      analyzer.analyze(parseRepository(repository), manifest, 'builder'),
    ).rejects.toMatchObject({
      code: 'MANIFEST_INVALID',
    })
    expect(reads).toHaveLength(count)
  }
})

import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { DOCKER_MANIFEST_LIST, IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import {
  expectError,
  newRepository,
  pushBlob,
  pushImage,
  pushImageBlobs,
  putManifest,
} from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let repository: string

beforeAll(async () => {
  registry = await startRegistry()
  repository = newRepository()
})

afterAll(() => registry.close())

describe('end-7: a manifest', () => {
  it.each([
    'text/plain; charset=utf-8',
    'application/vnd.dev.sigstore.bundle+json;version=0.2',
    'notes',
  ])('may have layers and an artifact type like %s', async (mediaType) => {
    const name = newRepository()
    const { bytes: _bytes, ...blob } = await pushBlob(registry, name)
    const { bytes: _config, ...config } = await pushBlob(registry, name, Buffer.from('{}'))
    const subject = { mediaType: IMAGE_MANIFEST, digest: digestOf(randomBytes(9)), size: 9 }
    const answer = await putManifest(registry, name, 'v1', {
      schemaVersion: 2,
      mediaType: IMAGE_MANIFEST,
      artifactType: mediaType,
      config: { ...config, mediaType },
      layers: [{ ...blob, mediaType }],
      subject,
    })
    expect(answer.status).toBe(201)
    const filter = `artifactType=${encodeURIComponent(mediaType)}`
    const referrers = await registry.anonymous(`/v2/${name}/referrers/${subject.digest}?${filter}`)
    expect(await referrers.json()).toMatchObject({ manifests: [{ artifactType: mediaType }] })
  })

  it.each(['', 'a'.repeat(256), 'text/plain\u001b[2J', 'text/\u202enialp'])(
    'with a layer of the type %j is refused',
    async (mediaType) => {
      const manifest = await pushImageBlobs(registry, repository)
      const [layer] = manifest.layers as object[]
      const layers = [{ ...layer, mediaType }]
      const answer = await putManifest(registry, repository, 'typed', { ...manifest, layers })
      await expectError(answer, 400, 'MANIFEST_INVALID')
    },
  )

  it.each([IMAGE_INDEX, DOCKER_MANIFEST_LIST])(
    'may be an index (%s) of blobs, as the cache of BuildKit is',
    async (mediaType) => {
      const name = newRepository()
      const { bytes: _bytes, ...blob } = await pushBlob(registry, name)
      const image = await pushImage(registry, name)
      const layer = { ...blob, mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip' }
      const config = { ...layer, mediaType: 'application/vnd.buildkit.cacheconfig.v0' }
      const { body: _body, ...child } = image
      const nested = { ...child, mediaType: 'application/vnd.example.thing+json' }
      const index = { schemaVersion: 2, mediaType, manifests: [layer, config, nested] }
      expect((await putManifest(registry, name, 'cache', index)).status).toBe(201)
      const kept = await registry.request(`/v2/${name}/blobs/${blob.digest}`, { method: 'DELETE' })
      await expectError(kept, 403, 'DENIED')
      const missing = { ...layer, digest: digestOf(randomBytes(9)) }
      const broken = { ...index, manifests: [missing] }
      const answer = await putManifest(registry, name, 'broken', broken)
      expect(await answer.clone().text()).toContain(`has no manifest or blob ${missing.digest}`)
      await expectError(answer, 400, 'MANIFEST_BLOB_UNKNOWN')
    },
  )

  it.each([
    'application/vnd.docker.distribution.manifest.v1+json',
    'application/vnd.docker.distribution.manifest.v1+prettyjws',
    'application/vnd.docker.distribution.manifest.v1+prettyjws; charset=utf-8',
    // Its content alone.
    'application/json',
    'application/vnd.example.thing+json',
    DOCKER_MANIFEST_LIST,
  ])("of Docker's schema 1 (%s) is refused, naming what to push", async (type) => {
    const schema1 = { schemaVersion: 1, name: repository, tag: 'old', fsLayers: [], history: [] }
    const headers = { 'content-type': type }
    const answer = await putManifest(registry, repository, 'old', JSON.stringify(schema1), headers)
    expect(await answer.clone().text()).toContain(`push ${IMAGE_MANIFEST}`)
    await expectError(answer, 400, 'MANIFEST_INVALID')
  })
})

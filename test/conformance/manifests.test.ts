import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { EMPTY_JSON, IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
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

const at = (reference: string, name = repository) => `/v2/${name}/manifests/${reference}`

describe('end-3: pulling a manifest', () => {
  it('by tag and by digest returns the very bytes that were pushed', async () => {
    const manifest = await pushImageBlobs(registry, repository)
    // Spaces, order, unknown fields and escapes stay as pushed.
    const body = `  ${JSON.stringify({ 'x-unknown': { '\u0000': 'é' }, ...manifest }, null, 3)}\n`
    expect((await putManifest(registry, repository, 'exact', body)).status).toBe(201)
    const digest = digestOf(body)
    for (const reference of ['exact', digest, 'exact']) {
      const answer = await registry.anonymous(at(reference))
      expect(answer.status).toBe(200)
      expect(answer.headers.get('content-type')).toBe(IMAGE_MANIFEST)
      expect(answer.headers.get('docker-content-digest')).toBe(digest)
      expect(answer.headers.get('etag')).toBe(`"${digest}"`)
      expect(await answer.text()).toBe(body)
      const head = await registry.anonymous(at(reference), { method: 'HEAD' })
      expect(head.headers.get('content-length')).toBe(String(Buffer.byteLength(body)))
      expect(head.headers.get('content-type')).toBe(IMAGE_MANIFEST)
      expect(head.headers.get('docker-content-digest')).toBe(digest)
      expect(await head.text()).toBe('')
    }
  })

  it('is 304 for a client that has it already', async () => {
    const { digest } = await pushImage(registry, repository, 'polled')
    for (const tag of [`"${digest}"`, digest, '*', `"x", W/"${digest}"`]) {
      for (const method of ['GET', 'HEAD']) {
        const headers = { 'if-none-match': tag }
        const answer = await registry.anonymous(at('polled'), { method, headers })
        expect([tag, answer.status, await answer.text()]).toEqual([tag, 304, ''])
      }
    }
    const moved = await pushImage(registry, repository, 'polled')
    const answer = await registry.anonymous(at('polled'), {
      headers: { 'if-none-match': `"${digest}"` },
    })
    expect([answer.status, await answer.text()]).toEqual([200, moved.body])
  })

  it('that does not exist is 404, also by a malformed tag', async () => {
    for (const reference of ['missing', '.INVALID_MANIFEST_NAME', digestOf('x'), 'a'.repeat(129)]) {
      await expectError(await registry.anonymous(at(reference)), 404, 'MANIFEST_UNKNOWN')
    }
  })

  it('by a malformed digest is 400', async () => {
    for (const reference of ['sha256:totallywrong', 'md5:00', 'sha256:']) {
      await expectError(await registry.anonymous(at(reference)), 400, 'DIGEST_INVALID')
    }
  })
})

describe('end-7a: pushing a manifest', () => {
  it('by its sha512 digest, and a tag with it', async () => {
    const body = JSON.stringify(await pushImageBlobs(registry, repository))
    const digest = digestOf(body, 'sha512')
    const answer = await putManifest(registry, repository, `${digest}?tag=long`, body)
    expect(answer.status).toBe(201)
    const pulled = await registry.anonymous(at('long'))
    expect(pulled.headers.get('docker-content-digest')).toBe(digest)
    expect(await pulled.text()).toBe(body)
  })

  it('under a wrong digest is 400', async () => {
    const manifest = await pushImageBlobs(registry, repository)
    const answer = await putManifest(registry, repository, digestOf('other'), manifest)
    await expectError(answer, 400, 'DIGEST_INVALID')
  })

  it.each([4, 8])('of %i MiB is stored byte for byte', async (mebibytes) => {
    const manifest = await pushImageBlobs(registry, repository)
    const bare = JSON.stringify({ ...manifest, annotations: { padding: '' } }).length
    const padding = 'x'.repeat(mebibytes * 1024 * 1024 - bare)
    const body = JSON.stringify({ ...manifest, annotations: { padding } })
    expect(body.length).toBe(mebibytes * 1024 * 1024)
    expect((await putManifest(registry, repository, 'large', body)).status).toBe(201)
    expect(await (await registry.anonymous(at('large'))).text()).toBe(body)
  })

  it('of more than 8 MiB is 413, with a length and without', async () => {
    const body = new Uint8Array(8 * 1024 * 1024 + 1).fill(0x20)
    const headers = { 'content-type': IMAGE_MANIFEST }
    const stream = new Blob([body]).stream()
    for (const init of [{ body }, { body: stream, duplex: 'half' }] as RequestInit[]) {
      const answer = await registry.request(at('huge'), { method: 'PUT', headers, ...init })
      await expectError(answer, 413, 'PAYLOAD_TOO_LARGE')
    }
  })

  it('whose blobs are missing is refused, and the error names them', async () => {
    const manifest = await pushImageBlobs(registry, repository)
    const missing = { mediaType: 'a/b', size: 1, digest: digestOf(randomBytes(9)) }
    const answer = await putManifest(registry, repository, 'lacking', {
      ...manifest,
      layers: [missing],
    })
    expect(await answer.clone().text()).toContain(missing.digest)
    await expectError(answer, 400, 'MANIFEST_BLOB_UNKNOWN')
    await expectError(await registry.anonymous(at('lacking')), 404, 'MANIFEST_UNKNOWN')
  })

  it('whose blob is only in another repository is refused', async () => {
    const manifest = await pushImageBlobs(registry, newRepository())
    const answer = await putManifest(registry, repository, 'foreign', manifest)
    await expectError(answer, 400, 'MANIFEST_BLOB_UNKNOWN')
  })

  it('with a wrong size of a blob is refused', async () => {
    const manifest = await pushImageBlobs(registry, repository)
    const [layer] = manifest.layers as { size: number }[]
    const layers = [{ ...layer, size: (layer?.size ?? 0) + 1 }]
    const answer = await putManifest(registry, repository, 'size', { ...manifest, layers })
    await expectError(answer, 400, 'MANIFEST_INVALID')
  })

  it('needs no non-distributable layers, and the empty descriptor’s blob like any other', async () => {
    const name = newRepository()
    const empty = { mediaType: EMPTY_JSON, digest: digestOf('{}'), size: 2 }
    const foreign = {
      mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
      digest: digestOf(randomBytes(8)),
      size: 8,
    }
    const image = {
      schemaVersion: 2,
      mediaType: IMAGE_MANIFEST,
      config: empty,
      layers: [foreign, empty],
    }
    await pushBlob(registry, name)
    await expectError(
      await putManifest(registry, name, 'first', image),
      400,
      'MANIFEST_BLOB_UNKNOWN',
    )
    await pushBlob(registry, name, Buffer.from('{}'))
    expect((await putManifest(registry, name, 'first', image)).status).toBe(201)
  })

  it('whose media type is not its Content-Type is refused, naming both', async () => {
    const manifest = await pushImageBlobs(registry, repository)
    const headers = { 'content-type': IMAGE_INDEX }
    const answer = await putManifest(registry, repository, 'two-types', manifest, headers)
    const text = await answer.clone().text()
    expect(text).toContain(IMAGE_INDEX)
    expect(text).toContain(IMAGE_MANIFEST)
    await expectError(answer, 400, 'MANIFEST_INVALID')
  })

  it('with manifests and layers is refused', async () => {
    const manifest = { ...(await pushImageBlobs(registry, repository)), manifests: [] }
    const answer = await putManifest(registry, repository, 'both', manifest)
    await expectError(answer, 400, 'MANIFEST_INVALID')
  })

  it.each([
    ['not JSON', '{'],
    ['a list', '[]'],
    ['empty', ''],
    ['without a config', JSON.stringify({ schemaVersion: 2, layers: [] })],
    ['with layers that are none', JSON.stringify({ config: 1, layers: {} })],
  ])('that is %s is refused', async (_what, body) => {
    const headers = { 'content-type': IMAGE_MANIFEST }
    const answer = await registry.request(at('bad'), { method: 'PUT', headers, body })
    await expectError(answer, 400, 'MANIFEST_INVALID')
  })

  it('ignores parameters of the Content-Type, which may be missing when the body has a mediaType', async () => {
    const manifest = await pushImageBlobs(registry, repository)
    const headers = { 'content-type': `${IMAGE_MANIFEST}; charset=utf-8` }
    expect((await putManifest(registry, repository, 'p', manifest, headers)).status).toBe(201)
    const answer = await registry.anonymous(at('p'))
    expect(answer.headers.get('content-type')).toBe(IMAGE_MANIFEST)
    const body = new Uint8Array(Buffer.from(JSON.stringify(manifest)))
    const untyped = await registry.request(at('untyped'), { method: 'PUT', body })
    expect(untyped.status).toBe(201)
  })

  it.each(['application/vnd.example.unheard+json', 'application/vnd.example.unheard'])(
    'of the unknown type %s is stored with any content',
    async (mediaType) => {
      for (const body of ['{"layers":"?","subject":7}', 'no JSON at all', '{}']) {
        const headers = { 'content-type': mediaType }
        const put = await registry.request(at('odd'), { method: 'PUT', headers, body })
        expect(put.status).toBe(201)
        const answer = await registry.anonymous(at('odd'))
        expect(answer.headers.get('content-type')).toBe(mediaType)
        expect(await answer.text()).toBe(body)
      }
    },
  )

  it('an index needs its children in the repository', async () => {
    const { body: _body, ...child } = await pushImage(registry, repository)
    const index = { schemaVersion: 2, mediaType: IMAGE_INDEX, manifests: [child] }
    expect((await putManifest(registry, repository, 'index', index)).status).toBe(201)
    const answer = await putManifest(registry, newRepository(), 'index', index)
    await expectError(answer, 400, 'MANIFEST_BLOB_UNKNOWN')
  })

  it('with a subject gets OCI-Subject, also when the subject is missing', async () => {
    const subject = { mediaType: IMAGE_MANIFEST, digest: digestOf(randomBytes(4)), size: 4 }
    const manifest = await pushImageBlobs(registry, repository, { subject })
    const answer = await putManifest(registry, repository, 'refers', manifest)
    expect(answer.status).toBe(201)
    expect(answer.headers.get('oci-subject')).toBe(subject.digest)
  })
})

describe('end-7b: several tags in one push', () => {
  it('are all set, and echoed', async () => {
    const name = newRepository()
    const body = JSON.stringify(await pushImageBlobs(registry, name))
    const digest = digestOf(body)
    const answer = await putManifest(registry, name, `${digest}?tag=1.2.3&tag=1.2&tag=latest`, body)
    expect(answer.status).toBe(201)
    expect(answer.headers.get('oci-tag')).toBe('1.2.3, 1.2, latest')
    for (const tag of ['1.2.3', '1.2', 'latest']) {
      const pulled = await registry.anonymous(at(tag, name))
      expect(pulled.headers.get('docker-content-digest')).toBe(digest)
    }
  })

  it('one of them malformed: 400 and none is set; more than 64: 414', async () => {
    const name = newRepository()
    const body = JSON.stringify(await pushImageBlobs(registry, name))
    const digest = digestOf(body)
    const bad = await putManifest(registry, name, `${digest}?tag=good&tag=-bad`, body)
    await expectError(bad, 400, 'TAG_INVALID')
    await expectError(await registry.anonymous(at('good', name)), 404, 'MANIFEST_UNKNOWN')
    const many = Array.from({ length: 65 }, (_, index) => `tag=t${index}`).join('&')
    const answer = await putManifest(registry, name, `${digest}?${many}`, body)
    await expectError(answer, 414, 'URI_TOO_LONG')
  })
})

describe('end-9: deleting', () => {
  it('a tag keeps the manifest and its other tags', async () => {
    const name = newRepository()
    const { digest, body } = await pushImage(registry, name, 'a')
    await putManifest(registry, name, 'b', body)
    expect((await registry.request(at('a', name), { method: 'DELETE' })).status).toBe(202)
    const heads = ['a', 'b', digest].map((reference) =>
      registry.request(at(reference, name), { method: 'HEAD' }),
    )
    expect((await Promise.all(heads)).map(({ status }) => status)).toEqual([404, 200, 200])
  })

  it('a manifest deletes all its tags', async () => {
    const name = newRepository()
    const { digest, body } = await pushImage(registry, name, 'a')
    await putManifest(registry, name, 'b', body)
    const other = await pushImage(registry, name, 'other')
    expect((await registry.request(at(digest, name), { method: 'DELETE' })).status).toBe(202)
    for (const reference of ['a', 'b', digest]) {
      expect((await registry.request(at(reference, name), { method: 'HEAD' })).status).toBe(404)
    }
    expect((await registry.request(at(other.digest, name))).status).toBe(200)
    const list = await registry.request(`/v2/${name}/tags/list`)
    expect(await list.json()).toEqual({ name, tags: ['other'] })
  })

  it('a missing tag or manifest is 404', async () => {
    for (const reference of ['missing', digestOf('x')]) {
      const answer = await registry.request(at(reference), { method: 'DELETE' })
      await expectError(answer, 404, 'MANIFEST_UNKNOWN')
      const nowhere = await registry.request(at(reference, newRepository()), { method: 'DELETE' })
      await expectError(nowhere, 404, 'NAME_UNKNOWN')
    }
  })

  it('a child is possible when no tag needs it; its index stays, and it can be pushed again', async () => {
    const name = newRepository()
    const { body, ...child } = await pushImage(registry, name)
    const index = { schemaVersion: 2, mediaType: IMAGE_INDEX, manifests: [child] }
    const pushed = await putManifest(registry, name, 'index', index)
    const digest = pushed.headers.get('docker-content-digest') ?? ''
    const removeChild = () => registry.request(at(child.digest, name), { method: 'DELETE' })
    await expectError(await removeChild(), 403, 'DENIED')
    expect((await registry.request(at('index', name), { method: 'DELETE' })).status).toBe(202)
    expect((await removeChild()).status).toBe(202)
    expect((await registry.anonymous(at(digest, name))).status).toBe(200)
    expect((await putManifest(registry, name, child.digest, body)).status).toBe(201)
  })
})

describe('end-7a, end-9: conditional changes', () => {
  it('If-None-Match: * creates a tag once', async () => {
    const name = newRepository()
    const first = await pushImageBlobs(registry, name)
    const second = await pushImageBlobs(registry, name)
    const once = { 'if-none-match': '*' }
    expect((await putManifest(registry, name, 'v1', first, once)).status).toBe(201)
    const answer = await putManifest(registry, name, 'v1', second, once)
    expect(await answer.clone().text()).toContain(digestOf(JSON.stringify(first)))
    await expectError(answer, 412, 'PRECONDITION_FAILED')
    const pulled = await registry.anonymous(at('v1', name))
    expect(await pulled.text()).toBe(JSON.stringify(first))
    // The refused push stores nothing.
    const refused = await registry.anonymous(at(digestOf(JSON.stringify(second)), name))
    expect(refused.status).toBe(404)
  })

  it('If-Match moves a tag only from the digest in it', async () => {
    const name = newRepository()
    const seen = await pushImage(registry, name, 'live')
    const next = await pushImageBlobs(registry, name)
    const matching = (digest: string) => ({ 'if-match': `"${digest}"` })
    const wrong = await putManifest(registry, name, 'live', next, matching(digestOf('x')))
    await expectError(wrong, 412, 'PRECONDITION_FAILED')
    const right = await putManifest(registry, name, 'live', next, matching(seen.digest))
    expect(right.status).toBe(201)
    const late = await putManifest(registry, name, 'live', next, matching(seen.digest))
    await expectError(late, 412, 'PRECONDITION_FAILED')
  })

  it('apply to several tags, all or none', async () => {
    const name = newRepository()
    await pushImage(registry, name, 'taken')
    const manifest = await pushImageBlobs(registry, name)
    const digest = digestOf(JSON.stringify(manifest))
    const reference = `${digest}?tag=free&tag=taken`
    const once = { 'if-none-match': '*' }
    const answer = await putManifest(registry, name, reference, manifest, once)
    await expectError(answer, 412, 'PRECONDITION_FAILED')
    expect((await registry.anonymous(at('free', name))).status).toBe(404)
  })

  it('apply to deletes; both at once are 400', async () => {
    const name = newRepository()
    const { digest } = await pushImage(registry, name, 'live')
    const remove = (headers: Record<string, string>) =>
      registry.request(at('live', name), { method: 'DELETE', headers })
    const wrong = { 'if-match': `"${digestOf('x')}"` }
    await expectError(await remove(wrong), 412, 'PRECONDITION_FAILED')
    const both = await remove({ ...wrong, 'if-none-match': '*' })
    await expectError(both, 400, 'REQUEST_INVALID')
    expect((await registry.anonymous(at('live', name))).status).toBe(200)
    expect((await remove({ 'if-match': `"${digest}"` })).status).toBe(202)
  })
})

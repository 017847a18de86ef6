import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential, openTokenMinter } from '../auth/credentials-client.ts'
import { digestOf } from '../support/digest.ts'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import {
  newRepository,
  type PushedImage,
  pushBlob,
  pushImage,
  pushImageBlobs,
  putManifest,
} from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let edge: { authorization: string }

beforeAll(async () => {
  registry = await startRegistry()
  const { name, secret } = await makeCredential(registry, {
    repositories: ['conformance/*'],
    actions: ['pull', 'push', 'delete', 'admin'],
    tags: ['edge', 'edge-*'],
  })
  edge = { authorization: basic(name, secret) }
})
afterAll(() => registry.close())

const as = (
  method: string,
  repository: string,
  path: string,
  headers: Record<string, string> = {},
  body?: string,
) =>
  registry.anonymous(`/v2/${repository}/${path}`, {
    method,
    headers: { ...edge, ...headers },
    ...(body === undefined ? {} : { body }),
  })
const put = (repository: string, reference: string, manifest: object | string, type?: string) => {
  const body = typeof manifest === 'string' ? manifest : JSON.stringify(manifest)
  const { mediaType = IMAGE_MANIFEST } = manifest as { mediaType?: string }
  return as(
    'PUT',
    repository,
    `manifests/${reference}`,
    { 'content-type': type ?? mediaType },
    body,
  )
}
const remove = (repository: string, path: string) =>
  registry.request(`/v2/${repository}/${path}`, { method: 'DELETE' })

const descriptorOf = ({ mediaType, digest, size }: PushedImage) => ({ mediaType, digest, size })
const partsOf = ({ body }: PushedImage): string[] => {
  const { config, layers } = JSON.parse(body)
  return [config.digest, ...layers.map((layer: { digest: string }) => layer.digest)]
}

// Only the Content-Type of the push states its media type.
const UNTYPED = { mediaType: undefined }

async function pushIndex(repository: string, tag: string, children: PushedImage[], more = {}) {
  const index = {
    schemaVersion: 2,
    mediaType: IMAGE_INDEX,
    manifests: children.map(descriptorOf),
    ...more,
  }
  const reference = tag === '' ? digestOf(JSON.stringify(index)) : tag
  expect((await putManifest(registry, repository, reference, index)).status).toBe(201)
  const body = JSON.stringify(index)
  const size = Buffer.byteLength(body)
  return { mediaType: IMAGE_INDEX, digest: digestOf(body), size, body }
}

const pushReferrer = (repository: string, subject: PushedImage) =>
  pushImage(registry, repository, undefined, { subject: descriptorOf(subject) })

async function expectDenied(answer: Response, tag: string): Promise<void> {
  const text = await answer.text()
  expect({ status: answer.status, text }).toMatchObject({ status: 403 })
  expect(JSON.parse(text).errors[0]).toMatchObject({ code: 'DENIED', detail: { tag } })
  expect(JSON.parse(text).errors[0].message).toContain(`tag ${tag}`)
}

describe('nobody deletes a part of a tagged image', () => {
  it('neither its blobs, nor a child of an index, nor a blob of the child', async () => {
    const repository = newRepository()
    const child = await pushImage(registry, repository)
    const inner = await pushIndex(repository, '', [child])
    const index = await pushIndex(repository, 'live', [inner])
    for (const digest of partsOf(child)) {
      await expectDenied(await remove(repository, `blobs/${digest}`), 'live')
      await expectDenied(await as('DELETE', repository, `blobs/${digest}`), 'live')
    }
    for (const { digest } of [child, inner]) {
      await expectDenied(await remove(repository, `manifests/${digest}`), 'live')
      await expectDenied(await as('DELETE', repository, `manifests/${digest}`), 'live')
    }
    expect((await remove(repository, `manifests/${index.digest}`)).status).toBe(202)
    expect((await remove(repository, `manifests/${inner.digest}`)).status).toBe(202)
    expect((await remove(repository, `manifests/${child.digest}`)).status).toBe(202)
    for (const digest of partsOf(child)) {
      expect((await remove(repository, `blobs/${digest}`)).status).toBe(202)
    }
  })

  it('until its tag is deleted; a tag in another repository does not keep it', async () => {
    const repository = newRepository()
    const other = newRepository()
    const image = await pushImage(registry, repository, 'live')
    const [, layer = ''] = partsOf(image)
    const mounted = `/v2/${other}/blobs/uploads/?mount=${layer}&from=${repository}`
    expect((await registry.request(mounted, { method: 'POST' })).status).toBe(201)
    expect((await remove(other, `blobs/${layer}`)).status).toBe(202)
    await expectDenied(await remove(repository, `blobs/${layer}`), 'live')
    expect((await remove(repository, 'manifests/live')).status).toBe(202)
    expect((await remove(repository, `blobs/${layer}`)).status).toBe(202)
  })

  it('a manifest of several tags goes with them, but not with a foreign one', async () => {
    const repository = newRepository()
    const image = await pushImage(registry, repository, 'edge')
    expect((await put(repository, 'edge-2', image.body)).status).toBe(201)
    await putManifest(registry, repository, 'live', image.body)
    await expectDenied(await as('DELETE', repository, `manifests/${image.digest}`), 'live')
    await remove(repository, 'manifests/live')
    expect((await as('DELETE', repository, `manifests/${image.digest}`)).status).toBe(202)
  })
})

describe('an index of somebody else', () => {
  it('keeps its children, but no tag of them, and an administrator ends it', async () => {
    const repository = newRepository()
    const image = await pushImage(registry, repository, 'live')
    const index = {
      schemaVersion: 2,
      mediaType: IMAGE_INDEX,
      manifests: [descriptorOf(image)],
    }
    const { status } = await put(repository, 'edge-index', JSON.stringify(index), IMAGE_INDEX)
    expect(status).toBe(201)
    const { name, secret } = await makeCredential(registry, {
      repositories: [repository],
      actions: ['delete'],
      tags: ['live'],
    })
    const asOwner = (path: string) =>
      registry.anonymous(`/v2/${repository}/${path}`, {
        method: 'DELETE',
        headers: { authorization: basic(name, secret) },
      })
    await expectDenied(await asOwner(`manifests/${image.digest}`), 'edge-index')
    expect((await asOwner('manifests/live')).status).toBe(202)
    expect((await registry.request(`/v2/${repository}/manifests/live`)).status).toBe(404)
    expect((await remove(repository, 'manifests/edge-index')).status).toBe(202)
    expect((await remove(repository, `manifests/${image.digest}`)).status).toBe(202)
  })
})

describe('the referrers of an image belong to its tags', () => {
  it('a credential for other tags neither deletes nor breaks them', async () => {
    const repository = newRepository()
    const image = await pushImage(registry, repository)
    await pushIndex(repository, 'live', [image])
    const signature = await pushReferrer(repository, image)
    const second = await pushReferrer(repository, signature)
    for (const one of [signature, second]) {
      await expectDenied(await as('DELETE', repository, `manifests/${one.digest}`), 'live')
      for (const digest of partsOf(one)) {
        await expectDenied(await as('DELETE', repository, `blobs/${digest}`), 'live')
      }
    }
    const listed = await registry.anonymous(`/v2/${repository}/referrers/${image.digest}`)
    expect(((await listed.json()) as { manifests: unknown[] }).manifests).toHaveLength(1)
    expect((await remove(repository, `manifests/${second.digest}`)).status).toBe(202)
    expect((await remove(repository, `manifests/${signature.digest}`)).status).toBe(202)
  })

  it('a credential for other tags adds none; to its own image and to one without a tag it does', async () => {
    const repository = newRepository()
    const live = await pushImage(registry, repository, 'live')
    const signature = await pushReferrer(repository, live)
    const own = await pushImage(registry, repository, 'edge')
    const untagged = await pushImage(registry, repository)
    const forge = async (subject: PushedImage, reference?: string) => {
      const forged = await pushImageBlobs(registry, repository, { subject: descriptorOf(subject) })
      return put(repository, reference ?? digestOf(JSON.stringify(forged)), forged)
    }
    for (const subject of [live, signature]) {
      await expectDenied(await forge(subject), 'live')
      await expectDenied(await forge(subject, 'edge-forged'), 'live')
    }
    expect((await forge(own)).status).toBe(201)
    expect((await forge(untagged, 'edge-sbom')).status).toBe(201)
    const list = { schemaVersion: 2, mediaType: IMAGE_INDEX, manifests: [descriptorOf(own)] }
    const fallback = live.digest.replace(':', '-')
    await expectDenied(await put(repository, fallback, list), fallback)
    await expectDenied(await put(repository, `${fallback}.sig`, own.body), `${fallback}.sig`)
  })

  it('a list under a fallback tag keeps no referrer, but its subject does against others', async () => {
    const repository = newRepository()
    const live = await pushImage(registry, repository, 'live')
    const signature = await pushImage(registry, repository)
    await pushIndex(repository, live.digest.replace(':', '-'), [signature])
    await expectDenied(await as('DELETE', repository, `manifests/${signature.digest}`), 'live')
    expect((await remove(repository, `manifests/${signature.digest}`)).status).toBe(202)
    const own = await pushImage(registry, repository, 'edge')
    const sbom = await pushReferrer(repository, own)
    await pushIndex(repository, own.digest.replace(':', '-'), [sbom])
    expect((await as('DELETE', repository, `manifests/${sbom.digest}`)).status).toBe(202)
  })

  it('an immutable tag keeps them against everybody', async () => {
    const repository = newRepository()
    const image = await pushImage(registry, repository, 'v1', UNTYPED)
    const signature = await pushReferrer(repository, image)
    await registry.request(`/api/v1/repositories/${repository}/settings`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ immutableTags: ['v*'] }),
    })
    await expectDenied(await remove(repository, `manifests/${signature.digest}`), 'v1')
    const typed = { 'content-type': 'application/vnd.other+json' }
    const again = await putManifest(registry, repository, image.digest, image.body, typed)
    await expectDenied(again, 'v1')
  })
})

describe('a credential for some tags', () => {
  it('does not change how the image of another tag is served', async () => {
    const repository = newRepository()
    const live = await pushImage(registry, repository, 'live', UNTYPED)
    const child = await pushImage(registry, repository, undefined, UNTYPED)
    await pushIndex(repository, 'live-index', [child])
    for (const [{ digest, body }, tag] of [
      [live, 'live'],
      [child, 'live-index'],
    ] as const) {
      for (const reference of [digest, 'edge']) {
        await expectDenied(
          await put(repository, reference, body, 'application/vnd.other+json'),
          tag,
        )
      }
      expect((await put(repository, digest, body)).status).toBe(201)
      const served = await registry.anonymous(`/v2/${repository}/manifests/${digest}`)
      expect(served.headers.get('content-type')).toBe(IMAGE_MANIFEST)
      expect(await served.text()).toBe(body)
    }
  })

  it('does not change the settings of the whole repository', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'live')
    const path = `/api/v1/repositories/${repository}/settings`
    for (const change of [{ visibility: 'private' }, { immutableTags: ['edge'] }]) {
      const refused = await registry.anonymous(path, {
        method: 'PUT',
        headers: { 'content-type': 'application/json', ...edge },
        body: JSON.stringify(change),
      })
      expect(refused.status).toBe(403)
      expect(await refused.text()).toContain('for some tags')
    }
    expect((await registry.anonymous(`/v2/${repository}/manifests/live`)).status).toBe(200)
  })
})

describe('an upload belongs to the token that started it', () => {
  it('also when the operator issued several tokens under one name', async () => {
    const repository = newRepository()
    const minter = await openTokenMinter(registry)
    const access = [{ type: 'repository' as const, name: repository, actions: ['pull', 'push'] }]
    const mint = async (subject: string) => {
      const minted = await minter.tokens.mint({ subject, access, networks: undefined }, 600)
      return { authorization: `Bearer ${(minted as { token: string }).token}` }
    }
    const [first, second] = [await mint('operator'), await mint('operator')]
    await minter.close()
    await pushBlob(registry, repository)
    const start = `/v2/${repository}/blobs/uploads/`
    const started = await registry.anonymous(start, { method: 'POST', headers: first })
    expect(started.status).toBe(202)
    const location = started.headers.get('location') ?? ''
    for (const method of ['GET', 'PATCH', 'DELETE', 'PUT']) {
      const at = method === 'PUT' ? `${location}?digest=${digestOf('')}` : location
      expect((await registry.anonymous(at, { method, headers: second })).status).toBe(404)
    }
    expect((await registry.anonymous(location, { headers: first })).status).toBe(204)
  })
})

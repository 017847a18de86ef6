import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import { newRepository, pushBlob, pushImage, pushImageBlobs } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { basic, bearer, makeCredential, requestToken } from './credentials-client.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

type As = { authorization: string }

const put = (repository: string, reference: string, manifest: unknown, as: As, query = '') =>
  registry.anonymous(`/v2/${repository}/manifests/${reference}${query}`, {
    method: 'PUT',
    headers: { 'content-type': IMAGE_MANIFEST, ...as },
    body: typeof manifest === 'string' ? manifest : JSON.stringify(manifest),
  })

const remove = (repository: string, reference: string, as: As) =>
  registry.anonymous(`/v2/${repository}/manifests/${reference}`, { method: 'DELETE', headers: as })

const admin = (): As => ({ authorization: basic('admin', registry.password) })

async function tagsOf(repository: string): Promise<string[]> {
  const answer = await registry.request(`/v2/${repository}/tags/list`)
  return ((await answer.json()) as { tags: string[] }).tags
}

async function set(repository: string, settings: unknown): Promise<Response> {
  return registry.request(`/api/v1/repositories/${repository}/settings`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(settings),
  })
}

describe.each(['basic', 'bearer'])('a credential for some tags, by %s', (scheme) => {
  const repository = newRepository()
  let as: As

  beforeAll(async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['conformance/*'],
      actions: ['pull', 'push', 'delete'],
      tags: ['v*', 'edge'],
    })
    const authorization = basic(name, secret)
    const scope = `repository:${repository}:pull,push,delete`
    const token = await requestToken(registry, authorization, scope)
    as = { authorization: scheme === 'basic' ? authorization : bearer(token) }
    await pushImage(registry, repository, 'latest')
  })

  it('sets those and no others, by every operation', async () => {
    const manifest = await pushImageBlobs(registry, repository)
    const { digest } = await pushImage(registry, repository, undefined, { annotations: { a: 'b' } })
    for (const tag of ['v1', 'v2.0', 'edge']) {
      expect((await put(repository, tag, manifest, as)).status).toBe(201)
    }
    for (const tag of ['latest', 'V1', 'edges', 'xv1']) {
      const answer = await put(repository, tag, manifest, as)
      expect(answer.status).toBe(403)
      expect(await answer.json()).toMatchObject({ errors: [{ code: 'DENIED', detail: { tag } }] })
    }
    expect((await put(repository, 'v3', manifest, as, '?tag=v4&tag=latest')).status).toBe(403)
    expect((await put(repository, 'v3', manifest, as, '?tag=v4&tag=v5')).status).toBe(201)
    const { body } = await pushImage(registry, repository)
    const own = (await put(repository, 'v6', body, as)).headers.get('docker-content-digest') ?? ''
    expect((await put(repository, own, body, as, '?tag=stable')).status).toBe(403)
    expect((await put(repository, own, body, as, '?tag=v7')).status).toBe(201)
    expect((await put(repository, own, body, as)).status).toBe(201)
    expect(await tagsOf(repository)).toEqual(
      ['edge', 'latest', 'v1', 'v2.0', 'v3', 'v4', 'v5', 'v6', 'v7'].sort(),
    )
    expect(digest).toMatch(/^sha256:/)
  })

  it('removes those and no others, also when it deletes by digest', async () => {
    const { body, digest } = await pushImage(registry, repository, 'v8')
    expect((await remove(repository, 'latest', as)).status).toBe(403)
    expect((await put(repository, 'kept', body, admin())).status).toBe(201)
    const refused = await remove(repository, digest, as)
    expect(refused.status).toBe(403)
    expect(await refused.text()).toContain('kept')
    expect(await tagsOf(repository)).toContain('v8')
    expect((await remove(repository, 'kept', admin())).status).toBe(202)
    expect((await remove(repository, digest, as)).status).toBe(202)
    expect(await tagsOf(repository)).not.toContain('v8')
    expect((await remove(repository, 'edge', as)).status).toBe(202)
    await put(repository, 'edge', await pushImageBlobs(registry, repository), as)
  })
})

describe('an immutable tag', () => {
  const repository = newRepository()
  let digest: string
  let body: string

  beforeAll(async () => {
    expect((await set(repository, { immutableTags: ['v*'] })).status).toBe(200)
    const pushed = await pushImage(registry, repository, 'v1')
    digest = pushed.digest
    body = pushed.body
  })

  it('is not moved by anybody; the same digest is accepted', async () => {
    const other = await pushImageBlobs(registry, repository)
    const refused = await put(repository, 'v1', other, admin())
    expect(refused.status).toBe(403)
    expect(await refused.json()).toMatchObject({
      errors: [{ code: 'DENIED', message: `tag v1 is immutable, and points to ${digest}` }],
    })
    expect((await put(repository, 'v1', body, admin())).status).toBe(201)
    expect((await put(repository, 'edge', other, admin(), '?tag=v1')).status).toBe(403)
    expect(await tagsOf(repository)).toEqual(['v1'])
  })

  it('is not removed by anybody, neither by name nor by digest', async () => {
    expect((await remove(repository, 'v1', admin())).status).toBe(403)
    expect((await remove(repository, digest, admin())).status).toBe(403)
    const answer = await registry.anonymous(`/v2/${repository}/manifests/v1`)
    expect(answer.headers.get('docker-content-digest')).toBe(digest)
  })

  it('keeps all manifests and blobs of its image, also below an index', async () => {
    const child = await pushImage(registry, repository, undefined)
    const layer = JSON.parse(child.body).layers[0].digest
    const { mediaType, size } = child
    const index = {
      schemaVersion: 2,
      mediaType: IMAGE_INDEX,
      manifests: [{ mediaType, size, digest: child.digest }],
    }
    const answer = await registry.request(`/v2/${repository}/manifests/v0`, {
      method: 'PUT',
      headers: { 'content-type': index.mediaType },
      body: JSON.stringify(index),
    })
    expect(answer.status).toBe(201)
    const spare = await pushImage(registry, repository, 'spare')
    const removeBlob = (one: string) =>
      registry.request(`/v2/${repository}/blobs/${one}`, { method: 'DELETE' })
    const refused = await removeBlob(layer)
    expect(refused.status).toBe(403)
    expect(await refused.text()).toContain('tag v0 is immutable')
    expect((await remove(repository, child.digest, admin())).status).toBe(403)
    expect((await remove(repository, spare.digest, admin())).status).toBe(202)
    expect((await removeBlob(JSON.parse(spare.body).layers[0].digest)).status).toBe(202)
  })

  it('keeps them also when 1000 other tags share the digest', async () => {
    const crowded = newRepository()
    await set(crowded, { immutableTags: ['v*'] })
    const { body, digest } = await pushImage(registry, crowded, 'v1')
    for (let round = 0; round < 16; round += 1) {
      const tags = Array.from({ length: 64 }, (_, index) => `tag=a-${round}-${index}`).join('&')
      expect((await put(crowded, digest, body, admin(), `?${tags}`)).status).toBe(201)
    }
    const layer = JSON.parse(body).layers[0].digest
    const path = `/v2/${crowded}/blobs/${layer}`
    expect((await registry.request(path, { method: 'DELETE' })).status).toBe(403)
  })

  it('is set by exactly one of several concurrent pushes', async () => {
    const images = await Promise.all(
      Array.from({ length: 8 }, () => pushImageBlobs(registry, repository)),
    )
    const answers = await Promise.all(images.map((image) => put(repository, 'v2', image, admin())))
    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array(7).fill(403)])
  })

  it('can be moved again when the pattern is removed', async () => {
    const path = `/api/v1/repositories/${repository}/settings`
    const settings = await (await registry.request(path)).json()
    expect(settings).toMatchObject({ visibility: 'public', immutableTags: ['v*'] })
    expect((await set(repository, { immutableTags: ['v 1'] })).status).toBe(400)
    expect((await set(repository, { immutable: ['v1'] })).status).toBe(400)
    expect((await set(repository, { immutableTags: [] })).status).toBe(200)
    expect(
      (await put(repository, 'v1', await pushImageBlobs(registry, repository), admin())).status,
    ).toBe(201)
  })
})

describe('private repositories', () => {
  it('are in the catalog of callers that may pull them', async () => {
    const other = await startRegistry({ ROOKERY_DEFAULT_VISIBILITY: 'private' })
    for (const name of ['a/one', 'a/two', 'b/one']) await pushImage(other, name, 'v1')
    const { name, secret } = await makeCredential(other, {
      repositories: ['a/*'],
      actions: ['pull'],
    })
    const pusher = await makeCredential(other, { repositories: ['b/*'], actions: ['push'] })
    const listOf = async (authorization: string) => {
      const answer = await other.anonymous('/v2/_catalog', { headers: { authorization } })
      return ((await answer.json()) as { repositories: string[] }).repositories
    }
    expect(await listOf(basic(name, secret))).toEqual(['a/one', 'a/two'])
    expect(await listOf(basic(pusher.name, pusher.secret))).toEqual([])
    expect(await listOf(basic('admin', other.password))).toEqual(['a/one', 'a/two', 'b/one'])
    expect(await listOf(bearer(await requestToken(other, undefined)))).toEqual([])
    await other.close()
  })

  it('mount their blobs only for callers that may pull them', async () => {
    const other = await startRegistry({ ROOKERY_DEFAULT_VISIBILITY: 'private' })
    const { digest } = await pushBlob(other, 'hidden/source')
    const pusher = await makeCredential(other, { repositories: ['mine/**'], actions: ['push'] })
    const both = await makeCredential(other, {
      repositories: ['mine/**', 'hidden/**'],
      actions: ['pull', 'push'],
    })
    const mount = async ({ name, secret }: typeof both, query: string) => {
      const path = `/v2/mine/copy/blobs/uploads/?mount=${digest}${query}`
      const headers = { authorization: basic(name, secret) }
      return (await other.anonymous(path, { method: 'POST', headers })).status
    }
    for (const query of ['', '&from=hidden/source']) {
      expect(await mount(pusher, query)).toBe(202)
    }
    expect(await mount(both, '&from=hidden/source')).toBe(201)
    expect(await mount(both, '')).toBe(201)
    await other.close()
  })

  it('become hidden and visible by their settings', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'v1')
    const pull = async () => (await registry.anonymous(`/v2/${repository}/manifests/v1`)).status
    expect(await pull()).toBe(200)
    await set(repository, { visibility: 'private' })
    expect(await pull()).toBe(401)
    await set(repository, { visibility: 'public' })
    expect(await pull()).toBe(200)
    expect((await set(repository, { visibility: 'secret' })).status).toBe(400)
  })
})

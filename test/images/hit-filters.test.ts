import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import { putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { ask, messageOf, pushBuild } from './image-fixtures.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
  await pushBuild(registry, 'web/site', 'live', 'hello-key-1')
  await pushBuild(registry, 'web/site', 'live', 'hello-key-2')
  await pushBuild(registry, 'web/deep/site', 'v1', 'hello-key-2')
  await pushBuild(registry, 'other', 'v2.1', 'hello-key-2')
  // An image that only the tag of an index names.
  const digest = await pushBuild(registry, 'indexed', 'gone', 'hello-key-1')
  const child = await registry.request(`/v2/indexed/manifests/${digest}`)
  const size = (await child.arrayBuffer()).byteLength
  const platform = { os: 'solo5', architecture: 'amd64', variant: 'hvt' }
  const manifests = [{ mediaType: IMAGE_MANIFEST, digest, size, platform }]
  const index = { schemaVersion: 2, mediaType: IMAGE_INDEX, manifests }
  expect((await putManifest(registry, 'indexed', 'all', index)).status).toBe(201)
  await registry.request('/v2/indexed/manifests/gone', { method: 'DELETE' })
})
afterAll(() => registry.close())

type Hit = { repository: string; version: string }

async function found(query: string): Promise<string[]> {
  const { images } = await ask(registry, `packages/opam/dune?${query}`)
  const hits = images.map(({ repository, version }: Hit) => `${repository} ${version}`)
  return [...new Set<string>(hits)].toSorted()
}

const NEW = ['other 3.24.2', 'web/deep/site 3.24.2', 'web/site 3.24.2']

describe('a search for a package', () => {
  it.each([
    ['tagged=true', ['indexed 3.23.1', ...NEW]],
    ['tag=live', ['web/site 3.24.2']],
    ['tag=v*', ['other 3.24.2', 'web/deep/site 3.24.2']],
    ['tag=v*.*', ['other 3.24.2']],
    ['tag=all', ['indexed 3.23.1']],
    ['tag=v2x1', []],
    ['repository=web/*', ['web/site 3.23.1', 'web/site 3.24.2']],
    ['repository=web/**', ['web/deep/site 3.24.2', 'web/site 3.23.1', 'web/site 3.24.2']],
    ['repository=web/site&tagged=true', ['web/site 3.24.2']],
    ['repository=web/site&tagged=true&version=%3C3.24', []],
    ['repository=web/sit', []],
  ])('is limited by %s', async (query, wanted) => {
    expect((await found(query)).filter((one) => /3\.2[34]/.test(one))).toEqual(wanted)
  })

  it('keeps its filters on the next page', async () => {
    const seen: string[] = []
    let path: string | undefined = '/api/v1/packages/opam/dune?n=1&tagged=true&repository=web/**'
    while (path !== undefined) {
      const answer: Response = await registry.anonymous(path)
      const { images } = (await answer.json()) as { images: Hit[] }
      seen.push(...images.map(({ repository }) => repository))
      path = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1]
      expect(seen.length).toBeLessThan(10)
    }
    expect(new Set(seen)).toEqual(new Set(['web/site', 'web/deep/site']))
  })

  it.each([
    ['tagged=yes', /tagged must be true/],
    ['tag=a/b', /a tag pattern is a tag with \* in it/],
    ['repository=A', /a repository pattern/],
    ['tag=a&tag=b', /tag is given twice/],
    ['tags=a', /did you mean tag/],
  ])('refuses %s', async (query, message) => {
    const answer = await registry.request(`/api/v1/packages/opam/dune?${query}`)
    expect(answer.status).toBe(400)
    expect(await messageOf(answer)).toMatch(message)
  })
})

import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pushContainer, tarOf } from '../support/container-images.ts'
import { digestOf } from '../support/digest.ts'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import { putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { ask, type Build, expectedOf, fixture, messageOf, pushBuild } from './image-fixtures.ts'

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
type Output = { own: boolean; images: Hit[] }

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

describe('a search for a kernel', () => {
  const kernel = (build: Build) => `kernels/sha256:${expectedOf(build).main_binary_sha256}`

  it.each([
    ['', ['other', 'web/deep/site', 'web/site']],
    ['tag=v*', ['other', 'web/deep/site']],
    ['tag=v2.1', ['other']],
    ['tagged=true&repository=web/*', ['web/site']],
    ['repository=web/**', ['web/deep/site', 'web/site']],
    ['repository=no', []],
  ])('is limited by "%s"', async (query, wanted) => {
    const { images } = await ask(registry, `${kernel('hello-key-2')}?${query}`)
    expect(images.map(({ repository }: Hit) => repository).toSorted()).toEqual(wanted)
  })

  it('leaves out an image that was replaced, and finds one by the tag of an index', async () => {
    const of = async (query: string) => {
      const { images } = await ask(registry, `${kernel('hello-key-1')}${query}`)
      return images.map(({ repository }: Hit) => repository)
    }
    expect(await of('')).toEqual(['indexed', 'web/site'])
    expect(await of('?tagged=true')).toEqual(['indexed'])
    expect(await of('?tag=gone')).toEqual([])
  })

  it('keeps its filters on the next page', async () => {
    const path = `/api/v1/${kernel('hello-key-2')}?n=1&tagged=true&repository=web/**`
    const answer = await registry.anonymous(path)
    expect(answer.headers.get('link')).toContain('tagged=true&repository=web%2F**')
  })
})

describe('a search for inputs', () => {
  const inputs = (build: Build) => `inputs/${expectedOf(build).input_id}`
  const listed = ({ outputs }: { outputs: Output[] }) =>
    outputs.flatMap(({ images }) => images.map(({ repository }) => repository)).toSorted()

  it.each([
    ['', ['other', 'web/deep/site', 'web/site']],
    ['tagged=true', ['other', 'web/deep/site', 'web/site']],
    ['tag=v*', ['other', 'web/deep/site']],
    ['tag=none', []],
  ])('is limited by "%s"', async (query, wanted) => {
    expect(listed(await ask(registry, `${inputs('hello-key-2')}?${query}`))).toEqual(wanted)
  })

  it('leaves out an image that was replaced, also among those of other inputs', async () => {
    expect(listed(await ask(registry, inputs('hello-key-1')))).toEqual(['indexed', 'web/site'])
    expect(listed(await ask(registry, `${inputs('hello-key-1')}?tagged=true`))).toEqual(['indexed'])

    // The same kernel from other inputs.
    await pushBuild(registry, 'freebsd', 'new', 'hello-key-3-freebsd-same-output')
    for (const [query, wanted] of [
      ['', ['freebsd']],
      ['?tagged=true', ['freebsd']],
      ['?tag=live', []],
    ] as const) {
      const { otherInputs } = await ask(registry, `${inputs('hello-key-2')}${query}`)
      expect([query, otherInputs.map(({ repository }: Hit) => repository)]).toEqual([query, wanted])
    }
  })

  it('compares the repositories of a pattern as the own ones', async () => {
    const { outputs } = await ask(registry, `${inputs('hello-key-2')}?repository=web/**`)
    expect(outputs.map(({ own }: Output) => own)).toEqual([true])
    const none = await ask(registry, `${inputs('hello-key-2')}?repository=no/**`)
    expect(none.outputs.map(({ own }: Output) => own)).toEqual([false])
  })

  it('says that a kernel is not reproducible although the filter selects one', async () => {
    await pushBuild(registry, 'twice', 'live', 'hello-key-2')
    await pushBuild(registry, 'twice', 'live', 'hello-key-4-same-input-different-output')
    for (const query of ['', '&tagged=true', '&tag=live', '&tag=none']) {
      const path = `${inputs('hello-key-2')}?repository=twice${query}`
      expect([query, (await ask(registry, path)).reproducible]).toEqual([query, false])
    }
  })
})

describe('an image from a container image', () => {
  const bytes = fixture('elf/mini-blk-net2.spt')

  beforeAll(async () => {
    const layer = gzipSync(await tarOf([['unikernel.spt', bytes]]))
    const push = async (tag: string, more: Buffer[]) => {
      const answer = await pushContainer(registry, 'from/docker', tag, [...more, layer])
      expect(answer.status).toBe(201)
    }
    await push('live', [])
    // The same kernel in another container image takes the tag `live`.
    await push('live', [gzipSync(await tarOf([['etc/passwd', 'root']]))])
  })

  it.each([
    ['kernels/KERNEL?', 2],
    ['kernels/KERNEL?tagged=true', 1],
    ['kernels/KERNEL?tag=li*', 1],
    ['kernels/KERNEL?tag=v*', 0],
    ['images?target=spt', 2],
    ['images?target=spt&tagged=true', 1],
    ['images?target=spt&tagged=false', 1],
    ['repositories/from/docker/images?tagged=true', 1],
    ['repositories/from/docker/images?tagged=false', 1],
  ])('is found by the tags of that image: %s', async (path, count) => {
    const { images } = await ask(registry, path.replace('KERNEL', digestOf(bytes)))
    expect(images.map(({ repository }: Hit) => repository)).toEqual(
      Array(count).fill('from/docker'),
    )
  })
})

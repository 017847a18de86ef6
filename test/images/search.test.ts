import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { IMAGE_INDEX } from '../support/media-types.ts'
import { newRepository, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { ask, expectRefusal, fixture, kernel, pushLayers, UNIKERNEL } from './image-fixtures.ts'

const KERNELS = ['mini-none.hvt', 'mini-net.hvt', 'mini-blk-net2.spt', 'mini.xen', 'mini-arm.hvt']
type Listed = { repository: string; kernel: { title: string }; tags: string[]; builder: string }

let registry: TestRegistry
let repositories: readonly string[]
let hidden: string

beforeAll(async () => {
  registry = await startRegistry()
  repositories = [`${newRepository()}/a`, `${newRepository()}/b`]
  hidden = newRepository()
  for (const [index, name] of KERNELS.entries()) {
    await push(repositories[index % 2] ?? '', name)
  }
  await push(hidden, 'mini-net.hvt')
  const answer = await registry.request(`/api/v1/repositories/${hidden}/settings`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ visibility: 'private' }),
  })
  expect(answer.status).toBe(200)
  // An image that lost its tag to another.
  await push(repositories[0] ?? '', 'mini.genode', 'moved')
  await push(repositories[0] ?? '', 'mini.muen', 'moved')
})
afterAll(() => registry.close())

async function push(repository: string, name: string, tag = name.replace('.', '-')) {
  const files = [kernel(fixture(`elf/${name}`), name)]
  const answer = await pushLayers(registry, repository, tag, files, UNIKERNEL)
  expect(answer.status).toBe(201)
}

async function titles(query: string, as = registry.anonymous): Promise<string[]> {
  const answer = await as(`/api/v1/images${query}`)
  expect(answer.status).toBe(200)
  const { images } = (await answer.json()) as { images: Listed[] }
  return images.map(({ kernel: { title } }) => title).toReversed()
}

describe('the unikernels of all repositories', () => {
  it.each([
    ['?target=hvt', ['mini-none.hvt', 'mini-net.hvt', 'mini-arm.hvt']],
    ['?target=spt', ['mini-blk-net2.spt']],
    ['?abi=2&target=hvt', ['mini-none.hvt', 'mini-net.hvt', 'mini-arm.hvt']],
    ['?abi=1&abi=2&target=spt', ['mini-blk-net2.spt']],
    ['?abi=77', []],
    ['?arch=arm64', ['mini-arm.hvt']],
    ['?target=hvt&device-count=0', ['mini-none.hvt']],
    ['?target=hvt&device-count=1', ['mini-net.hvt', 'mini-arm.hvt']],
    ['?device=net&device=block', ['mini-blk-net2.spt']],
    ['?device=net:service&target=hvt', ['mini-net.hvt', 'mini-arm.hvt']],
    ['?tagged=false', ['mini.genode']],
    ['?tagged=true&target=muen', ['mini.muen']],
    ['?target=unix', []],
  ])('are listed by %s', async (query, wanted) => {
    expect(await titles(query)).toEqual(wanted)
  })

  it('are listed by repository, by its name or a pattern', async () => {
    const [first = '', second = ''] = repositories
    const of = async (pattern: string) => {
      const path = `/api/v1/images?repository=${encodeURIComponent(pattern)}`
      const { images } = (await (await registry.anonymous(path)).json()) as { images: Listed[] }
      return new Set(images.map(({ repository }) => repository))
    }
    expect(await of(first)).toEqual(new Set([first]))
    expect(await of(second.replace(/b$/, '*'))).toEqual(new Set([second]))
    expect(await of('**')).toEqual(new Set(repositories))
    expect(await of('nobody/*')).toEqual(new Set())
  })

  it('come page by page, each once, with the filter in the link', async () => {
    const found: string[] = []
    let path: string | undefined = '/api/v1/images?abi=1&abi=2&n=1'
    for (let pages = 0; path !== undefined && pages < 20; pages += 1) {
      const answer: Response = await registry.anonymous(path)
      const { images } = (await answer.json()) as { images: Listed[] }
      found.push(...images.map(({ repository, kernel: { title } }) => `${repository} ${title}`))
      path = /<([^>]+)>/.exec(answer.headers.get('link') ?? '')?.[1]
      if (path !== undefined) expect(path).toContain('abi=1&abi=2')
    }
    expect(new Set(found).size).toBe(found.length)
    const whole = await ask(registry, 'images?abi=1&abi=2')
    expect(found.length).toBe(whole.images.length - 1)
  })

  it('of private repositories are listed only for those who may pull', async () => {
    const of = async (as: typeof registry.anonymous) => {
      const answer = await as('/api/v1/images?target=hvt')
      const { images } = (await answer.json()) as { images: Listed[] }
      return images.map(({ repository }) => repository)
    }
    expect(await of(registry.anonymous)).not.toContain(hidden)
    expect(await of(registry.request)).toContain(hidden)
  })

  it('are listed by builder for a login alone', async () => {
    expect(await titles('?builder=admin&target=spt', registry.request)).toEqual([
      'mini-blk-net2.spt',
    ])
    expect(await titles('?builder=nobody', registry.request)).toEqual([])
    const refused = await registry.anonymous('/api/v1/images?builder=admin')
    expect(refused.status).toBe(401)
    const images = (await (await registry.anonymous('/api/v1/images')).json()) as {
      images: Listed[]
    }
    expect(new Set(images.images.map(({ builder }) => builder))).toEqual(new Set([null]))
  })

  it.each([
    ['?repository=*/a/*', /stars in one place/],
    ['?device-count=many', /device-count must be a number from 0 to 63/],
    ['?tagged=yes', /tagged must be true or false/],
    ['?target=hvtt', /target must be one of hvt, /],
    [`?${'abi=1&'.repeat(17)}`, /abi may be given at most 16 times/],
  ])('are not listed by %s', async (query, message) => {
    await expectRefusal(await registry.anonymous(`/api/v1/images${query}`), message)
  })
})

it('an image without a tag counts as tagged by the tag of its index', async () => {
  const repository = newRepository()
  await push(repository, 'mini-net.hvt', 'moved')
  const manifest = await registry.request(`/v2/${repository}/manifests/moved`)
  const digest = manifest.headers.get('docker-content-digest') ?? ''
  const size = (await manifest.arrayBuffer()).byteLength
  const child = { mediaType: manifest.headers.get('content-type'), digest, size }
  const body = { schemaVersion: 2, mediaType: IMAGE_INDEX, manifests: [child] }
  const query = `?repository=${repository}&tagged=`
  expect(await titles(`${query}true`)).toEqual(['mini-net.hvt'])
  expect((await putManifest(registry, repository, 'moved', body)).status).toBe(201)
  expect(await titles(`${query}true`)).toEqual(['mini-net.hvt'])
  expect(await titles(`${query}false`)).toEqual([])
})

it('a kernel of an index is selected by any of several versions of the ABI', async () => {
  const path = `/api/v1/repositories/${repositories[1]}/images/mini-net-hvt/kernel`
  expect((await registry.anonymous(`${path}?abi=1&abi=2`)).status).toBe(200)
  expect((await registry.anonymous(`${path}?abi=1&abi=3`)).status).toBe(404)
})

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { ask, fixture, formOf, messageOf, postImage, pushBuild } from './image-fixtures.ts'

const LOCK = fixture('locks/hello-key-hvt.opam.locked')
const SOLO5 = 'https://github.com/Solo5/solo5'

type Hit = {
  repository: string
  tags: string[]
  source: {
    url: string
    directory: string | null
    checksums: string[]
    packages: { name: string; version: string | null; basis: string }[]
  }
}

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
  await pushBuild(registry, 'web/one', 'v1', 'hello-key-1')
  await pushBuild(registry, 'web/two', 'v1', 'hello-key-2')
  await pushBuild(registry, 'web/two', 'v2', 'hello-key-2')
  const answer = await postImage(registry, 'web/lock', '?tag=v1', withLock())
  expect(answer.status).toBe(201)
})
afterAll(() => registry.close())

const withLock = () => formOf('hello-key-1', { 'opam-lock': LOCK })

async function found(query: Record<string, string>, one = registry): Promise<Hit[]> {
  const { images } = await ask(one, `sources?${new URLSearchParams(query)}`)
  return images
}

const names = (hits: readonly Hit[]) => hits.map(({ repository }) => repository)

describe('a search for a source', () => {
  it('finds the vendored sources of a repository, with the packages in each', async () => {
    const hits = await found({ from: 'https://github.com/mirage/mirage', repository: 'web/two' })
    // The tool is installed from the same archive.
    expect(hits.map(({ source }) => source.packages.map(({ name }) => name))).toEqual([
      ['mirage'],
      ['mirage-runtime'],
    ])
    expect(hits[1]).toMatchObject({
      tags: ['v1', 'v2'],
      source: {
        url: expect.stringMatching(/mirage-4\.11\.2\.tbz$/),
        directory: 'mirage',
        checksums: [expect.stringMatching(/^sha/), expect.anything()],
        packages: [{ name: 'mirage-runtime', version: '4.11.2', basis: 'inferred' }],
      },
    })
  })

  it('finds those of a lock file with the packages that it names, once an image', async () => {
    const hits = await found({ from: 'git@github.com:mirage/mirage.git', repository: 'web/lock' })
    const vendored = hits.filter(({ source }) => source.directory !== null)
    const bases = vendored.flatMap(({ source }) => source.packages.map(({ basis }) => basis))
    expect(bases).toContain('lock')
    expect(new Set(vendored.map(({ source }) => source.url)).size).toBe(vendored.length)
  })

  it('finds those of installed packages, and their extra sources', async () => {
    const hits = await found({ from: SOLO5, repository: 'web/two' })
    expect(hits.map(({ source }) => source)).toEqual([
      {
        url: 'https://github.com/Solo5/solo5/releases/download/v0.12.1/solo5-v0.12.1.tar.gz',
        directory: null,
        checksums: [expect.stringMatching(/^sha512=/)],
        packages: [{ name: 'solo5', version: '0.12.1', basis: 'installed' }],
      },
    ])
    const extra = await found({ checksum: '3e969b841df1f51ca448e6e6295cb451' })
    expect(names(extra)).toEqual(['web/two', 'web/lock', 'web/one'])
    expect(extra[0]?.source.packages[0]?.name).toMatch(/^ocaml-/)
  })

  it('finds an archive by each of its checksums', async () => {
    const hits = await found({ from: 'github.com/mirage/mirage', repository: 'web/two' })
    const checksums = hits[0]?.source.checksums ?? []
    for (const checksum of checksums) {
      const digits = checksum.slice(checksum.indexOf('=') + 1)
      for (const text of [checksum, checksum.replace('=', ':'), digits, digits.toUpperCase()]) {
        expect(await found({ checksum: text, repository: 'web/two' })).toEqual(hits)
      }
    }
    expect(checksums).toHaveLength(2)
    expect(await found({ checksum: `sha256=${'0'.repeat(64)}` })).toEqual([])
  })

  it('finds only the sources of a reference', async () => {
    expect(names(await found({ from: `${SOLO5}#v0.12.1` }))).toEqual(['web/two'])
    expect(await found({ from: `${SOLO5}#v0.12` })).toEqual([])
  })

  it.each([
    [{ tag: 'v2' }, ['web/two']],
    [{ tagged: 'true', repository: 'web/t*' }, ['web/two']],
    [{ tag: 'live' }, []],
  ])('is limited by %j', async (filter, wanted) => {
    expect(names(await found({ from: SOLO5, ...filter }))).toEqual(wanted)
  })

  it('is paged, without an image twice or left out', async () => {
    const all = await found({ from: 'https://github.com/ocaml/dune' })
    const seen: Hit[] = []
    let path: string | undefined =
      `/api/v1/sources?n=1&from=${encodeURIComponent('https://github.com/ocaml/dune')}`
    while (path !== undefined) {
      const answer: Response = await registry.anonymous(path)
      seen.push(...((await answer.json()) as { images: Hit[] }).images)
      path = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1]
      expect(seen.length).toBeLessThan(30)
    }
    expect(seen).toEqual(all)
    expect(all.length).toBeGreaterThan(3)
  })

  it.each([
    ['', /name one source/],
    ['from=github.com/a/b&checksum=00', /name one source/],
    ['from=mirage/mirage', /from must be the address of a source repository/],
    ['from=https://example.org/a-1.tbz', /find an archive by its checksum/],
    ['checksum=sha256%3D12', /checksum must be like/],
    ['from=%00', /NUL/],
    ['from=github.com/a/b&last=1', /last must be the cursor/],
    ['source=x', /did you mean|source/],
  ])('refuses %s', async (query, message) => {
    const answer = await registry.request(`/api/v1/sources?${query}`)
    expect(answer.status).toBe(400)
    expect(await messageOf(answer)).toMatch(message)
  })

  it('takes the cursor of another list without harm', async () => {
    const other = await registry.anonymous('/api/v1/packages/opam/dune?n=1')
    const [, last = ''] = /last=([^&>]+)/.exec(other.headers.get('link') ?? '') ?? []
    const answer = await registry.anonymous(`/api/v1/sources?from=github.com/a/b&last=${last}`)
    expect(answer.status).toBe(200)
  })

  it('finds private images only for callers that may pull them', async () => {
    const own = await startRegistry({ ROOKERY_DEFAULT_VISIBILITY: 'private' })
    try {
      await pushBuild(own, 'secret/www', 'v1')
      const path = `/api/v1/sources?from=${encodeURIComponent(SOLO5)}`
      const stranger = await own.anonymous(path)
      expect(await stranger.json()).toMatchObject({ images: [], truncated: false })
      expect(names(await found({ from: SOLO5 }, own))).toEqual(['secret/www'])
    } finally {
      await own.close()
    }
  })
})

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Matcher } from '../../src/http/matcher.ts'
import { allRoutes, type RouteDeps } from '../../src/http/routes.ts'
import { RESERVED_TAGS } from '../../src/oci/reference.ts'
import { sql } from '../auth/credentials-client.ts'
import { fixture, messageOf } from '../images/image-fixtures.ts'
import { digestOf } from '../support/digest.ts'
import { expectError, pushImage, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const ROUTES = allRoutes({ auth: {}, builderWeb: {} } as RouteDeps)
const API = '/api/v1/repositories'
const UUID = '00000000-0000-4000-8000-000000000000'

/** The fixed words of paths with a repository or a job, which a component of a repository can be as well. */
const WORDS = wordsOf((path) => /\*repository|:job/.test(path))
/** The words that a path of the API has behind a repository: a tag can be one as well. */
const LAST_WORDS = wordsOf((path) => path.includes(API), `${API}/*repository`)

function wordsOf(has: (path: string) => boolean, start = ''): string[] {
  const paths = ROUTES.filter(({ path }) => has(path)).map(({ path }) => path.slice(start.length))
  const words = new Set(['v1', ...paths.flatMap((path) => path.split('/'))])
  return [...words].filter((word) => /^[a-z0-9]+(?:[._-][a-z0-9]+)*$/.test(word))
}

/** The words that follow a repository in paths of the API. */
const AFTER_REPOSITORY = new Set(
  ROUTES.filter(({ path }) => path.startsWith(`${API}/*repository/`)).map(
    ({ path }) => path.slice(`${API}/*repository/`.length).split('/')[0],
  ),
)

const NAMES = [
  ...WORDS,
  ...WORDS.flatMap((word) => [`a/${word}`, `a/${word}/b`]),
  ...[...AFTER_REPOSITORY].flatMap((one) => LAST_WORDS.map((other) => `a/${one}/${other}`)),
  'x/builds/tags',
  'a/images/images/images',
  'a/images/v1/kernel',
  'a/blobs/uploads',
]
const FREE_TAGS = LAST_WORDS.filter((word) => !RESERVED_TAGS.includes(word))

/** Values that a parameter of a path may have. */
function valuesOf(name: string): readonly string[] {
  if (name === 'digest') return [digestOf('x')]
  if (['upload', 'build', 'deployment', 'left', 'right'].includes(name)) return [UUID]
  if (name === 'format') return ['cyclonedx', 'spdx', 'slsa']
  if (name === 'inputId') return ['0'.repeat(64)]
  if (name === 'job') return NAMES.map((one) => one.replaceAll('/', '~'))
  if (name === 'reference' || name === 'other') return [...FREE_TAGS, digestOf('x')]
  return FREE_TAGS
}

/** Fills a pattern: the repository is given, one parameter has the value, and the others their last one. */
function* filledWith(pattern: string, repository: string) {
  const names = [...pattern.matchAll(/[:*](\w+)/g)].map(([, name = '']) => name)
  const last = (name: string) => valuesOf(name).at(-1) ?? ''
  // The tag matters only beside a word that ends the repository.
  const isPlain = !repository.split('/').some((word) => RESERVED_TAGS.includes(word))
  const variable = isPlain && repository !== '' && repository !== 'v1' ? ['repository'] : names
  for (const varied of names.length === 0 ? [''] : variable) {
    for (const value of varied === 'repository' ? [repository] : valuesOf(varied)) {
      const params = Object.fromEntries(
        names.map((name) => [name, name === 'repository' ? repository : last(name)]),
      )
      if (varied !== 'repository' && varied !== '') params[varied] = value
      yield { params, path: pattern.replace(/[:*](\w+)/g, (_, name) => params[name] ?? '') }
    }
  }
}

describe('a path', () => {
  const matcher = new Matcher(ROUTES)

  it('has words after the repository that no new tag can be', () => {
    expect([...AFTER_REPOSITORY].sort()).toEqual([...RESERVED_TAGS].sort())
  })

  it.each(ROUTES.map((route) => [`${route.method} ${route.path}`, route] as const))(
    'names one resource, whatever words its repository and its tag are: %s',
    (_, route) => {
      let paths = 0
      const names = route.path.includes('*repository') ? NAMES : ['']
      for (const repository of names) {
        for (const { params, path } of filledWith(route.path, repository)) {
          paths += 1
          const found = matcher.match(route.method, path)
          if (found.route !== route || !isSame(found.params, params)) {
            expect({ path, route: found.route.path, params: found.params }).toEqual({
              ...{ path, route: route.path },
              params,
            })
          }
        }
      }
      expect(paths).toBeGreaterThanOrEqual(names.length)
    },
  )
})

function isSame(found: Readonly<Record<string, string>>, params: Record<string, string>): boolean {
  const names = Object.keys(params)
  return (
    names.length === Object.keys(found).length &&
    names.every((name) => found[name] === params[name])
  )
}

describe('repositories with the names of resources', () => {
  let registry: TestRegistry
  beforeAll(async () => {
    registry = await startRegistry()
  })
  afterAll(() => registry.close())

  const formOf = () => {
    const form = new FormData()
    form.append('kernel', new Blob([new Uint8Array(fixture('elf/mini-net.hvt'))]), 'k.hvt')
    return form
  }
  const post = (path: string) => registry.request(path, { method: 'POST', body: formOf() })
  const json = async (path: string) => {
    const answer = await registry.request(path)
    const text = await answer.text()
    expect([path, answer.status, text]).toEqual([path, 200, text])
    return JSON.parse(text)
  }

  it('answer everything about themselves, and nothing about each other', async () => {
    const names = [
      ...['a', 'images', 'builds', 'tags', 'settings', 'a/images', 'a/builds', 'a/tags'],
      ...['a/settings', 'a/images/b', 'a/images/images', 'x/builds/tags', 'a/images/kernel'],
    ]
    const images = new Map<string, { digest: string; build: string }>()
    for (const name of names) {
      const answer = await post(
        `${API}/${name}/images?tag=kernel&tag=${name.replaceAll('/', '-')}-1`,
      )
      expect([name, answer.status]).toEqual([name, 201])
      images.set(name, (await answer.json()) as { digest: string; build: string })
      const settings = await registry.request(`${API}/${name}/settings`, {
        method: 'PUT',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ immutableTags: [`${name.replaceAll('/', '-')}-1`] }),
      })
      expect([name, settings.status]).toEqual([name, 200])
    }
    for (const [name, { build }] of images) {
      const own = `${name.replaceAll('/', '-')}-1`
      const path = `${API}/${name}`
      const [listed] = (await json(`${path}/images`)).images
      expect(listed.tags.sort()).toEqual([own, 'kernel'].sort())
      expect((await json(`${path}/images/kernel`)).tags.sort()).toEqual(listed.tags)
      expect((await json(`${path}/images/${own}`)).repository).toBe(name)
      const kernel = await registry.request(`${path}/images/kernel/kernel`)
      expect(Buffer.from(await kernel.arrayBuffer())).toEqual(fixture('elf/mini-net.hvt'))
      const head = await registry.request(`${path}/images/kernel/kernel`, { method: 'HEAD' })
      expect(head.status).toBe(200)
      expect((await json(`${path}/images/${own}/compare/kernel`)).repository).toBe(name)
      expect((await json(`${path}/builds`)).builds.map(({ id }: { id: string }) => id)).toEqual([
        build,
      ])
      expect((await json(`${path}/builds/${build}`)).id).toBe(build)
      expect((await json(`${path}/settings`)).immutableTags).toEqual([own])
      expect((await json(`${path}/tags/${own}/history`)).positions).toHaveLength(1)
      expect((await json(`/v2/${name}/tags/list`)).name).toBe(name)
    }
  })

  it.each([...RESERVED_TAGS])('no tag is named %s, and the refusal says why', async (tag) => {
    const manifest = JSON.parse((await pushImage(registry, 'a/reserved', 'v1')).body)
    const refused = [
      await putManifest(registry, 'a/reserved', tag, manifest),
      await putManifest(registry, 'a/reserved', `v2?tag=${tag}`, manifest),
      await post(`${API}/a/reserved/images?tag=${tag}`),
      await registry.request(`${API}/a/reserved/tags/${tag}/upload-urls`, { method: 'POST' }),
    ]
    for (const answer of refused) {
      expect(answer.status).toBe(400)
      expect(await messageOf(answer)).toMatch(
        new RegExp(`^TAG_INVALID: the tag "${tag}" is reserved, because`),
      )
    }
    expect((await json('/v2/a/reserved/tags/list')).tags).toEqual(['v1'])
    await expectError(
      await registry.request(`/v2/a/reserved/manifests/${tag}`),
      404,
      'MANIFEST_UNKNOWN',
    )
  })

  it('a reserved tag of an older database can be pulled, read by its digest and deleted', async () => {
    const created = await post(`${API}/a/older/images?tag=v1`)
    const { digest } = (await created.json()) as { digest: string }
    await sql(registry, `update tags set name = 'images' where name = 'v1' and digest = $1`, [
      digest,
    ])
    const pulled = await registry.request('/v2/a/older/manifests/images')
    expect(pulled.headers.get('docker-content-digest')).toBe(digest)
    expect((await json(`${API}/a/older/images/${digest}`)).tags).toContain('images')
    const removed = await registry.request('/v2/a/older/manifests/images', { method: 'DELETE' })
    expect(removed.status).toBe(202)
  })
})

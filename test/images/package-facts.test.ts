import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listImageContents } from '../../src/db/images/image-contents.ts'
import { resolveOldLists } from '../../src/db/images/layer-analyses.ts'
import { putOpamImport } from '../../src/db/opam-index/opam-index.ts'
import { withDatabaseOf } from '../opam-index/fixture-repository.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { ask, fixture, fixtureOf, formOf, PLAIN, postImage, pushLayers } from './image-fixtures.ts'

const LOCK = fixture('locks/hello-key-hvt.opam.locked')
const LOCK_TYPE = 'application/vnd.unikernel.opam-lock.v1'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

const push = async (repository: string, form: FormData) => {
  const answer = await postImage(registry, repository, '?tag=v1', form)
  expect({ status: answer.status, body: await answer.text() }).toMatchObject({ status: 201 })
}

type Hit = { repository: string; version: string | null; basis: string }

const hits = async (name: string, version?: string): Promise<(string | null)[][]> => {
  const query = version === undefined ? '' : `?version=${encodeURIComponent(version)}`
  const { images } = await ask(registry, `packages/opam/${name}${query}`)
  return images.map(({ repository, version: is, basis }: Hit) => [repository, is, basis])
}

describe('the packages of an image', () => {
  beforeAll(async () => {
    await push('facts/switch', formOf('hello-key-2'))
    const alone = { 'opam-switch': null, 'system-packages': null, 'build-environment': null }
    await push('facts/lock', formOf('hello-key-1', { ...alone, 'opam-lock': LOCK }))
    await push('facts/both', formOf('hello-key-1', { 'opam-lock': LOCK }))
  })

  it('in a shared archive are found by name, and each once an image', async () => {
    expect(await hits('mirage-runtime')).toEqual([
      ['facts/both', '4.11.2', 'lock'],
      ['facts/lock', '4.11.2', 'lock'],
      ['facts/switch', '4.11.2', 'inferred'],
    ])
    expect(await hits('metrics-lwt', '< 0.6')).toHaveLength(3)
    expect(await hits('macaddr')).toEqual([
      ['facts/both', '5.6.2', 'lock'],
      ['facts/lock', '5.6.2', 'lock'],
      ['facts/switch', '5.6.2', 'installed'],
    ])
  })

  it('are no compiler because an archive of OCaml was vendored', async () => {
    expect(await hits('ocaml', '= 5.3.0')).toEqual([])
    expect(await hits('ocaml-compiler')).toEqual([['facts/switch', '5.3.0', 'inferred']])
  })

  it('of unknown version are hits of every constraint', async () => {
    const unknown = [
      ['facts/both', null, 'unknown'],
      ['facts/switch', null, 'unknown'],
    ]
    expect((await hits('cppo', '< 1')).toSorted()).toEqual(unknown)
    expect((await hits('cppo', '> 99')).toSorted()).toEqual(unknown)
    const answer = await registry.request('/api/v1/packages/opam/cppo?version=%3E99&n=1')
    expect(((await answer.json()) as { images: Hit[] }).images).toHaveLength(1)
    expect(answer.headers.get('link')).toMatch(/rel="next"/)
  })

  it('are those of the index once an import has their checksum', async () => {
    // The archive of metrics in the fixture builds.
    const sha256 = /metrics-0\.5\.0\.tbz"\s+"metrics"\s+\[\s+"(sha256=[0-9a-f]{64})"/.exec(
      fixtureOf('hello-key-2', 'opam-switch').toString(),
    )?.[1]
    const key = String(sha256)
    const sources = ['metrics', 'metrics-lwt', 'metrics-unix'].map((name) => {
      return { key, name, version: '0.5.0+fix' }
    })
    const done = { origin: '/opam', etag: undefined, files: 3, problems: 0 }
    const packages = await withDatabaseOf(registry, async (db) => {
      expect(await putOpamImport(db, done, [], sources)).toBe(3)
      while ((await resolveOldLists(db, 1)) > 0);
      const { rows } = await db.query<{ id: number }>(
        `select m.id
           from manifests m
           join repositories r on r.id = m.repository_id
          where r.name = 'facts/switch'`,
      )
      const [contents] = await listImageContents(db, [rows[0]?.id ?? 0])
      return JSON.parse(contents?.packages ?? '[]') as { name: string }[]
    })
    expect((await hits('metrics-lwt')).toSorted()).toEqual([
      ['facts/both', '0.5.0', 'lock'],
      ['facts/lock', '0.5.0', 'lock'],
      ['facts/switch', '0.5.0+fix', 'index'],
    ])
    expect(await hits('metrics-unix')).toEqual([])
    expect(packages.filter(({ name }) => name === 'metrics-lwt')).toEqual([
      {
        ...{ ecosystem: 'opam', name: 'metrics-lwt', version: '0.5.0+fix', basis: 'index' },
        source: {
          directory: 'metrics',
          url: 'https://github.com/mirage/metrics/releases/download/v0.5.0/metrics-0.5.0.tbz',
          checksums: [sha256, expect.stringMatching(/^sha512=/)],
        },
      },
    ])
  })

  it('by lock file are shown, and the input id needs no lock file', async () => {
    const { layers, inputId } = await ask(registry, 'repositories/facts/lock/images/v1')
    const lock = layers.find(({ role }: { role: string }) => role === 'opam-lock')
    expect(lock).toMatchObject({ mediaType: LOCK_TYPE })
    expect(lock.problem ?? undefined).toBeUndefined()
    expect(inputId).toBeNull()
    const both = await ask(registry, 'repositories/facts/both/images/v1')
    expect(both.inputId).toMatch(/^[0-9a-f]{64}$/)
  })
})

describe('a lock file', () => {
  const kernel = { mediaType: PLAIN, bytes: fixtureOf('hello-key-1', 'kernel'), title: 'k.hvt' }

  it.each([
    ['its media type', { mediaType: LOCK_TYPE, bytes: LOCK, title: 'anything' }],
    ['its title', { mediaType: PLAIN, bytes: LOCK, title: 'mirage/www-hvt.opam.locked' }],
  ])('is recognized by %s', async (_, file) => {
    const repository = `locks/${file.title === 'anything' ? 'type' : 'title'}`
    const answer = await pushLayers(registry, repository, 'v1', [kernel, file])
    expect(answer.status).toBe(201)
    expect((await hits('mirage-bootvar')).filter(([name]) => name === repository)).toEqual([
      [repository, '1.0.1', 'lock'],
    ])
  })

  it.each(['opam-switch', 'opam-lock'] as const)(
    'in the wrong place is noticed: %s',
    async (role) => {
      const bytes = role === 'opam-lock' ? fixtureOf('hello-key-1', 'opam-switch') : LOCK
      const repository = `swapped/${role}`
      await push(repository, formOf('hello-key-1', { [role]: bytes }))
      const { layers } = await ask(registry, `repositories/${repository}/images/v1`)
      const { problem } = layers.find((one: { role: string }) => one.role === role)
      expect(problem).toMatch(
        role === 'opam-lock'
          ? /it locks no package; it looks like an opam switch/
          : /a lock file of opam/,
      )
      // The bytes are those of other images, whose packages stay.
      expect((await hits('mirage-bootvar', '= 1.0.1')).length).toBeGreaterThan(0)
    },
  )
})

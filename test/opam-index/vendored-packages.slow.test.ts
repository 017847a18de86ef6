import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { resolveLists } from '../../src/registry/opam-index/background.ts'
import { importPackages } from '../../src/registry/opam-index/import.ts'
import { packageFilesOf } from '../../src/registry/opam-index/package-files.ts'
import {
  ask,
  type Build,
  fixtureOf,
  formOf,
  postImage,
  pushBuild,
} from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { REPOSITORY, withDatabaseOf } from './fixture-repository.ts'

/** The packages that are in the unikernels: those of the vendored archives that the graph of the build names. */
const COMMON: Readonly<Record<string, string>> = {
  bheap: '2.0.0',
  cmdliner: '2.1.1',
  csexp: '1.5.2',
  'domain-name': '0.5.0',
  duration: '0.3.1',
  fmt: '0.11.0',
  ipaddr: '5.6.2',
  logs: '0.10.0',
  lwt: '6.1.2',
  macaddr: '5.6.2',
  metrics: '0.5.0',
  'metrics-lwt': '0.5.0',
  'mirage-bootvar': '1.0.1',
  'mirage-logs': '3.0.0',
  'mirage-mtime': '5.2.0',
  'mirage-ptime': '5.2.0',
  'mirage-sleep': '4.1.0',
  'mirage-solo5': '0.10.0',
  'ocplib-endian': '1.2',
  ptime: '1.2.0',
}
const VENDORED: Readonly<Partial<Record<Build, Readonly<Record<string, string>>>>> = {
  'hello-key-1': {
    ...COMMON,
    dune: '3.23.1',
    'dune-configurator': '3.23.1',
    mtime: '2.1.0',
    'mirage-runtime': '4.11.0',
  },
  'hello-key-2': {
    ...COMMON,
    dune: '3.24.2',
    'dune-configurator': '3.24.2',
    mtime: '2.2.0',
    'mirage-runtime': '4.11.2',
    'ocaml-compiler': '5.3.0',
  },
}

type Hit = { repository: string; version: string | null; basis: string }

const importAll = (registry: TestRegistry) =>
  withDatabaseOf(registry, async (db) => {
    const report = await importPackages(db, REPOSITORY, packageFilesOf(REPOSITORY))
    await resolveLists(db)
    return report
  })

const hits = async (registry: TestRegistry, name: string, version?: string) => {
  const query = version === undefined ? '' : `?version=${encodeURIComponent(version)}`
  const { images } = await ask(registry, `packages/opam/${name}${query}`)
  return images.map((one: Hit): (string | null)[] => [one.repository, one.version, one.basis])
}

async function expectAllKnown(registry: TestRegistry): Promise<void> {
  for (const [build, packages] of Object.entries(VENDORED)) {
    for (const [name, version] of Object.entries(packages ?? {})) {
      const found = await hits(registry, name, `= ${version}`)
      const own = found.filter(([repository]: (string | null)[]) => repository === `v/${build}`)
      expect(own, `${name} ${version} of ${build}`).toEqual([
        [`v/${build}`, version, expect.stringMatching(/^(?:index|installed)$/)],
      ])
    }
  }
  expect(await hits(registry, 'mtime')).toEqual([
    ['v/hello-key-2', '2.2.0', 'index'],
    ['v/hello-key-1', '2.1.0', 'index'],
  ])
  expect(await hits(registry, 'ocaml', '= 5.3.0')).toEqual([])
  // The archives hold these as well, but the unikernels have no use for them.
  for (const name of ['dune-rpc', 'metrics-unix', 'ocaml-src', 'ipaddr-sexp']) {
    const found = await hits(registry, name, '> 5.2.1 | < 5')
    expect({ name, found }).toEqual({ name, found: [] })
  }
}

const pushAll = async (registry: TestRegistry) => {
  await pushBuild(registry, 'v/hello-key-1', 'v1', 'hello-key-1')
  await pushBuild(registry, 'v/hello-key-2', 'v1', 'hello-key-2')
}

describe('every package of a vendored archive has its name and version', () => {
  let registry: TestRegistry
  beforeAll(async () => {
    registry = await startRegistry()
  })
  afterAll(() => registry.close())

  it('when the images are pushed before the index is imported', async () => {
    await pushAll(registry)
    expect(await hits(registry, 'metrics-lwt')).toMatchObject([
      ['v/hello-key-2', '0.5.0', 'inferred'],
      ['v/hello-key-1', '0.5.0', 'inferred'],
    ])
    expect(await importAll(registry)).toMatchObject({ files: 71, read: 71, problems: 0 })
    await expectAllKnown(registry)
  })

  it('when the index is imported again, which reads nothing', async () => {
    expect(await importAll(registry)).toMatchObject({ files: 71, read: 0, sources: 0 })
    await expectAllKnown(registry)
  })

  it('when the images are pushed after the import', async () => {
    const own = await startRegistry()
    try {
      await importAll(own)
      await pushAll(own)
      await expectAllKnown(own)
    } finally {
      await own.close()
    }
  })
})

it('pushes at the time of an import are resolved with the new index soon', async () => {
  const registry = await startRegistry()
  const switchFile = fixtureOf('hello-key-2', 'opam-switch').toString()
  const push = async (number: number) => {
    const other = Buffer.from(`${switchFile}\n# ${number}\n`)
    const form = formOf('hello-key-2', { 'opam-switch': other })
    expect((await postImage(registry, `r/${number}`, '?tag=v1', form)).status).toBe(201)
  }
  const pushing = async () => {
    for (let number = 0; number < 12; number += 1) await push(number)
  }
  try {
    await Promise.all([
      pushing(),
      withDatabaseOf(registry, (db) => importPackages(db, REPOSITORY, packageFilesOf(REPOSITORY))),
    ])
    const byIndex = async () => {
      const found = await hits(registry, 'metrics-lwt')
      return found.filter(([, , basis]: (string | null)[]) => basis === 'index').length
    }
    await expect.poll(byIndex, { timeout: 60_000, interval: 500 }).toBe(12)
    expect(await hits(registry, 'metrics-lwt')).toHaveLength(12)
  } finally {
    await registry.close()
  }
})

import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Queryable } from '../../src/db/database.ts'
import { resolveOldLists } from '../../src/db/images/layer-analyses.ts'
import { ask, fixture, formOf, postImage, pushBuild } from '../images/image-fixtures.ts'
import { eventBodies } from '../support/events.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { builder } from './builder.ts'

type Package = { name: string; version: string | null; basis: string }
type Named = Omit<Package, 'basis'>

const LOCK = fixture('locks/hello-key-hvt.opam.locked')
const OLD = 'v1'
const NEW = 'v2'

let registry: TestRegistry
let client: pg.Client

beforeAll(async () => {
  registry = await startRegistry()
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
})
afterAll(async () => {
  await client.end()
  await registry.close()
})

/** Adds packages of the source with a checksum to the index, as an import does. */
async function addToIndex(checksum: string, packages: readonly (readonly [string, string])[]) {
  for (const [name, version] of packages) {
    await client.query('insert into opam_sources (key, name, version) values ($1, $2, $3)', [
      checksum,
      name,
      version,
    ])
  }
  await client.query(
    `insert into opam_imports (origin, version, files, problems)
     values ('test', (select coalesce(max(version), 0) + 1 from opam_imports), 1, 0)
         on conflict (origin) do update set version = excluded.version`,
  )
  while ((await resolveOldLists(client as unknown as Queryable, 100)) > 0);
}

const factsOf = async (repository: string, tag: string): Promise<Package[]> =>
  (await ask(registry, `repositories/${repository}/images/${tag}`)).packages

const plain = ({ name, version, basis }: Package) => ({ name, version, basis })
const only = (of: readonly Package[], not: readonly Package[]): Package[] =>
  of.filter((one) => !not.some(({ name, version }) => name === one.name && version === one.version))

/** The differences by name, in one form: a changed package is one removed and one added. */
const flat = (removed: readonly Named[], added: readonly Named[]) => [
  ...removed.map(({ name, version }) => `- ${name} ${version || 'unknown'}`).toSorted(),
  ...added.map(({ name, version }) => `+ ${name} ${version || 'unknown'}`).toSorted(),
]

const purlOf = ({ name, version }: Named) =>
  `pkg:opam/${encodeURIComponent(name)}${version === null ? '' : `@${encodeURIComponent(version)}`}`

/** Expects that every answer about the packages of two images says what their facts say. */
async function expectAgreement(repository: string): Promise<Package[]> {
  const [before, after] = [await factsOf(repository, OLD), await factsOf(repository, NEW)]
  const differences = flat(only(before, after), only(after, before))

  const sbom = (format: string) =>
    ask(registry, `repositories/${repository}/images/${NEW}/documents/${format}`)
  const isOpam = (purl: string) => purl.startsWith('pkg:opam/')
  const wanted = after.map(purlOf).toSorted()
  type Component = { purl: string; properties: { name: string; value: string }[] }
  const components: Component[] = (await sbom('cyclonedx')).components
  const opam = components.filter(({ purl }) => isOpam(purl))
  expect(opam.map(({ purl }) => purl).toSorted()).toEqual(wanted)
  const noted = opam.map(({ purl, properties }) => [
    purl,
    properties.find(({ name }) => name === 'unikernel:known')?.value,
  ])
  const basis = after.map((one) => [purlOf(one), one.basis])
  expect(noted.toSorted()).toEqual(basis.toSorted())
  type Spdx = { externalRefs?: { referenceLocator: string }[] }
  const purls = (await sbom('spdx')).packages.flatMap(
    ({ externalRefs = [] }: Spdx) => externalRefs[0]?.referenceLocator ?? [],
  )
  expect(purls.filter(isOpam).toSorted()).toEqual(wanted)
  const materials = (await sbom('slsa')).predicate.buildDefinition.resolvedDependencies
  const uris: string[] = materials.map(({ uri = '' }: { uri?: string }) => uri)
  expect(uris.filter(isOpam).toSorted()).toEqual(wanted)

  const path = `repositories/${repository}/images/${OLD}/compare/${NEW}`
  const { packages } = (await ask(registry, path)).opam
  type Changed = { name: string; version: { from: string | null; to: string | null } }
  // Also packages with another source of the same version.
  const moved = packages.changed.filter(({ version }: Changed) => version.from !== version.to)
  const sides = (side: 'from' | 'to') =>
    moved.map(({ name, version }: Changed) => ({ name, version: version[side] }))
  expect(
    flat([...packages.removed, ...sides('from')], [...packages.added, ...sides('to')]),
  ).toEqual(differences)

  const inspected = await builder([
    'inspect',
    `${new URL(registry.url).host}/${repository}:${NEW}`,
    '--packages',
    '--json',
  ])
  const report = JSON.parse(inspected.stdout)
  expect(report.packagesFrom).toBe('registry')
  type Shown = Package & { ecosystem: string }
  const shown = report.packages.filter(({ ecosystem }: Shown) => ecosystem === 'opam')
  expect(shown.map(plain)).toEqual(after.map(plain))
  for (const { name, version } of after.slice(0, 200)) {
    if (version === null) continue
    const query = new URLSearchParams({ version: `= "${version}"`, n: '1000' })
    const { images } = await ask(registry, `packages/opam/${encodeURIComponent(name)}?${query}`)
    const tags = images.flatMap((one: { tags: string[] }) => one.tags)
    expect(tags, `${name} ${version}`).toContain(NEW)
  }
  return after
}

/** Expects that the event of the newest push has the differences of the facts at that time. */
async function expectEvent(repository: string, count: number): Promise<void> {
  const [before, after] = [await factsOf(repository, OLD), await factsOf(repository, NEW)]
  const bodies = (await eventBodies(registry, repository, count)).map((body) => JSON.parse(body))
  const moved = bodies.find(({ data }) => data.tag === 'live' && data.previousDigest !== null)
  const { packages } = moved.data.unikernels[0].changes
  type Listed = { ecosystem: string; name: string; version: string; from: string; to: string }
  const isOpam = ({ ecosystem }: Listed) => ecosystem === 'opam'
  const changed: Listed[] = packages.changed.filter(isOpam)
  expect(
    flat(
      [
        ...packages.removed.filter(isOpam),
        ...changed.map(({ name, from }) => ({ name, version: from })),
      ],
      [...packages.added.filter(isOpam), ...changed.map(({ name, to }) => ({ name, version: to }))],
    ),
  ).toEqual(flat(only(before, after), only(after, before)))
}

async function pushPair(repository: string, newer: FormData): Promise<void> {
  await pushBuild(registry, repository, OLD, 'hello-key-1')
  await registry.request(`/api/v1/repositories/${repository}/images?tag=live`, {
    method: 'POST',
    body: formOf('hello-key-1'),
  })
  const answer = await postImage(registry, repository, `?tag=${NEW}&tag=live`, newer)
  expect(answer.status).toBe(201)
}

describe('what an image contains is the same in the SBOM, in comparisons, in events and in inspect', () => {
  it('with neither lock file nor index', async () => {
    await pushPair('facts/neither', formOf('hello-key-2'))
    const packages = await expectAgreement('facts/neither')
    await expectEvent('facts/neither', 6)
    expect(new Set(packages.map(({ basis }) => basis))).toEqual(
      new Set(['installed', 'inferred', 'unknown']),
    )
  }, 120_000)

  it('with a lock file', async () => {
    await pushPair('facts/lock', formOf('hello-key-2', { 'opam-lock': LOCK }))
    const packages = await expectAgreement('facts/lock')
    await expectEvent('facts/lock', 6)
    expect(packages.some(({ basis }) => basis === 'lock')).toBe(true)
  }, 120_000)

  it('with an index, also when it is imported after the push', async () => {
    await pushPair('facts/index', formOf('hello-key-2'))
    const document = 'repositories/facts/index/images/v2/documents/cyclonedx'
    const earlier = await ask(registry, document)
    expect(await ask(registry, document)).toEqual(earlier)
    const list = await factsOf('facts/index', NEW)
    const lwt = list.find(({ name }) => name === 'lwt') as Package & {
      source: { checksums: string[] }
    }
    expect(lwt.basis).toBe('inferred')
    await addToIndex(lwt.source.checksums[0] ?? '', [['lwt', '6.1.2']])
    const packages = await expectAgreement('facts/index')
    expect(packages).toContainEqual(expect.objectContaining({ name: 'lwt', basis: 'index' }))
    const later = await ask(registry, document)
    expect(later.serialNumber).not.toBe(earlier.serialNumber)
    expect(await ask(registry, document)).toEqual(later)
    await expectAgreement('facts/lock')
    await pushPair('facts/indexed', formOf('hello-key-2'))
    await expectEvent('facts/indexed', 6)
  }, 120_000)
})

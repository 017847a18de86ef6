import { Spec, Validation } from '@cyclonedx/cyclonedx-library'
import { PackageURL } from 'packageurl-js'
import { describe, expect, it } from 'vitest'
import { cycloneDx } from '../../../src/unikernel/documents/cyclonedx.ts'
import { type ImagePackage, listKnownPackages } from '../../../src/unikernel/image-packages.ts'
import { fixtureImage } from '../fixture-image.ts'
import { allImages, CONTEXT, unsayable } from './images.ts'

const validator = new Validation.JsonStrictValidator(Spec.Version.v1dot6)

type Component = {
  'bom-ref': string
  name: string
  version?: string
  scope?: string
  purl?: string
  type: string
  hashes?: { alg: string; content: string }[]
  externalReferences?: { type: string; url: string; comment?: string }[]
  properties?: { name: string; value: string }[]
  components?: Component[]
}
type Bom = {
  serialNumber: string
  metadata: { timestamp: string; component: Component }
  components: Component[]
  dependencies: { ref: string; dependsOn?: string[] }[]
  compositions: { aggregate: string }[]
}

async function bomOf(build: string, replaced = {}): Promise<Bom> {
  const image = await fixtureImage(build, replaced)
  return JSON.parse(JSON.stringify(cycloneDx(image, CONTEXT)))
}

const found = (bom: Bom, ref: string) => bom.components.find((one) => one['bom-ref'] === ref)

describe('the CycloneDX document of an image', () => {
  it('is valid by the schema of CycloneDX 1.6, for any image', async () => {
    for (const [name, image] of await allImages()) {
      const document = cycloneDx(image, CONTEXT)
      expect(unsayable(document), name).toEqual([])
      expect(await validator.validate(JSON.stringify(document)), name).toBeNull()
    }
  })

  it('would be invalid with an unknown field', async () => {
    const document = { ...cycloneDx(await fixtureImage('hello-key-1'), CONTEXT), other: 1 }
    expect(await validator.validate(JSON.stringify(document))).not.toBeNull()
  })

  it('has unique refs, and no dangling ones', async () => {
    for (const [name, image] of await allImages()) {
      const bom: Bom = JSON.parse(JSON.stringify(cycloneDx(image, CONTEXT)))
      const { component } = bom.metadata
      const all = [component, ...(component.components ?? []), ...bom.components]
      const refs = all.map((one) => one['bom-ref'])
      expect(new Set(refs).size, name).toBe(refs.length)
      const sources = bom.dependencies.map(({ ref }) => ref)
      expect(new Set(sources).size, name).toBe(sources.length)
      const targets = bom.dependencies.flatMap(({ dependsOn = [] }) => dependsOn)
      for (const ref of [...sources, ...targets]) expect(refs, name).toContain(ref)
      for (const { purl } of all) {
        if (purl !== undefined) expect(() => PackageURL.fromString(purl), purl).not.toThrow()
      }
    }
  })

  it('links only to sources', async () => {
    for (const [name, image] of await allImages()) {
      const bom: Bom = JSON.parse(JSON.stringify(cycloneDx(image, CONTEXT)))
      const links = bom.components.flatMap(({ externalReferences = [] }) => externalReferences)
      for (const { url } of links) expect(url, name).toMatch(/^(https?|ssh|git|file):\/\//)
    }
  })

  it('describes the unikernel and its location', async () => {
    const { metadata } = await bomOf('hello-key-1')
    expect(metadata.timestamp).toBe('2026-08-22T10:11:12Z')
    expect(metadata.component).toMatchObject({
      type: 'application',
      name: 'hello/key',
      version: CONTEXT.digest,
      purl: `pkg:oci/key@${CONTEXT.digest}?repository_url=registry.example:5000%2Fhello%2Fkey`,
      externalReferences: [
        {
          type: 'distribution',
          url: `https://registry.example:5000/v2/hello/key/manifests/${CONTEXT.digest}`,
        },
      ],
    })
    const said = new Map(metadata.component.properties?.map(({ name, value }) => [name, value]))
    expect(said.get('unikernel:target')).toBe('hvt')
    expect(said.get('unikernel:architecture')).toBe('x86_64')
    expect(said.get('unikernel:kernel-digest')).toMatch(/^sha256:3e8948195482/)
    expect(said.get('unikernel:input-id')).toMatch(/^d9f3ed4f3b71/)
    expect(metadata.component.components?.map(({ name }) => name)).toEqual([
      'hello-key.hvt',
      'opam-switch',
      'system-packages',
      'build-environment',
      'hello-key.build-hashes',
      'hello-key.hvt.debug',
    ])
  })

  it('distinguishes packages of the switch, in vendored sources and of the host', async () => {
    const bom = await bomOf('hello-key-2')
    expect(found(bom, 'opam/solo5')).toMatchObject({
      type: 'library',
      version: '0.12.1',
      purl: 'pkg:opam/solo5@0.12.1',
    })
    expect(found(bom, 'vendored/lwt')).toMatchObject({
      name: 'lwt',
      version: '6.1.2',
      purl: 'pkg:opam/lwt@6.1.2',
      properties: [
        { name: 'unikernel:component', value: 'vendored' },
        { name: 'unikernel:known', value: 'inferred' },
        { name: 'unikernel:directory', value: 'lwt' },
      ],
      hashes: [
        { alg: 'MD5', content: '00bc7eb2772a28530f7365a7040f0c4f' },
        { alg: 'SHA-512', content: expect.stringMatching(/^a4737a2f/) },
      ],
      externalReferences: [
        {
          type: 'source-distribution',
          url: 'https://github.com/ocsigen/lwt/archive/refs/tags/6.1.2.tar.gz',
        },
      ],
    })
    expect(found(bom, 'host/bash/5.2.15-2+b8/')).toMatchObject({
      scope: 'excluded',
      purl: 'pkg:deb/debian/bash@5.2.15-2%2Bb8?distro=debian-12',
    })
    expect(bom.components.filter(({ scope }) => scope === 'excluded').length).toBeGreaterThan(100)
  })

  it('has the dependencies of the switch, also into vendored sources', async () => {
    const bom = await bomOf('hello-key-1')
    const edges = new Map(bom.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn ?? []]))
    expect(edges.get('image')).toEqual(['opam/hello-key'])
    expect(edges.get('opam/hello-key')).toContain('vendored/mirage-solo5')
    expect(edges.get('vendored/mirage-solo5')).toContain('vendored/lwt')
    expect(edges.get('opam/base-bigarray')).toEqual([])
    // A package of a vendored source with another name.
    expect(edges.get('vendored/mirage-solo5')).toContain('vendored/mirage-runtime')
    expect(found(bom, 'vendored/mirage-runtime')).toMatchObject({
      purl: expect.stringMatching(/^pkg:opam\/mirage-runtime@4\./),
    })
    const reached = new Set(['image'])
    for (const ref of reached) for (const next of edges.get(ref) ?? []) reached.add(next)
    const vendored = bom.components.filter((one) => one['bom-ref'].startsWith('vendored/'))
    for (const one of vendored) expect(reached).toContain(one['bom-ref'])
  })

  it('lists every opam package once, and no folder beside its packages', async () => {
    for (const build of ['hello-key-1', 'hello-key-2']) {
      const bom = await bomOf(build)
      const purls = bom.components.map(({ purl }) => purl).filter((purl) => purl !== undefined)
      expect(new Set(purls).size).toBe(purls.length)
      const facts = listKnownPackages(await fixtureImage(build)).filter(
        (one) => one.ecosystem === 'opam',
      )
      const purlOf = ({ name, version }: ImagePackage) =>
        `pkg:opam/${name.replaceAll('+', '%2B')}${version === null ? '' : `@${version.replaceAll('+', '%2B')}`}`
      expect(purls.filter((purl) => purl.startsWith('pkg:opam/')).toSorted()).toEqual(
        facts.map(purlOf).toSorted(),
      )
      expect(purls.filter((purl) => /^pkg:(?:github|generic)\//.test(purl))).toEqual([])
    }
  })

  it('has another id when more is known about the packages', async () => {
    const image = await fixtureImage('hello-key-1')
    const packages = listKnownPackages(image)
    const indexed = packages.map((one) => ({ ...one, basis: 'index' as const }))
    const [first, second] = [packages, indexed].map((list) => cycloneDx(image, CONTEXT, list))
    expect(second?.serialNumber).not.toBe(first?.serialNumber)
  })

  it('is the same for the same image, and has another id for another image', async () => {
    const first = await bomOf('hello-key-1')
    expect(await bomOf('hello-key-1')).toEqual(first)
    expect(first.serialNumber).toMatch(/^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab]/)
    const image = await fixtureImage('hello-key-1')
    for (const other of [{ repository: 'other' }, { version: '0.2.0' }, { registry: 'a' }]) {
      const { serialNumber } = cycloneDx(image, { ...CONTEXT, ...other })
      expect(serialNumber).not.toBe(first.serialNumber)
    }
  })

  it('is marked incomplete when a layer is missing', async () => {
    const [known] = (await bomOf('hello-key-1', { 'system-packages': null })).compositions
    expect(known?.aggregate).toBe('incomplete')
  })
})

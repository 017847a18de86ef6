import { PackageURL } from 'packageurl-js'
import { describe, expect, it } from 'vitest'
import { spdx } from '../../../src/unikernel/documents/spdx.ts'
import { fixtureImage } from '../fixture-image.ts'
import { allImages, CONTEXT, unsayable } from './images.ts'
import { spdxErrors } from './spdx-rules.ts'

type Package = {
  SPDXID: string
  name: string
  versionInfo?: string
  downloadLocation: string
  externalRefs?: { referenceLocator: string }[]
  checksums?: { algorithm: string; checksumValue: string }[]
}
type Relation = { spdxElementId: string; relationshipType: string; relatedSpdxElement: string }
type Spdx = { documentNamespace: string; packages: Package[]; relationships: Relation[] }

const plain = (document: object): Spdx => JSON.parse(JSON.stringify(document))
const documentOf = async (build: string) => plain(spdx(await fixtureImage(build), CONTEXT))

describe('the SPDX document of an image', () => {
  it('is valid by the rules of SPDX 2.3, for any image', async () => {
    for (const [name, image] of await allImages()) {
      const document = spdx(image, CONTEXT)
      expect(unsayable(document), name).toEqual([])
      expect(spdxErrors(plain(document)), name).toEqual([])
    }
  })

  it('would be invalid with an unknown field or location', async () => {
    const document = await documentOf('hello-key-1')
    expect(spdxErrors({ ...document, other: 1 })).not.toEqual([])
    const packages = document.packages.map((one) => ({ ...one, downloadLocation: '/home/x' }))
    expect(spdxErrors({ ...document, packages })).not.toEqual([])
  })

  it('has unique ids, and no dangling relationships', async () => {
    for (const [name, image] of await allImages()) {
      const { packages, relationships } = plain(spdx(image, CONTEXT))
      const ids = ['SPDXRef-DOCUMENT', ...packages.map(({ SPDXID }) => SPDXID)]
      const unique = new Set(ids)
      expect(unique.size, name).toBe(ids.length)
      for (const { spdxElementId, relatedSpdxElement } of relationships) {
        expect(unique, name).toContain(spdxElementId)
        expect(unique, name).toContain(relatedSpdxElement)
      }
      const written = relationships.map((one) => JSON.stringify(one))
      expect(new Set(written).size, name).toBe(written.length)
      for (const { externalRefs = [] } of packages) {
        for (const { referenceLocator } of externalRefs) {
          expect(() => PackageURL.fromString(referenceLocator), referenceLocator).not.toThrow()
        }
      }
    }
  })

  it('has the relationship of each component to the kernel', async () => {
    const { packages, relationships } = await documentOf('hello-key-2')
    const idOf = (purl: string) =>
      packages.find(({ externalRefs }) => externalRefs?.[0]?.referenceLocator === purl)?.SPDXID
    const kernel = packages.find(({ name }) => name === 'hello-key.hvt')?.SPDXID
    const has = (spdxElementId = '', relationshipType = '', relatedSpdxElement = '') =>
      expect(relationships).toContainEqual({ spdxElementId, relationshipType, relatedSpdxElement })
    has('SPDXRef-DOCUMENT', 'DESCRIBES', 'SPDXRef-image')
    has('SPDXRef-image', 'CONTAINS', kernel)
    has(kernel, 'GENERATED_FROM', idOf('pkg:opam/hello-key@1.0.0'))
    has(kernel, 'GENERATED_FROM', idOf('pkg:opam/lwt@6.1.2'))
    has(idOf('pkg:opam/solo5@0.12.1'), 'BUILD_DEPENDENCY_OF', kernel)
    has(idOf('pkg:deb/debian/bash@5.2.15-2%2Bb8?distro=debian-12'), 'BUILD_TOOL_OF', kernel)
    has(idOf('pkg:opam/hello-key@1.0.0'), 'DEPENDS_ON', idOf('pkg:opam/lwt@6.1.2'))
  })

  it('has SPDX locations of sources, and NOASSERTION for others', async () => {
    const image = await fixtureImage('hello-key-1', {
      'opam-switch': `
        installed: ["a.1" "b.1" "c.1" "d.1"]
        package "a" { version: "1" url { src: "git+https://example.org/a.git#0f1e" } }
        package "b" { version: "1" url { src: "/home/b" } }
        package "c" { version: "1" url { src: "https://example.org/c.tbz" checksum: "sha256=${'a'.repeat(64)}" } }`,
    })
    const { packages } = plain(spdx(image, CONTEXT))
    const locations = packages
      .filter(({ SPDXID }) => SPDXID.startsWith('SPDXRef-opam'))
      .map(({ name, downloadLocation }) => [name, downloadLocation])
    expect(locations).toEqual([
      ['a', 'git+https://example.org/a.git@0f1e'],
      ['b', 'NOASSERTION'],
      ['c', 'https://example.org/c.tbz'],
      ['d', 'NOASSERTION'],
    ])
    expect(packages.find(({ name }) => name === 'c')?.checksums).toEqual([
      { algorithm: 'SHA256', checksumValue: 'a'.repeat(64) },
    ])
  })

  it('is the same for the same image', async () => {
    expect(await documentOf('hello-key-1')).toEqual(await documentOf('hello-key-1'))
  })
})

import { abiVersionOf, devicesOf, type ImageLayer, type UnikernelImage } from '../image.ts'
import { type ImagePackage, listKnownPackages } from '../image-packages.ts'
import type { Component } from './component.ts'
import { componentsOf } from './components.ts'
import {
  blobUrl,
  type DocumentContext,
  documentTime,
  documentUuid,
  type Hash,
  hashOf,
  manifestUrl,
  plainText,
} from './context.ts'
import { type Json, type JsonObject, withoutUndefined } from './json.ts'
import { ociPurl } from './purl.ts'
import { findLocation, parseSourceAddress } from './source-address.ts'

const DOCUMENT = 'SPDXRef-DOCUMENT'
const IMAGE = 'SPDXRef-image'
const NOASSERTION = 'NOASSERTION'

/**
 * Writes the bill of materials of an image as SPDX 2.3 JSON (ISO/IEC 5962 is 2.2.1, and 2.3 only
 * adds to it). The same image has the same document. Not SPDX 3: it is another model in JSON-LD,
 * and most tools for SPDX read only version 2. Layers are packages and not files: a file must have
 * its SHA-1 (8.4), which a registry does not know.
 */
export function spdx(
  image: UnikernelImage,
  context: DocumentContext,
  packages: readonly ImagePackage[] = listKnownPackages(image),
): JsonObject {
  const { list, roots, dependencies, omitted } = componentsOf(image, packages)
  const layers = image.layers.map((layer, index) => ({ layer, id: `SPDXRef-layer-${index}` }))
  const ids = new Map(list.map((one, index) => [one.ref, componentId(one, index)]))
  const idOf = (ref: string) => ids.get(ref) ?? IMAGE
  const rootRefs = new Set(roots)
  const kernel = layers.find(({ layer }) => layer.role === 'kernel')?.id ?? IMAGE
  return withoutUndefined({
    spdxVersion: 'SPDX-2.3',
    dataLicense: 'CC0-1.0',
    SPDXID: DOCUMENT,
    name: `${context.repository}@${context.digest}`,
    comment: omitted === 0 ? undefined : `${omitted} more packages or dependencies are not listed`,
    documentNamespace: `urn:uuid:${documentUuid('spdx', context, packages)}`,
    creationInfo: {
      created: documentTime(context),
      creators: [`Tool: rookery-${context.version}`],
    },
    packages: [
      imagePackage(image, context),
      ...layers.map(({ layer, id }) => layerPackage(layer, id, context)),
      ...list.map((one) => componentPackage(one, idOf(one.ref))),
    ],
    relationships: [
      relation(DOCUMENT, 'DESCRIBES', IMAGE),
      ...layers.map(({ id }) => relation(IMAGE, 'CONTAINS', id)),
      ...layers.flatMap(({ layer, id }) => layerRelation(layer, id, kernel)),
      ...roots.map((ref) => relation(kernel, 'GENERATED_FROM', idOf(ref))),
      ...list.flatMap((one) => componentRelation(one, idOf(one.ref), kernel, rootRefs)),
      ...[...dependencies].flatMap(([ref, targets]) =>
        targets.map((target) => relation(idOf(ref), 'DEPENDS_ON', idOf(target))),
      ),
    ],
  })
}

// 3.2: letters, digits, `.` and `-`. The number distinguishes names that differ in other characters
// only.
function componentId({ kind, name }: Component, index: number): string {
  return `SPDXRef-${kind}-${index}-${name.replaceAll(/[^A-Za-z0-9.-]/g, '-')}`
}

function relation(from: string, relationshipType: string, to: string): JsonObject {
  return { spdxElementId: from, relationshipType, relatedSpdxElement: to }
}

function layerRelation({ role }: ImageLayer, id: string, kernel: string): JsonObject[] {
  if (role === undefined || role === 'kernel') return []
  return [relation(id, role === 'debug' ? 'VARIANT_OF' : 'METAFILE_OF', kernel)]
}

function componentRelation(
  { kind, ref }: Component,
  id: string,
  kernel: string,
  roots: ReadonlySet<string>,
): JsonObject[] {
  if (roots.has(ref)) return []
  if (kind === 'vendored' || kind === 'source') return [relation(kernel, 'GENERATED_FROM', id)]
  return [relation(id, kind === 'host' ? 'BUILD_TOOL_OF' : 'BUILD_DEPENDENCY_OF', kernel)]
}

function imagePackage({ kernel }: UnikernelImage, context: DocumentContext): JsonObject {
  return {
    SPDXID: IMAGE,
    name: context.repository,
    versionInfo: context.digest,
    downloadLocation: manifestUrl(context),
    filesAnalyzed: false,
    supplier: NOASSERTION,
    primaryPackagePurpose: 'APPLICATION',
    checksums: checksums([hashOf(context.digest)]),
    externalRefs: [purlRef(ociPurl(context))],
    comment: kernelComment(kernel),
  }
}

function kernelComment(kernel: UnikernelImage['kernel']): string {
  const architecture = kernel.architecture ?? 'another architecture'
  const devices = devicesOf(kernel)
  if (devices === undefined) return `${kernel.target}, ${architecture}, no Solo5 kernel`
  const names = devices.map(({ kind, name }) => `${kind}:${name}`).join(', ')
  return `Solo5 ${kernel.target}, ABI ${abiVersionOf(kernel)}, ${architecture}, devices: ${names || 'none'}`
}

function layerPackage(layer: ImageLayer, id: string, context: DocumentContext): JsonObject {
  const { title, role, digest, problem } = layer
  const file = plainText(title ?? '')
  return withoutUndefined({
    SPDXID: id,
    name: file || (role ?? digest),
    packageFileName: file || undefined,
    downloadLocation: blobUrl(context, digest),
    filesAnalyzed: false,
    supplier: NOASSERTION,
    primaryPackagePurpose: role === 'kernel' ? 'APPLICATION' : 'FILE',
    checksums: checksums([hashOf(digest)]),
    comment: problem === undefined ? role : plainText(problem),
  })
}

function componentPackage(one: Component, id: string): JsonObject {
  const { kind, name, version, basis, directory, purl, source } = one
  const location = source && findLocation(parseSourceAddress(source.url))
  return withoutUndefined({
    SPDXID: id,
    name,
    versionInfo: version,
    downloadLocation: location ?? NOASSERTION,
    filesAnalyzed: false,
    supplier: NOASSERTION,
    primaryPackagePurpose: kind === 'host' ? 'APPLICATION' : 'SOURCE',
    checksums: checksums(source?.checksums.map(hashOf) ?? []),
    sourceInfo: directory === undefined ? undefined : `vendored in ${plainText(directory)}`,
    comment: kind === 'host' || basis === undefined ? undefined : `known: ${basis}`,
    externalRefs: [purlRef(purl)],
  })
}

function purlRef(purl: string): JsonObject {
  return {
    referenceCategory: 'PACKAGE-MANAGER',
    referenceType: 'purl',
    referenceLocator: purl,
  }
}

function checksums(found: readonly Hash[]): readonly Json[] {
  return found.map(({ algorithm, hex }) => ({
    algorithm: algorithm.toUpperCase(),
    checksumValue: hex,
  }))
}

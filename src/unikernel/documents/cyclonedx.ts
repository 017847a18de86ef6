import { abiVersionOf, devicesOf, type ImageLayer, type UnikernelImage } from '../image.ts'
import { type ImagePackage, listKnownPackages } from '../image-packages.ts'
import type { OpamSource } from '../opam/package.ts'
import type { Component } from './component.ts'
import { type Components, componentsOf } from './components.ts'
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
import { isLink, parseSourceAddress } from './source-address.ts'

const IMAGE = 'image'
const ALGORITHMS = { md5: 'MD5', sha256: 'SHA-256', sha512: 'SHA-512' } as const

/**
 * Writes the bill of materials of an image as CycloneDX 1.6 JSON. The same image has the same
 * document. The unikernel is an `application`: `firmware` belongs to a device, and tools list it
 * apart from deployed software. Packages of the host are components with the scope `excluded`,
 * which tools read as "not there at runtime"; `formulation` describes a build better, and hardly
 * any tool reads it.
 */
export function cycloneDx(
  image: UnikernelImage,
  context: DocumentContext,
  packages: readonly ImagePackage[] = listKnownPackages(image),
): JsonObject {
  const components = componentsOf(image, packages)
  const { list, roots, dependencies } = components
  return {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    serialNumber: `urn:uuid:${documentUuid('cyclonedx', context, packages)}`,
    version: 1,
    metadata: {
      timestamp: documentTime(context),
      lifecycles: [{ phase: 'post-build' }],
      tools: {
        components: [{ type: 'application', name: 'rookery', version: context.version }],
      },
      component: imageComponent(image, context),
    },
    components: list.map(component),
    dependencies: [
      withoutUndefined({ ref: IMAGE, dependsOn: roots }),
      ...[...dependencies].map(([ref, dependsOn]) => withoutUndefined({ ref, dependsOn })),
    ],
    compositions: [
      {
        aggregate: isIncomplete(image, components) ? 'incomplete' : 'unknown',
        assemblies: [IMAGE],
      },
    ],
  }
}

/** True when something is known to be missing; false says that nobody knows. */
function isIncomplete(
  { opamSwitch, opamLock, systemPackages }: UnikernelImage,
  { omitted }: Components,
): boolean {
  const parts = [opamSwitch ?? opamLock, systemPackages]
  return omitted > 0 || parts.some((one) => one === undefined || one.problems.length > 0)
}

function imageComponent(image: UnikernelImage, context: DocumentContext): JsonObject {
  const { repository, digest, mediaType } = context
  return withoutUndefined({
    type: 'application',
    'bom-ref': IMAGE,
    'mime-type': mimeType(mediaType),
    name: repository,
    version: digest,
    hashes: hashes([hashOf(digest)]),
    purl: ociPurl(context),
    externalReferences: [{ type: 'distribution', url: manifestUrl(context) }],
    components: image.layers.map((layer, index) => layerComponent(layer, index, context)),
    properties: imageProperties(image),
  })
}

function layerComponent(layer: ImageLayer, index: number, context: DocumentContext): JsonObject {
  const { role, title, digest, size, mediaType, problem } = layer
  return withoutUndefined({
    type: 'file',
    'bom-ref': `layer/${index}`,
    'mime-type': mimeType(mediaType),
    name: plainText(title ?? '') || (role ?? digest),
    hashes: hashes([hashOf(digest)]),
    externalReferences: [{ type: 'distribution', url: blobUrl(context, digest) }],
    properties: [
      ...(role === undefined ? [] : [property('role', role)]),
      property('bytes', `${size}`),
      ...(problem === undefined ? [] : [property('problem', plainText(problem))]),
    ],
  })
}

// The schema allows only these; a media type in capitals is left out.
function mimeType(mediaType: string | undefined): string | undefined {
  return /^[-+a-z0-9.]+\/[-+a-z0-9.]+$/.test(mediaType ?? '') ? mediaType : undefined
}

/** A property without a field of its own, under Rookery's own prefix. */
function property(name: string, value: string): JsonObject {
  return { name: `unikernel:${name}`, value }
}

function imageProperties({ kernel, config, inputId }: UnikernelImage): readonly JsonObject[] {
  const { target, architecture } = kernel
  const abi = abiVersionOf(kernel)
  const memory = config?.memory
  return [
    property('kernel-digest', kernel.digest),
    property('target', target),
    ...(abi === undefined ? [] : [property('abi-version', `${abi}`)]),
    ...(architecture === undefined ? [] : [property('architecture', architecture)]),
    ...(devicesOf(kernel) ?? []).map(({ kind, name }) => property('device', `${kind}:${name}`)),
    ...(memory === undefined ? [] : [property('memory-mib', `${memory}`)]),
    ...(inputId === undefined ? [] : [property('input-id', inputId)]),
  ]
}

function component(one: Component): JsonObject {
  const { ref, kind, name, version, basis, directory, purl, source, extraSources } = one
  return withoutUndefined({
    type: kind === 'host' ? 'application' : 'library',
    'bom-ref': ref,
    name,
    version,
    // It is unknown which packages of the switch are linked and which only build: they have no
    // scope.
    scope: kind === 'host' ? 'excluded' : undefined,
    hashes: hashes(source?.checksums.map(hashOf) ?? []),
    purl,
    externalReferences: [
      ...(source === undefined ? [] : references(source)),
      ...extraSources.flatMap((extra) =>
        references(extra).map((one) => ({
          ...one,
          ...withoutUndefined({ hashes: hashes(extra.checksums.map(hashOf)) }),
        })),
      ),
    ],
    properties: [
      property('component', kind),
      ...(basis === undefined ? [] : [property('known', basis)]),
      ...(directory === undefined ? [] : [property('directory', plainText(directory))]),
    ],
  })
}

function references({ url }: OpamSource): JsonObject[] {
  const source = parseSourceAddress(url)
  if (!isLink(source)) return []
  const { vcs, address, reference } = source
  const type = vcs === undefined ? 'source-distribution' : 'vcs'
  return [withoutUndefined({ type, url: address, comment: reference })]
}

function hashes(found: readonly Hash[]): readonly Json[] {
  return found.map(({ algorithm, hex }) => ({ alg: ALGORITHMS[algorithm], content: hex }))
}

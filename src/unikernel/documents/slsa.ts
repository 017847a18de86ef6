import type { Digest } from '../../oci/digest.ts'
import { INPUTS } from '../format.ts'
import { describeHost } from '../host/build-environment.ts'
import type { ImageLayer, UnikernelImage } from '../image.ts'
import { type ImagePackage, listKnownPackages } from '../image-packages.ts'
import type { OpamSource } from '../opam/package.ts'
import type { Component } from './component.ts'
import { componentsOf } from './components.ts'
import { actorUri, blobUrl, type DocumentContext, type Hash, hashOf, plainText } from './context.ts'
import { type JsonObject, withoutUndefined } from './json.ts'
import { findCommit, findLocation, parseSourceAddress } from './source-address.ts'

/**
 * The build type of unikernels: spec/unikernel-image.md, "Provenance". A UUID, because a URL would
 * belong to one organization.
 */
export const BUILD_TYPE = 'urn:uuid:b8f2a1c4-0d37-4c1e-8a52-6e9d3f70c5b1'

/**
 * Writes SLSA provenance v1 in an unsigned in-toto statement v1: what the image itself records
 * about its build. The builder is the pusher, as this registry names it. Times and an id of the
 * build are unknown, so there is no metadata.
 */
export function slsaProvenance(
  image: UnikernelImage,
  context: DocumentContext,
  packages: readonly ImagePackage[] = listKnownPackages(image),
): JsonObject {
  const { layers } = image
  const withRole = (...roles: readonly string[]) =>
    layers.filter(({ role }) => role !== undefined && roles.includes(role))
  const byproducts = withRole('build-hashes', 'console')
  return {
    _type: 'https://in-toto.io/Statement/v1',
    subject: subjects(image),
    predicateType: 'https://slsa.dev/provenance/v1',
    predicate: {
      buildDefinition: withoutUndefined({
        buildType: BUILD_TYPE,
        externalParameters: externalParameters(image),
        internalParameters: internalParameters(image),
        resolvedDependencies: [
          ...withRole(...INPUTS, 'script').map((layer) => layerDescriptor(layer, context)),
          ...componentsOf(image, packages).list.flatMap(componentDescriptors),
        ],
      }),
      runDetails: withoutUndefined({
        builder: { id: actorUri(context) },
        byproducts: byproducts.map((layer) => layerDescriptor(layer, context)),
      }),
    },
  }
}

/** The kernel and its debug twin. in-toto, "Statement": their names should be unique. */
function subjects({ kernel, layers }: UnikernelImage): JsonObject[] {
  const name = nameOf(kernel.title, 'kernel')
  const debug = layers.find(({ role }) => role === 'debug')
  if (debug === undefined) return [subject(name, kernel.digest)]
  const twin = nameOf(debug.title, 'debug')
  const unique = twin === name ? `${twin}.debug` : twin
  return [subject(name, kernel.digest), subject(unique, debug.digest)]
}

function subject(name: string, digest: Digest): JsonObject {
  return { name, digest: digestSet([hashOf(digest)]) }
}

/** The request of the build: packages, a target, and the inputs by their id. */
function externalParameters({ kernel, opamSwitch, inputId }: UnikernelImage): JsonObject {
  const { target } = kernel
  const packages = opamSwitch?.roots.map(({ name, version }) => `${name}.${version}`)
  return withoutUndefined({ target, packages, inputId })
}

function internalParameters({ buildEnvironment }: UnikernelImage): JsonObject | undefined {
  if (buildEnvironment === undefined) return undefined
  const environment = buildEnvironment.variables.map(({ name, value }) => [name, value])
  return { host: describeHost(buildEnvironment), environment: Object.fromEntries(environment) }
}

function nameOf(title: string | undefined, otherwise: string): string {
  return plainText(title ?? '') || otherwise
}

function layerDescriptor(layer: ImageLayer, context: DocumentContext): JsonObject {
  const { role, title, digest, mediaType } = layer
  return withoutUndefined({
    name: nameOf(title, role ?? digest),
    uri: blobUrl(context, digest),
    digest: digestSet([hashOf(digest)]),
    mediaType: plainText(mediaType),
    annotations: role === undefined ? undefined : { role },
  })
}

function componentDescriptors(one: Component): JsonObject[] {
  const { kind, name, basis, directory, purl, source, extraSources } = one
  const annotations = withoutUndefined({
    component: kind,
    known: basis,
    directory: directory === undefined ? undefined : plainText(directory),
  })
  return [
    withoutUndefined({ name, uri: purl, ...(source && sourceFields(source)), annotations }),
    ...extraSources.flatMap((extra) => {
      const { digest, downloadLocation } = sourceFields(extra)
      // in-toto, "ResourceDescriptor": without a URI and a digest a descriptor is empty.
      if (digest === undefined && downloadLocation === undefined) return []
      return [
        withoutUndefined({
          name: `${name}: ${extra.name}`,
          uri: downloadLocation,
          digest,
          annotations,
        }),
      ]
    }),
  ]
}

function sourceFields({ url, checksums }: OpamSource) {
  const address = parseSourceAddress(url)
  const digest = digestSet(checksums.map(hashOf), findCommit(address))
  return {
    digest: Object.keys(digest).length === 0 ? undefined : digest,
    downloadLocation: findLocation(address),
  }
}

/** in-toto's DigestSet has one hash for each algorithm: the first one counts. */
function digestSet(hashes: readonly Hash[], gitCommit?: string): JsonObject {
  const reversed = hashes.toReversed().map(({ algorithm, hex }) => [algorithm, hex])
  return { ...Object.fromEntries(reversed), ...withoutUndefined({ gitCommit }) }
}

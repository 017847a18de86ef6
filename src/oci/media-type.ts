import { shortened } from './digest.ts'
import { RegistryError } from './errors.ts'
import { findHiddenProblem } from './hidden-characters.ts'

export const IMAGE_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
export const IMAGE_INDEX = 'application/vnd.oci.image.index.v1+json'
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
export const DOCKER_MANIFEST_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'

/** Docker's schema 1, in which the digest leaves out a part of the bytes. */
const DOCKER_SCHEMA_1 =
  /^application\/vnd\.docker\.distribution\.manifest\.v1\+(?:json|prettyjws)$/i

/** A checked `type/subtype` without parameters. */
export type MediaType = string & { readonly __type: 'MediaType' }

const MEDIA_TYPE_LENGTH_MAX = 255
// RFC 6838, section 4.2, with the wider token characters of RFC 9110, which occur in practice.
const MEDIA_TYPE = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+\/[A-Za-z0-9!#$%&'*+.^_`|~-]+$/

/** True for `type/subtype` without parameters, of a length that fits in a header. */
export function isMediaType(text: string): text is MediaType {
  return text.length <= MEDIA_TYPE_LENGTH_MAX && MEDIA_TYPE.test(text)
}

/** A control character: no client sends one in a type, and a terminal could obey it. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: it finds them.
const CONTROL = /[\x00-\x1f\x7f-\x9f]/

/**
 * Returns why a text cannot be the type of a layer, config or artifact, to follow the name of its field; undefined for
 * other text. Parameters and any syntax are allowed: the registry only compares such a type, and sends it in no header.
 */
export function findContentTypeProblem(text: string): string | undefined {
  if (text === '' || text.length > MEDIA_TYPE_LENGTH_MAX) {
    return `must be a media type of 1 to ${MEDIA_TYPE_LENGTH_MAX} characters`
  }
  return CONTROL.test(text) ? 'must not contain control characters' : findHiddenProblem(text)
}

/** Returns a type without its parameters. */
export function withoutParameters(mediaType: string): string {
  const end = mediaType.indexOf(';')
  return (end === -1 ? mediaType : mediaType.slice(0, end)).trim()
}

// An allowed type is data to a browser: it neither runs nor renders it, and none of them is XML.
const MANIFEST_TYPE =
  /^application\/(?!.*\+(?:xml|html)$)(?:vnd\..+|prs\..+|.+\+json|json|octet-stream)$/i
const OCTET_STREAM = 'application/octet-stream'
const JSON_TYPE = /json$/i

/**
 * True for a type under which a manifest may be pushed: `application/` and a vendor's subtype, or one
 * that ends in `+json`. The registry serves manifests under their types.
 */
export function isManifestType(mediaType: MediaType): boolean {
  return MANIFEST_TYPE.test(mediaType)
}

const CHILD_TYPES: ReadonlySet<string> = new Set([
  IMAGE_MANIFEST,
  IMAGE_INDEX,
  DOCKER_MANIFEST,
  DOCKER_MANIFEST_LIST,
])

/** True for the types of images and indexes. An entry of an index with another type may be a blob. */
export function isImageType(mediaType: string): boolean {
  return CHILD_TYPES.has(mediaType)
}

/** True for the types of Docker's schema 1, whose manifests no client finds under the digest of their bytes. */
export function isDockerSchema1Type(mediaType: MediaType): boolean {
  return DOCKER_SCHEMA_1.test(mediaType)
}

/** Returns the Content-Type of a stored manifest: an earlier release stored manifests of any type. */
export function servedManifestType(mediaType: string): string {
  return MANIFEST_TYPE.test(mediaType) ? mediaType : OCTET_STREAM
}

/** True for a type that a browser shows as text, as it does JSON; it should save others. */
export function isJsonType(mediaType: string): boolean {
  return JSON_TYPE.test(mediaType)
}

/** Parses a Content-Type header, without its parameters. Throws MANIFEST_INVALID. */
export function parseContentType(header: string): MediaType {
  const text = withoutParameters(header)
  if (!isMediaType(text)) {
    throw new RegistryError(
      'MANIFEST_INVALID',
      { 'Content-Type': shortened(header) },
      { message: `Content-Type is not a media type; send for example ${IMAGE_MANIFEST}` },
    )
  }
  return text
}

/** True for layers that a registry need not contain: image spec, "Non-Distributable Layers", and Docker's. */
export function isNondistributable(mediaType: string): boolean {
  return (
    mediaType.startsWith('application/vnd.oci.image.layer.nondistributable.') ||
    mediaType.startsWith('application/vnd.docker.image.rootfs.foreign.')
  )
}

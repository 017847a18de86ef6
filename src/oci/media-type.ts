import { shortened } from './digest.ts'
import { RegistryError } from './errors.ts'

export const IMAGE_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
export const IMAGE_INDEX = 'application/vnd.oci.image.index.v1+json'
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
export const DOCKER_MANIFEST_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'

/** A checked `type/subtype` without parameters. */
export type MediaType = string & { readonly __type: 'MediaType' }

const MEDIA_TYPE_LENGTH_MAX = 255
// RFC 6838, section 4.2, with the wider token characters of RFC 9110, which occur in practice.
const MEDIA_TYPE = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+\/[A-Za-z0-9!#$%&'*+.^_`|~-]+$/

/** True for `type/subtype` without parameters, of a length that fits in a header. */
export function isMediaType(text: string): text is MediaType {
  return text.length <= MEDIA_TYPE_LENGTH_MAX && MEDIA_TYPE.test(text)
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
  const end = header.indexOf(';')
  const text = (end === -1 ? header : header.slice(0, end)).trim()
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

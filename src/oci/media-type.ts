import { shortened } from './digest.ts'
import { RegistryError } from './errors.ts'

export const IMAGE_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
export const IMAGE_INDEX = 'application/vnd.oci.image.index.v1+json'
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
export const DOCKER_MANIFEST_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'

/** A checked `type/subtype` without parameters. */
export type MediaType = string & { readonly __type: 'MediaType' }

const MEDIA_TYPE_LENGTH_MAX = 255
// RFC 6838, section 4.2, with the wider token characters of RFC 9110 that are seen in the wild.
const MEDIA_TYPE = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+\/[A-Za-z0-9!#$%&'*+.^_`|~-]+$/

/** True for `type/subtype` without parameters, of a length that a header can carry. */
export function isMediaType(text: string): text is MediaType {
  return text.length <= MEDIA_TYPE_LENGTH_MAX && MEDIA_TYPE.test(text)
}

/** A Content-Type header without its parameters. Throws MANIFEST_INVALID when it is none. */
export function parseContentType(header: string): MediaType {
  const end = header.indexOf(';')
  const text = (end === -1 ? header : header.slice(0, end)).trim()
  if (!isMediaType(text)) {
    throw new RegistryError(
      'MANIFEST_INVALID',
      { 'Content-Type': shortened(header) },
      { message: `Content-Type is no media type; send for example ${IMAGE_MANIFEST}` },
    )
  }
  return text
}

/** Layers that image spec allows to lie elsewhere ("Non-Distributable Layers"), and Docker's. */
export function isNondistributable(mediaType: string): boolean {
  return (
    mediaType.startsWith('application/vnd.oci.image.layer.nondistributable.') ||
    mediaType.startsWith('application/vnd.docker.image.rootfs.foreign.')
  )
}

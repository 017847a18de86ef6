import { type Digest, parseDigest, shortened } from './digest.ts'
import { RegistryError } from './errors.ts'
import { findContentTypeProblem } from './media-type.ts'

/** The fields of a descriptor that a registry needs: image spec, "OCI Content Descriptors". */
export type Descriptor = {
  /** May have parameters. */
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
}

/** The blob of a config without content: image spec, "Guidance for an Empty Descriptor". */
export const EMPTY_JSON: Uint8Array = Buffer.from('{}')

export type JsonObject = { readonly [key: string]: unknown }

/** True for a JSON object; false for a list and for null. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Parses a descriptor. Errors name the field `where`, such as `layers[2]`. Throws MANIFEST_INVALID. */
export function parseDescriptor(value: unknown, where: string): Descriptor {
  if (!isObject(value)) throw invalidManifest(where, 'must be a descriptor object')
  const { mediaType, digest, size } = value
  assertContentType(mediaType, `${where}.mediaType`)
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw invalidManifest(`${where}.size`, 'must be a whole number of bytes', size)
  }
  if (typeof digest !== 'string')
    throw invalidManifest(`${where}.digest`, 'must be a digest', digest)
  try {
    return { mediaType, size, digest: parseDigest(digest) }
  } catch (cause) {
    throw invalidManifest(`${where}.digest`, 'must be a sha256 or sha512 digest', digest, cause)
  }
}

/** Throws MANIFEST_INVALID for a value that cannot be the type of a layer, config or artifact. */
export function assertContentType(value: unknown, where: string): asserts value is string {
  if (typeof value !== 'string') throw invalidManifest(where, 'must be a media type', value)
  const problem = findContentTypeProblem(value)
  if (problem !== undefined) throw invalidManifest(where, problem, value)
}

/** MANIFEST_INVALID for one field of a manifest: its rule and, if short, its value. */
export function invalidManifest(
  where: string,
  rule: string,
  found?: unknown,
  cause?: unknown,
): RegistryError {
  const shown = typeof found === 'string' ? shortened(found) : found
  const plain = ['string', 'number', 'boolean'].includes(typeof shown)
  return new RegistryError(
    'MANIFEST_INVALID',
    { field: where, ...(plain ? { found: shown } : {}) },
    { message: `manifest invalid: ${where} ${rule}`, cause },
  )
}

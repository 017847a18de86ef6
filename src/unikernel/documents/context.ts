import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import type { Digest } from '../../oci/digest.ts'
import type { ImagePackage } from '../image-packages.ts'
import type { OpamChecksum } from '../opam/package.ts'
import { encoded } from './purl.ts'

/** The context of a document: the location of the image, and its pusher. */
export type DocumentContext = {
  readonly repository: string
  /** The registry's host for clients, `host` or `host:port`. */
  readonly registry: string
  /** The scheme of the registry's URLs for clients. */
  readonly scheme: 'http' | 'https'
  /** Digest of the manifest. */
  readonly digest: Digest
  readonly mediaType?: string
  readonly pushedAt: Date
  /** Undefined for a reader that may not see it. */
  readonly pushedBy: string | undefined
  /** The version of Rookery. */
  readonly version: string
}

/** A hash as documents write it: `algorithm` as in in-toto, such as `sha256`. */
export type Hash = { readonly algorithm: 'md5' | 'sha256' | 'sha512'; readonly hex: string }

/** Parses a digest, or a checksum of opam such as `sha256=…`. */
export function hashOf(text: Digest | OpamChecksum): Hash {
  const [name = '', hex = ''] = text.split(/[:=]/)
  const algorithm = name === 'sha512' || name === 'md5' ? name : 'sha256'
  return { algorithm, hex }
}

/**
 * Returns the time of a document: when the registry received its content. Not SOURCE_DATE_EPOCH,
 * which is often years before the build. RFC 3339 without fractions, which SPDX does not allow.
 */
export function documentTime({ pushedAt }: DocumentContext): string {
  return pushedAt.toISOString().replace(/\.\d+Z$/, 'Z')
}

// A random UUID, so that the names below it belong to Rookery alone.
const NAMESPACE = '3f0c3a52-6c0e-4e0b-9a3d-5d2f1b7c8e94'

/**
 * Makes a UUID from the image, the repository, the version of Rookery and what is known about the packages: RFC 9562,
 * version 5.
 */
export function documentUuid(
  format: string,
  context: DocumentContext,
  packages: readonly ImagePackage[],
): string {
  const { registry, repository, digest, version } = context
  const facts = createHash('sha256').update(JSON.stringify(packages)).digest('hex')
  const name = JSON.stringify([format, version, registry, repository, digest, facts])
  const hash = createHash('sha1').update(Buffer.from(NAMESPACE.replaceAll('-', ''), 'hex'))
  const bytes = hash.update(name).digest().subarray(0, 16)
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x50, 6)
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8)
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

/** Returns the URL of the manifest: distribution spec, end-3. */
export function manifestUrl({ scheme, registry, repository, digest }: DocumentContext): string {
  return `${scheme}://${registry}/v2/${repository}/manifests/${digest}`
}

/** Returns the URL of a blob: distribution spec, end-2. */
export function blobUrl(context: DocumentContext, digest: Digest): string {
  const { scheme, registry, repository } = context
  return `${scheme}://${registry}/v2/${repository}/blobs/${digest}`
}

/**
 * Identifies the pusher by a URI below the registry, which cannot be requested. Without a name it means some builder
 * of the registry.
 */
export function actorUri({ scheme, registry, pushedBy }: DocumentContext): string {
  const actors = `${scheme}://${registry}/actors`
  return pushedBy === undefined ? actors : `${actors}/${encoded(pushedBy)}`
}

/** Makes text well-formed UTF-8 on one line: clients choose the titles of layers. */
export function plainText(text: string): string {
  return (
    Buffer.from(text)
      .toString()
      // Also the controls of the direction of text.
      .replaceAll(/[\p{Cc}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, '\u{fffd}')
  )
}

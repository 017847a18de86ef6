import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import type { Digest } from '../../oci/digest.ts'
import type { OpamChecksum } from '../opam/package.ts'
import { encoded } from './purl.ts'

/** What a document says beside the image: where it is, and who brought it. */
export type DocumentContext = {
  readonly repository: string
  /** Under what name clients know the registry, `host` or `host:port`. */
  readonly registry: string
  /** How clients reach it. */
  readonly scheme: 'http' | 'https'
  /** Of the manifest. */
  readonly digest: Digest
  readonly mediaType?: string
  readonly pushedAt: Date
  readonly pushedBy: string
  /** Of Rookery. */
  readonly version: string
}

/** A hash in the words of the documents: `algorithm` as in-toto has it, such as `sha256`. */
export type Hash = { readonly algorithm: 'md5' | 'sha256' | 'sha512'; readonly hex: string }

/** The hash that a digest or a checksum of opam, such as `sha256=…`, is. */
export function hashOf(text: Digest | OpamChecksum): Hash {
  const [name = '', hex = ''] = text.split(/[:=]/)
  const algorithm = name === 'sha512' || name === 'md5' ? name : 'sha256'
  return { algorithm, hex }
}

/**
 * When a document was made: when the registry learned what it says. Not SOURCE_DATE_EPOCH, which is
 * often years before the build. RFC 3339 without fractions, which SPDX does not take.
 */
export function documentTime({ pushedAt }: DocumentContext): string {
  return pushedAt.toISOString().replace(/\.\d+Z$/, 'Z')
}

// Random, once: names below it are ours and nobody else's.
const NAMESPACE = '3f0c3a52-6c0e-4e0b-9a3d-5d2f1b7c8e94'

/** A UUID that the same image, repository and version of Rookery always give: RFC 9562, version 5. */
export function documentUuid(format: string, context: DocumentContext): string {
  const { registry, repository, digest, version } = context
  const name = JSON.stringify([format, version, registry, repository, digest])
  const hash = createHash('sha1').update(Buffer.from(NAMESPACE.replaceAll('-', ''), 'hex'))
  const bytes = hash.update(name).digest().subarray(0, 16)
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x50, 6)
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8)
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

/** Where the manifest is: distribution spec, end-3. */
export function manifestUrl({ scheme, registry, repository, digest }: DocumentContext): string {
  return `${scheme}://${registry}/v2/${repository}/manifests/${digest}`
}

/** Where a blob is: distribution spec, end-2. */
export function blobUrl(context: DocumentContext, digest: Digest): string {
  const { scheme, registry, repository } = context
  return `${scheme}://${registry}/v2/${repository}/blobs/${digest}`
}

/** Who pushed, as a URI below the registry. It names, and nothing answers there. */
export function actorUri({ scheme, registry, pushedBy }: DocumentContext): string {
  return `${scheme}://${registry}/actors/${encoded(pushedBy)}`
}

/** Text as UTF-8 can carry it, on one line: titles of layers are whatever a client wrote. */
export function plainText(text: string): string {
  return Buffer.from(text)
    .toString()
    .replaceAll(/[\p{Cc}\u2028\u2029]/gu, '\u{fffd}')
}

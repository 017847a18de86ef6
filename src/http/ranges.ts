import { RegistryError } from '../oci/errors.ts'
import type { ByteRange } from '../registry/blobs.ts'

const RANGE = /^bytes=\s*(\d{0,16})-(\d{0,16})\s*$/
const CONTENT_RANGE = /^(\d{1,16})-(\d{1,16})$/

/**
 * Parses the Range header of a request for a blob (RFC 9110, section 14.2). Returns undefined for the
 * whole blob: no header, another unit, several ranges, or a malformed range. Throws RANGE_INVALID for a
 * range outside of the blob, or one that ends before it begins.
 */
export function parseRange(header: string | undefined, size: number): ByteRange | undefined {
  const match = header === undefined ? null : RANGE.exec(header)
  if (match === null) return undefined
  const [, first = '', last = ''] = match
  if (first === '' && last === '') return undefined
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === '' || last === '' ? size - 1 : Math.min(Number(last), size - 1)
  const backwards = first !== '' && last !== '' && Number(first) > Number(last)
  if (backwards || start >= size || (first === '' && Number(last) === 0)) {
    throw new RegistryError('RANGE_INVALID', { size }, { blobSize: size })
  }
  return { start, end }
}

/** The position of an uploaded chunk in the blob. */
export type ChunkRange = { readonly start: number; readonly length: number }

/**
 * Parses the Content-Range of a chunk, in the form of the spec ("Pushing a blob in chunks"): `0-1023`.
 * Throws BLOB_UPLOAD_INVALID.
 */
export function parseChunkRange(header: string | undefined): ChunkRange | undefined {
  if (header === undefined) return undefined
  const match = CONTENT_RANGE.exec(header.trim())
  const start = Number(match?.[1])
  const end = Number(match?.[2])
  if (match === null || end < start || !Number.isSafeInteger(end)) {
    throw new RegistryError(
      'BLOB_UPLOAD_INVALID',
      { 'Content-Range': header.slice(0, 80) },
      { message: 'Content-Range of a chunk must be its first and last position, such as 0-1023' },
    )
  }
  return { start, length: end - start + 1 }
}

/** The Range header of an upload: the spec gives the position of the last byte received. */
export function receivedRange(size: number): string {
  return `0-${Math.max(0, size - 1)}`
}

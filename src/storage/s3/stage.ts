import { S3_PART_BYTES } from '../../config/limits.ts'
import { type Stage, StageLostError } from '../blob-store.ts'
import { isStorageKey } from '../storage-key.ts'

/** A part as CompleteMultipartUpload wants it: its number, and the ETag that the server gave. */
export type UploadedPart = readonly [number: number, etag: string]

/**
 * An unfinished blob in S3.
 *
 *     | part 1 | part 2 | …            | tail          |
 *     | parts of one multipart upload  | its own object, less than a part
 *
 * A part cannot be shorter than 5 MiB unless it is the last, so the rest is kept aside; a blob that is
 * shorter than a part is nothing but its tail, and the tail's key is then the blob's key.
 */
export type S3Stage = {
  readonly id: string
  /** The object that the multipart upload makes. */
  readonly multipart: { readonly key: string; readonly uploadId: string } | undefined
  readonly parts: readonly UploadedPart[]
  /** Bytes that the last part lacks to a whole one; only the end of a blob lacks any. */
  readonly short: number
  readonly tail: { readonly key: string; readonly size: number } | undefined
}

/** Of an upload to which nothing was added yet. */
export function emptyStage(id: string): S3Stage {
  return { id, multipart: undefined, parts: [], short: 0, tail: undefined }
}

/** Bytes that the stage has. */
export function sizeOfStage({ parts, short, tail }: S3Stage): number {
  return parts.length * S3_PART_BYTES - short + (tail?.size ?? 0)
}

/** As it goes into the database. */
export function toStage(stage: S3Stage): Stage {
  return { store: 's3', ...stage }
}

/** Undefined when it is a bookmark of another store. */
export function findStage(stage: Stage): S3Stage | undefined {
  if (stage.store !== 's3') return undefined
  const { id, multipart, parts, short, tail } = stage as unknown as S3Stage
  const keys = [multipart?.key, tail?.key].filter((key) => key !== undefined)
  if (typeof id !== 'string' || !keys.every(isStorageKey)) return undefined
  return { id, multipart, parts, short, tail }
}

/** Throws StageLostError for another store's, or one that has not `size` bytes. */
export function requireStage(stage: Stage, size: number): S3Stage {
  const found = findStage(stage)
  if (found === undefined) throw new StageLostError('the upload was begun in another store')
  const has = sizeOfStage(found)
  if (has !== size) throw new StageLostError(`the upload has ${has} bytes instead of ${size}`)
  return found
}

import { S3_PART_BYTES } from '../../config/limits.ts'
import { type Stage, StageLostError } from '../blob-store.ts'
import { isStorageKey } from '../storage-key.ts'

/** A part as CompleteMultipartUpload lists it: its number, and the ETag that the server returned. */
export type UploadedPart = readonly [number: number, etag: string]

/**
 * An unfinished blob in S3.
 *
 *     | part 1 | part 2 | …            | tail          |
 *     | parts of one multipart upload  | its own object, less than a part
 *
 * Only the last part may be shorter than 5 MiB, so the rest is stored aside as the tail. A blob that is
 * shorter than a part consists of its tail only, and the tail's key is then the blob's key.
 */
export type S3Stage = {
  readonly id: string
  /** The multipart upload, and the key of the object that it creates. */
  readonly multipart: { readonly key: string; readonly uploadId: string } | undefined
  readonly parts: readonly UploadedPart[]
  /** Bytes by which the last part is shorter than a whole one; 0 before the end of the blob. */
  readonly short: number
  readonly tail: { readonly key: string; readonly size: number } | undefined
}

/** Makes the stage of an empty upload. */
export function emptyStage(id: string): S3Stage {
  return { id, multipart: undefined, parts: [], short: 0, tail: undefined }
}

/** Returns the bytes of the stage. */
export function sizeOfStage({ parts, short, tail }: S3Stage): number {
  return parts.length * S3_PART_BYTES - short + (tail?.size ?? 0)
}

/** Converts the stage for the database. */
export function toStage(stage: S3Stage): Stage {
  return { store: 's3', ...stage }
}

/** Returns undefined for a stage of another store. */
export function findStage(stage: Stage): S3Stage | undefined {
  if (stage.store !== 's3') return undefined
  const { id, multipart, parts, short, tail } = stage as unknown as S3Stage
  const keys = [multipart?.key, tail?.key].filter((key) => key !== undefined)
  if (typeof id !== 'string' || !keys.every(isStorageKey)) return undefined
  return { id, multipart, parts, short, tail }
}

/** Returns the stage. Throws StageLostError for another store's stage, or one without `size` bytes. */
export function requireStage(stage: Stage, size: number): S3Stage {
  const found = findStage(stage)
  if (found === undefined) throw new StageLostError('the upload began in another store')
  const has = sizeOfStage(found)
  if (has !== size) throw new StageLostError(`the upload has ${has} bytes instead of ${size}`)
  return found
}

import type { Digest } from '../oci/digest.ts'

/**
 * A store's own bookmark of an unfinished blob. The registry keeps it as JSON and hands it back
 * unread, so stores hold no state, and any replica can go on where another stopped.
 */
export type Stage = { readonly [key: string]: unknown }

export type Appended = {
  readonly stage: Stage
  /** Bytes that the stage has now. */
  readonly size: number
}

/** Bytes from `start` to `end`, both counted, as in HTTP. */
export type ByteRange = {
  readonly start: number
  readonly end: number
}

/**
 * Where bytes lie. A store knows bytes and keys, and nothing of repositories, tags or HTTP; what
 * exists is said by the database. `test/storage/blob-store.contract.ts` says what every store does.
 */
export interface BlobStore {
  /** Size in bytes, or undefined when nothing lies under the key. */
  stat(key: string): Promise<number | undefined>

  /**
   * The bytes of `range`, in chunks of bounded size. A chunk is valid until the next one is asked
   * for: its memory is used again. Throws BlobMissing.
   */
  read(key: string, range: ByteRange): AsyncIterable<Uint8Array>

  /** Removes the bytes; it is no error when they are gone. */
  remove(key: string): Promise<void>

  /** A new, empty stage. `id` is unique for ever, and a valid file name. */
  stage(id: string): Promise<Stage>

  /**
   * Adds the bytes of `source` behind the first `size` bytes of the stage, and returns when they
   * are on disk. Nothing counts as added when it throws: the stage given can be used again, and
   * its size is still `size`. Throws StageLost when the stage has fewer bytes than `size`.
   */
  append(stage: Stage, size: number, source: AsyncIterable<Uint8Array>): Promise<Appended>

  /** The first `size` bytes of a stage, as `read` does. Throws StageLost. */
  readStage(stage: Stage, size: number): AsyncIterable<Uint8Array>

  /** A stage with the first `size` bytes that an earlier writer, still running, cannot touch. */
  fence(stage: Stage, size: number, id: string): Promise<Stage>

  /**
   * Keeps the first `size` bytes of the stage for ever under a key that no other write ever gets,
   * and returns that key when they survive a power cut. The caller has verified `digest`. Throws
   * StageLost.
   */
  commit(stage: Stage, size: number, digest: Digest): Promise<string>

  /** Removes a stage; it is no error when it is gone. */
  discard(stage: Stage): Promise<void>

  /** Throws when the store cannot be written. */
  check(): Promise<void>
}

/** The database names bytes that the store does not have. */
export class BlobMissing extends Error {
  override readonly name = 'BlobMissing'
}

/** The stage's bytes are gone or too few: the upload has to start again. */
export class StageLost extends Error {
  override readonly name = 'StageLost'
}

/** The store has no room for more bytes. */
export class StoreFull extends Error {
  override readonly name = 'StoreFull'
}

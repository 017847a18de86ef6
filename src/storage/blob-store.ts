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
  /** True when the store may hold more for the upload than the stage tells: `tidy` finds it. */
  readonly needsCleanup?: boolean
}

/** Bytes from `start` to `end`, both counted, as in HTTP. */
export type ByteRange = {
  readonly start: number
  readonly end: number
}

/** Something that lies in a store, whether or not the database knows of it. */
export type StoredObject = {
  /** Unique in the store; `list` goes by it. */
  readonly name: string
  /** The key, when it may be a blob's bytes. */
  readonly key: string | undefined
  /** The id of the upload that wrote it, when the name tells. */
  readonly upload: string | undefined
  /** Bytes; undefined when the store cannot tell. */
  readonly size: number | undefined
  readonly modifiedAt: Date
}

/**
 * Where bytes lie. A store knows bytes and keys, and nothing of repositories, tags or HTTP; what
 * exists is said by the database. `test/storage/blob-store.contract.ts` says what every store does.
 * Every method may throw StoreUnavailableError when the store does not answer.
 */
export interface BlobStore {
  /** Size in bytes, or undefined when nothing lies under the key. */
  stat(key: string): Promise<number | undefined>

  /**
   * The bytes of `range`, in chunks of bounded size. A chunk is valid until the next one is asked
   * for: its memory is used again. Throws BlobMissingError.
   */
  read(key: string, range: ByteRange): AsyncIterable<Uint8Array>

  /**
   * A URL at which whoever has it can read the bytes for a while, with ranges; undefined when this
   * store has none to give.
   */
  link(key: string): Promise<string | undefined>

  /** Removes the bytes; it is no error when they are gone. */
  remove(key: string): Promise<void>

  /** A new, empty stage. `id` is a uuid, and unique for ever. */
  stage(id: string): Promise<Stage>

  /**
   * Adds the bytes of `source` behind the first `size` bytes of the stage, and returns when they
   * survive a power cut. Nothing counts as added when it throws: the stage given can be used again,
   * and its size is still `size`. `last` says that `commit` comes next, and nothing else is added.
   * The chunks' memory must stay as it is until this returns. Throws StageLostError when the stage has
   * fewer bytes than `size`.
   */
  append(
    stage: Stage,
    size: number,
    source: AsyncIterable<Uint8Array>,
    last: boolean,
  ): Promise<Appended>

  /**
   * A stage with the first `size` bytes into which an earlier writer, still running, gets no byte of
   * its own: at worst `commit` throws StageLostError.
   */
  fence(stage: Stage, size: number): Promise<Stage>

  /**
   * Keeps the first `size` bytes of the stage for ever under a key that no other write ever gets,
   * and returns that key when they survive a power cut. The stage is used up. Throws StageLostError.
   */
  commit(stage: Stage, size: number, digest: Digest): Promise<string>

  /**
   * Removes what the stage has and `kept` has not; it is no error when it is gone, or was another
   * store's.
   */
  discard(stage: Stage, kept: Stage): Promise<void>

  /**
   * Removes whatever was written for an upload that is over, recorded or not, but for `keptKey`.
   * `digest` is what it was to become, if anybody said so.
   */
  cleanUp(upload: string, digest: Digest | undefined, keptKey: string | undefined): Promise<void>

  /** Keeps all of `source`, as `append` does, under a key that some store gave; or nothing of it. */
  put(key: string, source: AsyncIterable<Uint8Array>): Promise<void>

  /** Everything behind `after` in the store's own order; '' begins. */
  list(after: string): AsyncIterable<StoredObject>

  /** Removes what `list` told of; it is no error when it is gone. */
  removeObject(held: StoredObject): Promise<void>

  /** Throws when the store does not answer, or is seen to take no bytes without giving it any. */
  check(): Promise<void>
}

/** The database names bytes that the store does not have. */
export class BlobMissingError extends Error {
  override readonly name = 'BlobMissingError'
}

/** The stage's bytes are gone or too few: the upload has to start again. */
export class StageLostError extends Error {
  override readonly name = 'StageLostError'
}

/** The store has no room for more bytes. */
export class StoreFullError extends Error {
  override readonly name = 'StoreFullError'
}

/** The store did not answer within its limits, or could not do it now: try again later. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError'
}

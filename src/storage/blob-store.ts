import type { Digest } from '../oci/digest.ts'

/**
 * A store's own bookmark of an unfinished blob. The registry keeps it as JSON and never looks inside.
 * Stores hold no state, so any replica can continue an upload that another one began.
 */
export type Stage = { readonly [key: string]: unknown }

export type Appended = {
  readonly stage: Stage
  /** Bytes of the stage after the append. */
  readonly size: number
  /** True when the store may hold bytes of the upload that the stage does not list: `cleanUp` finds them. */
  readonly needsCleanup?: boolean
}

/** Bytes from `start` to `end`, both included, as in HTTP. */
export type ByteRange = {
  readonly start: number
  readonly end: number
}

/** A file or object in a store, with or without a row in the database. */
export type StoredObject = {
  /** Unique in the store; `list` is in the order of names. */
  readonly name: string
  /** The storage key, when the object may have a blob's bytes. */
  readonly key: string | undefined
  /** The id of the upload that wrote it, when the name contains one. */
  readonly upload: string | undefined
  /** Bytes; undefined when the store does not report them. */
  readonly size: number | undefined
  readonly modifiedAt: Date
}

/**
 * Stores bytes under keys. A store knows nothing of repositories, tags or HTTP; the database decides
 * which blobs exist. `test/storage/blob-store.contract.ts` tests the contract of every store. Every
 * method may throw StoreUnavailableError when the store does not answer.
 */
export interface BlobStore {
  /** Returns the size in bytes, or undefined when the key does not exist. */
  stat(key: string): Promise<number | undefined>

  /**
   * Reads the bytes of `range`, in chunks of bounded size. A chunk is valid until the next one is
   * requested: its memory is reused. Throws BlobMissingError.
   */
  read(key: string, range: ByteRange): AsyncIterable<Uint8Array>

  /**
   * Returns a URL that lets anybody read the bytes for a limited time, with ranges; undefined when the
   * store does not offer such URLs.
   */
  link(key: string): Promise<string | undefined>

  /** Removes the bytes; missing bytes are no error. */
  remove(key: string): Promise<void>

  /** Makes an empty stage. `id` is a uuid that is never used again. */
  stage(id: string): Promise<Stage>

  /**
   * Appends the bytes of `source` to the first `size` bytes of the stage, and returns when they survive
   * a power cut. When it throws, nothing is appended: the given stage is still valid, with `size` bytes.
   * `last` announces that the next call is `commit`. The memory of the chunks must not change until this
   * returns. Throws StageLostError when the stage has
   * fewer bytes than `size`.
   */
  append(
    stage: Stage,
    size: number,
    source: AsyncIterable<Uint8Array>,
    last: boolean,
  ): Promise<Appended>

  /**
   * Makes a stage with the first `size` bytes that an earlier writer, still running, cannot change: at
   * worst `commit` throws StageLostError.
   */
  fence(stage: Stage, size: number): Promise<Stage>

  /**
   * Keeps the first `size` bytes of the stage under a key that is never used for other bytes, and
   * returns the key when they survive a power cut. The stage is no longer valid. Throws StageLostError.
   */
  commit(stage: Stage, size: number, digest: Digest): Promise<string>

  /**
   * Removes the bytes of the stage that `kept` does not have. Missing bytes and the stages of other
   * stores are no error.
   */
  discard(stage: Stage, kept: Stage): Promise<void>

  /**
   * Removes everything that was written for an ended upload, even bytes that no stage lists, except
   * `keptKey`. `digest` is the digest that the client announced.
   */
  cleanUp(upload: string, digest: Digest | undefined, keptKey: string | undefined): Promise<void>

  /** Keeps all of `source` as durably as `append`, or nothing, under a key that some store returned. */
  put(key: string, source: AsyncIterable<Uint8Array>): Promise<void>

  /** Lists everything after the name `after`, in the store's own order; '' begins. */
  list(after: string): AsyncIterable<StoredObject>

  /** Removes an object that `list` returned; a missing object is no error. */
  removeObject(held: StoredObject): Promise<void>

  /** Throws when the store does not answer or is not writable. Writes nothing. */
  check(): Promise<void>

  /** The folder, or the bucket with the prefix, as an operator names it. */
  readonly location: string

  /** Returns the mark that `writeMark` wrote; undefined when the store has none. */
  readMark(): Promise<string | undefined>

  /** Writes the mark durably: one line that says whose bytes these are. It has no key, and `list` leaves it out. */
  writeMark(mark: string): Promise<void>

  /**
   * From now on, `commit` throws StoreUnavailableError when another store took the place of the one with this mark, if
   * finding out costs no request.
   */
  expectMark(mark: string): void
}

/** The store does not have the bytes of a blob that the database has. */
export class BlobMissingError extends Error {
  override readonly name = 'BlobMissingError'
}

/** The bytes of the stage are missing or too few: the upload has to start again. */
export class StageLostError extends Error {
  override readonly name = 'StageLostError'
}

/** The store has no space for more bytes. */
export class StoreFullError extends Error {
  override readonly name: string = 'StoreFullError'
}

/** The store keeps its last space free. It is reported once, and not for each push. */
export class StoreReserveError extends StoreFullError {
  override readonly name = 'StoreReserveError'
}

/** The store did not answer in time, or failed: a later attempt may succeed. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError'
}

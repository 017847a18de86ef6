import type { Queryable } from '../db/database.ts'
import { markWrongSize } from '../db/registry/lost-blobs.ts'
import type { Digest } from '../oci/digest.ts'
import {
  type Appended,
  BlobMissingError,
  type BlobStore,
  type ByteRange,
  type Stage,
  type StoredObject,
  StoreUnavailableError,
} from '../storage/blob-store.ts'

export type CheckedStoreOptions = {
  /** The id of the installation, which the store has as its mark. */
  readonly mark: string
  /** Ends a body that would use the reserve of the disk. Undefined: the disk has none. */
  readonly reserve?: { guard(source: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> }
  /** A blob was marked as lost. */
  onLost(digest: Digest, storageKey: string): void
  /** The store has the mark of another installation, or none, as the message says; undefined: it is right again. */
  onMark(problem: string | undefined): void
}

/** Bytes are deleted when the mark was right so recently. */
const MARK_AGE_MILLISECONDS_MAX = 10_000

/**
 * The store of one installation. Its mark is compared before anything follows from missing bytes, and before bytes are
 * deleted, so that a store that is not mounted, or another's, neither loses bytes nor looks like a loss. A read that
 * finds no bytes marks the row of the blob.
 */
export class CheckedStore implements BlobStore {
  readonly #store: BlobStore
  readonly #db: Queryable
  readonly #options: CheckedStoreOptions
  #problem: string | undefined
  #rightAt = Number.NEGATIVE_INFINITY
  #checking: Promise<void> | undefined

  constructor(store: BlobStore, db: Queryable, options: CheckedStoreOptions) {
    this.#store = store
    this.#db = db
    this.#options = options
    store.expectMark(options.mark)
  }

  get location(): string {
    return this.#store.location
  }

  /** Compares the mark. Throws StoreUnavailableError when it is another. Calls at the same time share one read. */
  async checkMark(): Promise<void> {
    this.#checking ??= this.#readAndCompare().finally(() => {
      this.#checking = undefined
    })
    await this.#checking
  }

  async check(): Promise<void> {
    await Promise.all([this.#store.check(), this.checkMark()])
  }

  stat(key: string): Promise<number | undefined> {
    return this.#store.stat(key)
  }

  async *read(key: string, range: ByteRange): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#store.read(key, range)
    } catch (error) {
      if (error instanceof BlobMissingError) await this.#markLost(key, error)
      throw error
    }
  }

  link(key: string): Promise<string | undefined> {
    return this.#store.link(key)
  }

  async remove(key: string): Promise<void> {
    await this.#assertDeletable()
    await this.#store.remove(key)
  }

  async stage(id: string): Promise<Stage> {
    if (this.#problem !== undefined) await this.checkMark()
    return this.#store.stage(id)
  }

  async append(
    stage: Stage,
    size: number,
    source: AsyncIterable<Uint8Array>,
    last: boolean,
  ): Promise<Appended> {
    if (this.#problem !== undefined) await this.checkMark()
    const { reserve } = this.#options
    const guarded = reserve === undefined ? source : reserve.guard(source)
    return this.#store.append(stage, size, guarded, last)
  }

  fence(stage: Stage, size: number): Promise<Stage> {
    return this.#store.fence(stage, size)
  }

  async commit(stage: Stage, size: number, digest: Digest): Promise<string> {
    if (this.#problem !== undefined) await this.checkMark()
    return this.#store.commit(stage, size, digest)
  }

  discard(stage: Stage, kept: Stage): Promise<void> {
    return this.#store.discard(stage, kept)
  }

  async cleanUp(
    upload: string,
    digest: Digest | undefined,
    keptKey: string | undefined,
  ): Promise<void> {
    await this.#assertDeletable()
    await this.#store.cleanUp(upload, digest, keptKey)
  }

  put(key: string, source: AsyncIterable<Uint8Array>): Promise<void> {
    return this.#store.put(key, source)
  }

  list(after: string): AsyncIterable<StoredObject> {
    return this.#store.list(after)
  }

  async removeObject(held: StoredObject): Promise<void> {
    await this.#assertDeletable()
    await this.#store.removeObject(held)
  }

  readMark(): Promise<string | undefined> {
    return this.#store.readMark()
  }

  writeMark(mark: string): Promise<void> {
    return this.#store.writeMark(mark)
  }

  expectMark(mark: string): void {
    this.#store.expectMark(mark)
  }

  /** Marks the blob of the key. Throws StoreUnavailableError when the store has all bytes, and did not send them. */
  async #markLost(key: string, cause: BlobMissingError): Promise<void> {
    const [size] = await Promise.all([this.#store.stat(key), this.checkMark()])
    const lost = await markWrongSize(this.#db, key, size)
    if (lost?.isNew) this.#options.onLost(lost.digest, key)
    if (lost === undefined && size !== undefined) {
      throw new StoreUnavailableError('the store sent fewer bytes than it has', { cause })
    }
  }

  async #assertDeletable(): Promise<void> {
    if (performance.now() - this.#rightAt > MARK_AGE_MILLISECONDS_MAX) await this.checkMark()
  }

  async #readAndCompare(): Promise<void> {
    const { mark } = this.#options
    const found = await this.#store.readMark()
    const problem = found === mark ? undefined : wrongMarkText(this.location, found, mark)
    if (problem !== this.#problem) this.#options.onMark(problem)
    this.#problem = problem
    this.#rightAt = problem === undefined ? performance.now() : Number.NEGATIVE_INFINITY
    if (problem !== undefined) throw new StoreUnavailableError(problem)
  }
}

/** Says which installation a store belongs to, and which one the database is. */
export function wrongMarkText(location: string, found: string | undefined, mark: string): string {
  const owner =
    found === undefined
      ? 'has no mark of an installation'
      : `belongs to the installation ${found.slice(0, MARK_CHARACTERS_SHOWN_MAX)}`
  return `${location} ${owner}, and the database to ${mark}`
}

const MARK_CHARACTERS_SHOWN_MAX = 80

import { createHash, randomUUID } from 'node:crypto'
import { finishUpload } from '../db/blobs.ts'
import type { Database } from '../db/database.ts'
import type { Visibility } from '../db/repositories.ts'
import {
  advanceUpload,
  type Claim,
  claimExpiredUploads,
  claimUpload,
  createUpload,
  findUpload,
  releaseUpload,
  removeUpload,
  replaceStage,
  type UploadKey,
} from '../db/uploads.ts'
import { type Algorithm, algorithmOf, type Digest, digestOfHash } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import type { Repository } from '../oci/reference.ts'
import { type BlobStore, type Stage, StageLost, StoreFull } from '../storage/blob-store.ts'
import { LEASE_SECONDS, Lease } from './lease.ts'
import { RunningHashes } from './running-hashes.ts'
import { type Counted, hashed, hashOf, type Incoming } from './transfer.ts'

export type UploadsOptions = {
  /** An upload is forgotten when nothing was appended for so long. */
  lifetimeSeconds: number
  blobBytesMax: number
  /** What a repository is when its first push makes it. */
  visibility: Visibility
}

export type UploadStatus = {
  readonly id: string
  /** Bytes received. */
  readonly size: number
}

const EXPIRED_AT_ONCE_MAX = 100
const UPLOAD_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** Blob uploads: distribution spec, "Pushing blobs". All state is in Postgres and in the store. */
export class Uploads {
  readonly #db: Database
  readonly #store: BlobStore
  readonly #options: UploadsOptions
  readonly #hashes = new RunningHashes()

  constructor(db: Database, store: BlobStore, options: UploadsOptions) {
    this.#db = db
    this.#store = store
    this.#options = options
  }

  /** end-4a, end-4c. */
  async start(repository: Repository, actor: string, algorithm: Algorithm): Promise<UploadStatus> {
    const id = randomUUID()
    const stage = await this.#store.stage(id)
    await createUpload(
      this.#db,
      { id, repository, actor, algorithm, stage },
      this.#options.visibility,
      this.#options.lifetimeSeconds,
    )
    return { id, size: 0 }
  }

  /** end-13. Throws BLOB_UPLOAD_UNKNOWN. */
  async status(key: UploadKey): Promise<UploadStatus> {
    const upload = isUploadId(key.id) ? await findUpload(this.#db, key) : undefined
    if (upload === undefined) throw unknownUpload(key.id)
    return upload
  }

  /**
   * end-5: a chunk, whole or not at all. Throws RANGE_INVALID, with the range received so far, when
   * the chunk does not begin where the upload stands or another request is writing.
   */
  async append(key: UploadKey, incoming: Incoming): Promise<UploadStatus> {
    return this.#claimed(key, incoming.start, async (upload, lease) => {
      const resumed = this.#hashes.resume(upload.id, upload.algorithm, upload.size)
      const hash = resumed ?? createHash(upload.algorithm)
      const progress = await this.#receive(upload, lease, incoming, hash)
      if (resumed !== undefined) {
        this.#hashes.keep(upload.id, upload.algorithm, progress.size, hash)
      }
      await lease.giveBack(() =>
        advanceUpload(this.#db, upload.id, lease.token, progress, this.#options.lifetimeSeconds),
      )
      return { id: upload.id, size: progress.size }
    })
  }

  /**
   * end-6 and end-4b: the last bytes, if any, and the digest of all. Throws DIGEST_INVALID when the
   * content has another one; the upload then stands where it stood before.
   */
  async finish(key: UploadKey, digest: Digest, incoming: Incoming): Promise<void> {
    await this.#claimed(key, incoming.start, async (upload, lease) => {
      const algorithm = algorithmOf(digest)
      const resumed = this.#hashes.resume(upload.id, algorithm, upload.size)
      const hash = resumed ?? createHash(algorithm)
      const { stage, size } = await this.#receive(upload, lease, incoming, hash)
      const found =
        resumed === undefined
          ? await hashOf(this.#store.readStage(stage, size), algorithm)
          : digestOfHash(algorithm, hash)
      if (found !== digest) throw new OciError('DIGEST_INVALID', { digest, content: found })
      lease.hold()
      const storageKey = await this.#store.commit(stage, size, digest)
      const kept = await finishUpload(this.#db, upload.id, lease.token, {
        digest,
        size,
        storageKey,
      })
      this.#hashes.drop(upload.id)
      // The same bytes were here already, or somebody took the upload over: ours are not named.
      if (kept !== storageKey) await this.#store.remove(storageKey)
      if (kept === undefined) throw unknownUpload(upload.id)
    })
  }

  /** end-14. Throws BLOB_UPLOAD_UNKNOWN. */
  async cancel(key: UploadKey): Promise<void> {
    await this.#claimed(key, undefined, async (upload, lease) => {
      this.#hashes.drop(upload.id)
      await this.#discard(upload.id, upload.stage, lease.token)
    })
  }

  /** Discards what expired, a bounded number at once. Returns how many. */
  async discardExpired(): Promise<number> {
    const token = randomUUID()
    const expired = await claimExpiredUploads(this.#db, token, LEASE_SECONDS, EXPIRED_AT_ONCE_MAX)
    for (const { id, stage } of expired) await this.#discard(id, stage, token)
    return expired.length
  }

  // Bytes first: a crash in between leaves a row that expires, and not bytes that nobody knows.
  async #discard(id: string, stage: unknown, token: string): Promise<void> {
    await this.#store.discard(stage as Stage)
    await removeUpload(this.#db, id, token)
  }

  async #receive(
    upload: Claim,
    lease: Lease,
    incoming: Incoming,
    hash: ReturnType<typeof createHash>,
  ): Promise<{ stage: Stage; size: number }> {
    const counted: Counted = { received: 0 }
    const room = this.#options.blobBytesMax - upload.size
    const bytes = lease.guard(hashed(incoming, hash, counted, room))
    return this.#store.append(upload.stage as Stage, upload.size, bytes)
  }

  /** The writer before may still be writing to its stage; from here on nobody reads that. */
  async #fence(upload: Claim, token: string): Promise<Claim> {
    const stage = await this.#store.fence(upload.stage as Stage, upload.size, randomUUID())
    if (!(await replaceStage(this.#db, upload.id, token, stage))) {
      await this.#store.discard(stage)
      throw unknownUpload(upload.id)
    }
    await this.#store.discard(upload.stage as Stage)
    return { ...upload, stage }
  }

  /** Runs `work` as the only writer of the upload, and gives the lease back when it fails. */
  async #claimed<T>(
    key: UploadKey,
    start: number | undefined,
    work: (upload: Claim, lease: Lease) => Promise<T>,
  ): Promise<T> {
    if (!isUploadId(key.id)) throw unknownUpload(key.id)
    const token = randomUUID()
    const upload = await claimUpload(this.#db, key, token, LEASE_SECONDS, start)
    if (upload === undefined) throw unknownUpload(key.id)
    if (!upload.claimed) throw outOfOrder(upload, start)
    const lease = new Lease(this.#db, upload.id, token)
    try {
      return await work(upload.takenOver ? await this.#fence(upload, token) : upload, lease)
    } catch (error) {
      if (error instanceof StageLost) {
        await this.#discard(upload.id, upload.stage, token)
        throw new OciError('BLOB_UPLOAD_UNKNOWN', { upload: upload.id }, { cause: error })
      }
      await releaseUpload(this.#db, upload.id, token)
      throw error instanceof StoreFull
        ? new OciError('UNAVAILABLE', undefined, {
            message: 'the registry has no space left for blobs',
            headers: { 'Retry-After': String(RETRY_WHEN_FULL_SECONDS) },
            cause: error,
          })
        : error
    } finally {
      lease.stop()
    }
  }
}

const RETRY_WHEN_FULL_SECONDS = 60

// Asked before Postgres is: it refuses what is no uuid with an error.
function isUploadId(id: string): boolean {
  return UPLOAD_ID.test(id)
}

function unknownUpload(id: string): OciError {
  return new OciError('BLOB_UPLOAD_UNKNOWN', { upload: id.slice(0, 80) })
}

function outOfOrder(upload: UploadStatus, start: number | undefined): OciError {
  const message =
    start === undefined || start === upload.size
      ? 'another request is writing to this upload'
      : `the next chunk must begin at ${upload.size}, not at ${start}`
  return new OciError(
    'RANGE_INVALID',
    { received: upload.size },
    { message, headers: { Range: receivedRange(upload.size) } },
  )
}

/** How the spec says how much was received: the position of the last byte. */
export function receivedRange(size: number): string {
  return `0-${Math.max(0, size - 1)}`
}

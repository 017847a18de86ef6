import { createHash, randomUUID } from 'node:crypto'
import type { Database } from '../../db/database.ts'
import {
  DELETION_LEASE_SECONDS,
  finishDeletions,
  type QueuedDeletion,
  queueLeftovers,
} from '../../db/maintenance/deletion-queue.ts'
import { type BlobRow, finishUpload } from '../../db/registry/blobs.ts'
import type { Visibility } from '../../db/registry/repositories.ts'
import {
  advanceUpload,
  claimUpload,
  createUpload,
  findUpload,
  markNeedsCleanup,
  recordDigest,
  replaceStage,
  retireUpload,
  type UploadClaim,
  type UploadKey,
} from '../../db/registry/uploads.ts'
import { type Algorithm, algorithmOf, type Digest, digestOfHash } from '../../oci/digest.ts'
import { RegistryError } from '../../oci/errors.ts'
import type { Repository } from '../../oci/reference.ts'
import {
  type Appended,
  type BlobStore,
  type Stage,
  StageLostError,
} from '../../storage/blob-store.ts'
import { removeBytes } from '../maintenance/garbage.ts'
import { translateStoreError } from '../store-errors.ts'
import { HashCache } from './hash-cache.ts'
import { type Counted, digestOfStream, hashStream, type UploadBody } from './hash-stream.ts'
import { LEASE_SECONDS, Lease } from './lease.ts'

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

const UPLOAD_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** Blob uploads: distribution spec, "Pushing blobs". All state is in Postgres and in the store. */
export class Uploads {
  readonly #db: Database
  readonly #store: BlobStore
  readonly #options: UploadsOptions
  readonly #hashes = new HashCache()

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
    if (upload === undefined) throw uploadUnknown(key.id)
    return upload
  }

  /**
   * end-5: a chunk, whole or not at all. Throws RANGE_INVALID, with the range received so far, when
   * the chunk does not begin where the upload stands or another request is writing.
   */
  async append(key: UploadKey, incoming: UploadBody): Promise<UploadStatus> {
    return this.#claimed(key, { start: incoming.start }, async (upload, lease) => {
      const resumed = this.#hashes.resume(upload.id, upload.algorithm, upload.size)
      const hash = resumed ?? createHash(upload.algorithm)
      const {
        stage,
        size,
        needsCleanup: untidy,
      } = await this.#receive(upload, lease, incoming, hash, false)
      await this.#orUndo(upload, stage, () =>
        lease.endWith(() =>
          advanceUpload(
            this.#db,
            upload.id,
            lease.token,
            { stage, size },
            this.#options.lifetimeSeconds,
          ),
        ),
      )
      // Only of bytes that count: after them another process may go on.
      if (resumed !== undefined) this.#hashes.keep(upload.id, upload.algorithm, size, hash)
      if (!(await this.#forget(upload.stage as Stage, stage)) || untidy) {
        await markNeedsCleanup(this.#db, upload.id)
      }
      return { id: upload.id, size }
    })
  }

  /**
   * end-6 and end-4b: the last bytes, if any, and the digest of all. Throws DIGEST_INVALID when the
   * content has another one; the upload then stands where it stood before, unless its pieces came by
   * different processes: then it is over.
   */
  async finish(key: UploadKey, digest: Digest, incoming: UploadBody): Promise<void> {
    await this.#claimed(key, { start: incoming.start, digest }, async (upload, lease) => {
      const algorithm = algorithmOf(digest)
      const resumed = this.#hashes.resume(upload.id, algorithm, upload.size)
      const hash = resumed ?? createHash(algorithm)
      const appended = await this.#receive(upload, lease, incoming, hash, true)
      const { stage, size } = appended
      const storageKey = await this.#orUndo(upload, stage, () => {
        if (resumed !== undefined) demandDigest(digest, digestOfHash(algorithm, hash))
        lease.assertHeld()
        return this.#store.commit(stage, size, digest)
      })
      if (resumed === undefined) await this.#demandStored(upload, lease, storageKey, size, digest)
      await this.#conclude(upload, lease, appended, { digest, size, storageKey })
    })
  }

  /**
   * All bytes at once, for an upload that has none yet, when nobody knows their digest beforehand.
   * Returns it.
   */
  async uploadWhole(
    key: UploadKey,
    incoming: UploadBody,
  ): Promise<{ digest: Digest; size: number }> {
    return this.#claimed(key, { start: 0 }, async (upload, lease) => {
      const hash = createHash(upload.algorithm)
      const appended = await this.#receive(upload, lease, incoming, hash, true)
      const { stage, size } = appended
      const digest = digestOfHash(upload.algorithm, hash)
      const storageKey = await this.#orUndo(upload, stage, async () => {
        // First: by this the bytes are found that were committed and never became a blob.
        if (!(await recordDigest(this.#db, upload.id, lease.token, digest))) {
          throw uploadUnknown(upload.id)
        }
        lease.assertHeld()
        return this.#store.commit(stage, size, digest)
      })
      await this.#conclude(upload, lease, appended, { digest, size, storageKey })
      return { digest, size }
    })
  }

  /** end-14. Throws BLOB_UPLOAD_UNKNOWN. */
  async cancel(key: UploadKey): Promise<void> {
    await this.#claimed(key, {}, async (upload, lease) => {
      this.#hashes.drop(upload.id)
      await this.#retire(upload.id, lease.token)
    })
  }

  /** Ends an upload that nobody can go on with; its bytes are left to a sweep, so this is quick. */
  async abandon(key: UploadKey): Promise<void> {
    await this.#claimed(key, {}, async (upload, lease) => {
      this.#hashes.drop(upload.id)
      await retireUpload(this.#db, upload.id, lease.token, 0)
    })
  }

  /** Makes a blob of what was committed, which ends the upload. */
  async #conclude(
    upload: UploadClaim,
    lease: Lease,
    { stage, needsCleanup: untidy }: Appended,
    blob: BlobRow,
  ): Promise<void> {
    const { digest, storageKey } = blob
    const finished = await finishUpload(this.#db, upload.id, lease.token, blob)
    this.#hashes.drop(upload.id)
    // Somebody took the upload over, and may have kept these very bytes.
    if (finished === undefined) throw uploadUnknown(upload.id)
    if (finished.removalId !== null) {
      await this.#remove({ id: finished.removalId, storageKey, upload: null })
    }
    if (!(await this.#forget(upload.stage as Stage, stage)) || untidy) {
      const remains = { id: upload.id, digest, keptKey: finished.storageKey }
      // The blob is there, and that is the answer; what stays without this is found by a scrub.
      await queueLeftovers(this.#db, remains).catch(() => {})
    }
  }

  // The row first: from then on nobody can make a blob of these bytes.
  async #retire(id: string, token: string): Promise<void> {
    const removal = await retireUpload(this.#db, id, token, DELETION_LEASE_SECONDS)
    if (removal !== undefined) await this.#remove(removal)
  }

  /** Does a queued removal at once; one that fails is done by a sweep. */
  async #remove(removal: QueuedDeletion): Promise<void> {
    try {
      await removeBytes(this.#store, removal)
      await finishDeletions(this.#db, [removal.id])
    } catch {
      // It stays queued.
    }
  }

  /** Lets go of what an upload had before and has no more. False when the store did not do it. */
  async #forget(before: Stage, now: Stage): Promise<boolean> {
    try {
      await this.#store.discard(before, now)
      return true
    } catch {
      return false
    }
  }

  /** Runs what makes a new stage count, and lets go of the stage when it does not. */
  async #orUndo<T>(upload: UploadClaim, stage: Stage, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      // An answer that was lost may have been a yes: then the upload stands at the new stage. What is
      // not let go of here is found at the end, because the failure makes the upload untidy.
      if (error instanceof RegistryError && error.code !== 'UNAVAILABLE') {
        await this.#forget(stage, upload.stage as Stage)
      }
      throw error
    }
  }

  /** Reads all bytes for their digest: no process saw them all pass. */
  async #demandStored(
    upload: UploadClaim,
    lease: Lease,
    storageKey: string,
    size: number,
    digest: Digest,
  ): Promise<void> {
    const bytes = size === 0 ? nothing() : this.#store.read(storageKey, { start: 0, end: size - 1 })
    const found = await digestOfStream(bytes, algorithmOf(digest))
    if (found === digest) return
    await this.#retire(upload.id, lease.token)
    demandDigest(digest, found)
  }

  async #receive(
    upload: UploadClaim,
    lease: Lease,
    incoming: UploadBody,
    hash: ReturnType<typeof createHash>,
    last: boolean,
  ): Promise<Appended> {
    const counted: Counted = { received: 0 }
    const room = this.#options.blobBytesMax - upload.size
    const bytes = lease.guard(hashStream(incoming, hash, counted, room))
    return this.#store.append(upload.stage as Stage, upload.size, bytes, last)
  }

  /** The writer before may still be writing to its stage; from here on nobody reads that. */
  async #fence(upload: UploadClaim, token: string): Promise<UploadClaim> {
    const stage = await this.#store.fence(upload.stage as Stage, upload.size)
    if (!(await replaceStage(this.#db, upload.id, token, stage))) {
      await this.#forget(stage, upload.stage as Stage)
      throw uploadUnknown(upload.id)
    }
    // The lease was taken over, so the upload is untidy anyway.
    await this.#forget(upload.stage as Stage, stage)
    return { ...upload, stage }
  }

  /** Runs `work` as the only writer of the upload, and gives the lease back when it fails. */
  async #claimed<T>(
    key: UploadKey,
    { start, digest }: { start?: number | undefined; digest?: Digest },
    work: (upload: UploadClaim, lease: Lease) => Promise<T>,
  ): Promise<T> {
    if (!isUploadId(key.id)) throw uploadUnknown(key.id)
    const token = randomUUID()
    const upload = await claimUpload(this.#db, key, token, LEASE_SECONDS, start, digest)
    if (upload === undefined) throw uploadUnknown(key.id)
    if (!upload.claimed) throw outOfOrder(upload, start)
    const lease = new Lease(this.#db, upload.id, token)
    try {
      return await work(upload.takenOver ? await this.#fence(upload, token) : upload, lease)
    } catch (error) {
      if (error instanceof StageLostError) {
        await this.#retire(upload.id, token)
        throw new RegistryError('BLOB_UPLOAD_UNKNOWN', { upload: upload.id }, { cause: error })
      }
      await lease.release()
      throw translateStoreError(error)
    } finally {
      lease.stop()
    }
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

function demandDigest(digest: Digest, found: Digest): void {
  if (found !== digest) throw new RegistryError('DIGEST_INVALID', { digest, content: found })
}

// Asked before Postgres is: it refuses what is no uuid with an error.
function isUploadId(id: string): boolean {
  return UPLOAD_ID.test(id)
}

function uploadUnknown(id: string): RegistryError {
  return new RegistryError('BLOB_UPLOAD_UNKNOWN', { upload: id.slice(0, 80) })
}

function outOfOrder(upload: UploadStatus, start: number | undefined): RegistryError {
  const message =
    start === undefined || start === upload.size
      ? 'another request is writing to this upload'
      : `the next chunk must begin at ${upload.size}, not at ${start}`
  return new RegistryError(
    'RANGE_INVALID',
    { received: upload.size },
    { message, received: upload.size },
  )
}

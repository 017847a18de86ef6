import { createHash, randomUUID } from 'node:crypto'
import type { Actor } from '../../db/auth/audit.ts'
import type { Database } from '../../db/database.ts'
import {
  DELETION_LEASE_SECONDS,
  finishDeletions,
  type QueuedDeletion,
  queueLeftovers,
} from '../../db/maintenance/deletion-queue.ts'
import { lockEmptyRepository, removeEmptyRepositories } from '../../db/maintenance/garbage.ts'
import type { ProcessLock } from '../../db/process-lock.ts'
import { type BlobRow, withdrawBlobs } from '../../db/registry/blobs.ts'
import type { Visibility } from '../../db/registry/repositories.ts'
import { claimUpload, type UploadClaim } from '../../db/registry/upload-leases.ts'
import {
  advanceUpload,
  createUpload,
  type FinishedUpload,
  findUpload,
  finishUpload,
  markNeedsCleanup,
  recordDigest,
  replaceStage,
  retireUpload,
  type UploadKey,
} from '../../db/registry/uploads.ts'
import { type Algorithm, algorithmOf, type Digest, digestOfHash } from '../../oci/digest.ts'
import { otherContent, RegistryError } from '../../oci/errors.ts'
import type { Repository } from '../../oci/reference.ts'
import { isUuid } from '../../oci/uuid.ts'
import {
  type Appended,
  BlobMissingError,
  type BlobStore,
  type Stage,
  StageLostError,
} from '../../storage/blob-store.ts'
import { deleteBytes } from '../maintenance/garbage.ts'
import { translateStoreError } from '../store-errors.ts'
import { HashCache } from './hash-cache.ts'
import { type ByteCounter, digestOfStream, hashStream, type UploadBody } from './hash-stream.ts'
import { isUnauthorized, Lease, uploadBusy } from './lease.ts'
import { replaceIfLost } from './second-copy.ts'

export type UploadsOptions = {
  /** An upload expires when nothing was appended for this time. */
  lifetimeSeconds: number
  blobBytesMax: number
  /** The visibility of repositories that a push creates. */
  visibility: Visibility
  /** Shows other processes that this one runs. */
  processLock: ProcessLock
}

export type UploadStatus = {
  readonly id: string
  /** Bytes received. */
  readonly size: number
}

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

  /** end-4a, end-4c: starts an upload. Throws TOOMANYREQUESTS when the actor has too many in progress. */
  start(repository: Repository, actor: Actor, algorithm: Algorithm): Promise<UploadStatus> {
    return this.#start(repository, actor, algorithm, false)
  }

  /** Starts an upload that only this request can write: when its process dies, a sweep deletes it. Throws as `start` does. */
  startSingleRequest(repository: Repository, actor: Actor): Promise<UploadStatus> {
    return this.#start(repository, actor, 'sha256', true)
  }

  async #start(
    repository: Repository,
    actor: Actor,
    algorithm: Algorithm,
    singleRequest: boolean,
  ): Promise<UploadStatus> {
    const id = randomUUID()
    const stage = await this.#store.stage(id).catch((error: unknown) => {
      throw translateStoreError(error)
    })
    const { visibility, lifetimeSeconds, processLock } = this.#options
    const writer = processLock.key
    const upload = { id, repository, actor, algorithm, stage, singleRequest, writer }
    await createUpload(this.#db, upload, visibility, lifetimeSeconds)
    return { id, size: 0 }
  }

  /** end-13: returns the size received so far. Throws BLOB_UPLOAD_UNKNOWN. */
  async status(key: UploadKey): Promise<UploadStatus> {
    const upload = isUuid(key.id) ? await findUpload(this.#db, key) : undefined
    if (upload === undefined) throw uploadUnknown(key.id)
    return upload
  }

  /**
   * end-5: appends a chunk, whole or not at all. Throws RANGE_INVALID, with the size received so far,
   * when the chunk does not begin at the end of the upload, and UNAVAILABLE while another request is writing.
   */
  async append(key: UploadKey, body: UploadBody): Promise<UploadStatus> {
    return this.#withClaim(key, { start: body.start }, async (upload, lease) => {
      const resumed = this.#hashes.resume(upload.id, upload.algorithm, upload.size)
      const hash = resumed ?? createHash(upload.algorithm)
      const appended = await this.#receive(upload, lease, body, hash, false)
      const { stage, size } = appended
      await this.#discardOnFailure(upload, stage, () =>
        lease.endWith(() =>
          advanceUpload(
            this.#db,
            upload.id,
            lease.token,
            { stage, size },
            this.#options.lifetimeSeconds,
            lease.rights,
          ),
        ),
      )
      // Only after the bytes are recorded: until then the chunk may still fail.
      if (resumed !== undefined) this.#hashes.keep(upload.id, upload.algorithm, size, hash)
      if (!(await this.#discard(upload.stage as Stage, stage)) || appended.needsCleanup) {
        await markNeedsCleanup(this.#db, upload.id)
      }
      return { id: upload.id, size }
    })
  }

  /**
   * end-6 and end-4b: appends the last bytes, if any, and creates the blob. Throws DIGEST_INVALID when
   * the content has another digest. The upload then keeps its previous size, unless its chunks arrived
   * at different processes: then it ends.
   */
  async finish(key: UploadKey, digest: Digest, body: UploadBody): Promise<void> {
    await this.#withClaim(key, { start: body.start, digest }, async (upload, lease) => {
      const algorithm = algorithmOf(digest)
      const resumed = this.#hashes.resume(upload.id, algorithm, upload.size)
      const hash = resumed ?? createHash(algorithm)
      const appended = await this.#receive(upload, lease, body, hash, true)
      const { stage, size } = appended
      const storageKey = await this.#discardOnFailure(upload, stage, async () => {
        if (resumed !== undefined) assertDigest(digest, digestOfHash(algorithm, hash))
        await lease.confirm()
        return this.#store.commit(stage, size, digest)
      })
      if (resumed === undefined) await this.#assertStored(upload, lease, storageKey, size, digest)
      await this.#createBlob(upload, lease, appended, { digest, size, storageKey })
    })
  }

  /**
   * Receives all bytes of an empty upload at once and creates the blob. Returns its digest; `isNew` is true
   * when the repository did not have the blob.
   */
  async uploadWhole(
    key: UploadKey,
    body: UploadBody,
  ): Promise<{ digest: Digest; size: number; isNew: boolean }> {
    return this.#withClaim(key, { start: 0 }, async (upload, lease) => {
      const hash = createHash(upload.algorithm)
      const appended = await this.#receive(upload, lease, body, hash, true)
      const { stage, size } = appended
      const digest = digestOfHash(upload.algorithm, hash)
      const storageKey = await this.#discardOnFailure(upload, stage, async () => {
        // Recorded before the commit: the cleanup finds committed bytes without a blob by their digest.
        if (!(await recordDigest(this.#db, upload.id, lease.token, digest))) {
          throw uploadUnknown(upload.id)
        }
        await lease.confirm()
        return this.#store.commit(stage, size, digest)
      })
      const blob = { digest, size, storageKey }
      const { isNew } = await this.#createBlob(upload, lease, appended, blob)
      return { digest, size, isNew }
    })
  }

  /** end-14: ends an upload and deletes its bytes. Throws BLOB_UPLOAD_UNKNOWN. */
  async cancel(key: UploadKey): Promise<void> {
    await this.#withClaim(key, {}, async (upload, lease) => {
      await this.#retire(upload.id, lease.token)
    })
  }

  /**
   * Takes blobs out of a repository after a refused push, unless a manifest there references them by now. A repository that
   * the push created goes as well.
   */
  async withdraw(repository: Repository, digests: readonly Digest[]): Promise<void> {
    if (digests.length > 0) await withdrawBlobs(this.#db, repository, digests)
    await this.#removeEmpty(repository)
  }

  /** Ends an upload and leaves its bytes to the next sweep, so this is quick. A repository that it created goes as well. */
  async abandon(key: UploadKey): Promise<void> {
    await this.#withClaim(key, {}, async (upload, lease) => {
      this.#hashes.forget(upload.id)
      await retireUpload(this.#db, upload.id, lease.token, 0)
    })
    await this.#removeEmpty(key.repository)
  }

  /** Removes a repository without any content, unless another push is using it. */
  async #removeEmpty(repository: Repository): Promise<void> {
    await this.#db.transaction(async (tx) => {
      const id = await lockEmptyRepository(tx, repository)
      if (id !== undefined) await removeEmptyRepositories(tx, [id])
    })
  }

  /** Creates the blob from the committed bytes, which ends the upload. */
  async #createBlob(
    upload: UploadClaim,
    lease: Lease,
    { stage, needsCleanup }: Appended,
    blob: BlobRow,
  ): Promise<FinishedUpload> {
    const { digest, storageKey: keptKey } = blob
    const finished = await finishUpload(this.#db, upload.id, lease.token, blob, lease.rights)
    this.#hashes.forget(upload.id)
    // Another request took the upload over, and may have committed these very bytes.
    if (finished === undefined) throw uploadUnknown(upload.id)
    if (!(await this.#discard(upload.stage as Stage, stage)) || needsCleanup) {
      const leftovers = { id: upload.id, digest, keptKey }
      // Should this fail, a scrub finds the leftovers as orphans.
      await queueLeftovers(this.#db, leftovers).catch(() => {})
    }
    const { deletionId } = finished
    if (
      deletionId !== null &&
      !(await replaceIfLost(this.#db, this.#store, finished, deletionId, blob))
    ) {
      // Not awaited: a later response would show that another repository has these bytes.
      void this.#deleteNow({ id: deletionId, storageKey: keptKey, upload: null })
    }
    return finished
  }

  // The row first: from then on nobody can create a blob from these bytes.
  async #retire(id: string, token: string): Promise<void> {
    this.#hashes.forget(id)
    const deletion = await retireUpload(this.#db, id, token, DELETION_LEASE_SECONDS)
    if (deletion !== undefined) await this.#deleteNow(deletion)
  }

  /** Does a queued deletion now. When it fails, it stays queued for a sweep. */
  async #deleteNow(deletion: QueuedDeletion): Promise<void> {
    try {
      await deleteBytes(this.#store, deletion)
      await finishDeletions(this.#db, [deletion.id])
    } catch {
      // It stays queued.
    }
  }

  /** Removes the bytes of `stage` that `kept` does not have. Returns false when the store failed. */
  async #discard(stage: Stage, kept: Stage): Promise<boolean> {
    try {
      await this.#store.discard(stage, kept)
      return true
    } catch {
      return false
    }
  }

  /** Runs the work that records a new stage, and discards the stage when the work fails. */
  async #discardOnFailure<T>(
    upload: UploadClaim,
    stage: Stage,
    work: () => Promise<T>,
  ): Promise<T> {
    try {
      return await work()
    } catch (error) {
      // When the database did not answer, it may have recorded the new stage, so the stage stays. The
      // failure marks the upload, and its end cleans up.
      if (error instanceof RegistryError && error.code !== 'UNAVAILABLE') {
        await this.#discard(stage, upload.stage as Stage)
      }
      throw error
    }
  }

  /** Reads all stored bytes for their digest: no single process has hashed them all. */
  async #assertStored(
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
    assertDigest(digest, found)
  }

  async #receive(
    upload: UploadClaim,
    lease: Lease,
    body: UploadBody,
    hash: ReturnType<typeof createHash>,
    last: boolean,
  ): Promise<Appended> {
    const counter: ByteCounter = { received: 0 }
    const room = this.#options.blobBytesMax - upload.size
    const bytes = lease.guard(hashStream(body, hash, counter, room))
    return this.#store.append(upload.stage as Stage, upload.size, bytes, last)
  }

  /** Replaces the stage to which the previous writer may still be writing. */
  async #fence(upload: UploadClaim, token: string): Promise<UploadClaim> {
    const stage = await this.#store.fence(upload.stage as Stage, upload.size)
    if (!(await replaceStage(this.#db, upload.id, token, stage))) {
      await this.#discard(stage, upload.stage as Stage)
      throw uploadUnknown(upload.id)
    }
    // The upload needs cleanup anyway, because its lease was taken over.
    await this.#discard(upload.stage as Stage, stage)
    return { ...upload, stage }
  }

  /** Runs `work` as the only writer of the upload, and releases the lease when it fails. */
  async #withClaim<T>(
    key: UploadKey,
    { start, digest }: { start?: number | undefined; digest?: Digest },
    work: (upload: UploadClaim, lease: Lease) => Promise<T>,
  ): Promise<T> {
    if (!isUuid(key.id)) throw uploadUnknown(key.id)
    const token = randomUUID()
    const { processLock } = this.#options
    const writer = { lease: token, process: processLock.key }
    const upload = await claimUpload(this.#db, key, writer, start, digest)
    if (upload === undefined) throw uploadUnknown(key.id)
    if (!upload.claimed) throw notClaimed(upload, start)
    const lease = new Lease(this.#db, {
      id: upload.id,
      token,
      process: () => processLock.key,
      rights: key.actor,
      isSingleRequest: upload.singleRequest,
    })
    try {
      return await work(upload.takenOver ? await this.#fence(upload, token) : upload, lease)
    } catch (error) {
      if (error instanceof StageLostError || error instanceof BlobMissingError) {
        await this.#retire(upload.id, token)
        throw new RegistryError('BLOB_UPLOAD_UNKNOWN', { upload: upload.id }, { cause: error })
      }
      // Nobody can continue an upload of a revoked credential.
      if (isUnauthorized(error)) await this.#retire(upload.id, token)
      else await lease.release()
      throw translateStoreError(error)
    } finally {
      lease.stop()
    }
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

function assertDigest(digest: Digest, found: Digest): void {
  if (found !== digest) throw otherContent(digest, found)
}

function uploadUnknown(id: string): RegistryError {
  return new RegistryError('BLOB_UPLOAD_UNKNOWN', { upload: id.slice(0, 80) })
}

function notClaimed({ size }: UploadClaim, start: number | undefined): RegistryError {
  const received = size
  if (start !== undefined && start !== size) {
    const message = `the next chunk must begin at ${size}, not at ${start}`
    return new RegistryError('RANGE_INVALID', { received }, { message, received })
  }
  return uploadBusy()
}

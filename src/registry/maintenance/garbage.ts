import { randomUUID } from 'node:crypto'
import { forEachConcurrent } from '../../async/for-each.ts'
import { deleteOldManifestReads } from '../../db/builds/builds.ts'
import type { Database } from '../../db/database.ts'
import {
  claimDeletions,
  finishDeletions,
  type QueuedDeletion,
} from '../../db/maintenance/deletion-queue.ts'
import {
  claimDeadUploads,
  type DeadUpload,
  retireAbandonedRequests,
  retireExpiredUploads,
} from '../../db/maintenance/ended-uploads.ts'
import {
  type CandidateRow,
  countPendingCleanup,
  FIRST_CANDIDATE,
  type GarbageRow,
  listCandidates,
  lockEmptyRepositories,
  lockUntouchedBlobs,
  markPermanentRepositories,
  removeEmptyRepositories,
  removeUnreferencedBlobs,
} from '../../db/maintenance/garbage.ts'
import {
  lockUnemptied,
  markEmptied,
  removeContent,
  removeEmptied,
} from '../../db/registry/repository-deletions.ts'
import { releaseUpload } from '../../db/registry/upload-leases.ts'
import { replaceStage } from '../../db/registry/uploads.ts'
import type { BlobStore, Stage } from '../../storage/blob-store.ts'

export type SweepReport = {
  /** Uploads that were removed: expired ones, and those of requests whose process died. */
  readonly uploads: number
  /** Empty repositories that were removed. */
  readonly repositories: number
  /** Tags, manifests, holds and positions of deleted repositories that were removed, and such repositories. */
  readonly contents: number
  /** Blobs that were checked. */
  readonly checked: number
  /** Blobs that were removed, and their bytes. */
  readonly blobs: number
  readonly bytes: number
  /** Blobs and uploads whose bytes were deleted. */
  readonly deletions: number
  /** Errors of deletions, which stay queued for a later sweep. */
  readonly failures: readonly unknown[]
}

export type SweepPreview = {
  readonly blobs: number
  readonly bytes: number
  readonly expiredUploads: number
  readonly queuedDeletions: number
}

const UPLOADS_A_SWEEP_MAX = 100
const BLOBS_A_SWEEP_MAX = 500
const REPOSITORIES_A_SWEEP_MAX = 500
/** Rows that one transaction removes from a deleted repository: it holds locks on the blobs of so many manifests. */
const CONTENTS_A_SWEEP_MAX = 200
const UNEMPTIED_A_SWEEP_MAX = 100
const READS_A_SWEEP_MAX = 10_000
const DELETIONS_A_SWEEP_MAX = 64
const DELETIONS_CONCURRENCY_MAX = 8
const PREVIEW_PAGE = 1000

/**
 * Removes unreferenced blobs, expired uploads, empty repositories and the content of deleted ones while the registry runs. A transaction removes the
 * rows, and locks them against pushes; it also queues the deletion of the bytes, so a crash loses none.
 */
export class GarbageCollector {
  readonly #db: Database
  readonly #store: BlobStore
  readonly #graceSeconds: number

  /** Keeps blobs that were touched in the last `graceSeconds`. */
  constructor(db: Database, store: BlobStore, graceSeconds: number) {
    this.#db = db
    this.#store = store
    this.#graceSeconds = graceSeconds
  }

  /** Sweeps one bounded round. When every count of its report is 0, no garbage is left. */
  async sweep(): Promise<SweepReport> {
    const contents = await this.#removeContents()
    const expired = await retireExpiredUploads(this.#db, UPLOADS_A_SWEEP_MAX)
    const uploads = expired + (await retireAbandonedRequests(this.#db, UPLOADS_A_SWEEP_MAX))
    const { checked, removed } = await this.#db.transaction(async (tx) => {
      const ids = await lockUntouchedBlobs(tx, this.#graceSeconds, BLOBS_A_SWEEP_MAX)
      const rows = ids.length === 0 ? [] : await removeUnreferencedBlobs(tx, ids)
      return { checked: ids.length, removed: rows }
    })
    await markPermanentRepositories(this.#db, REPOSITORIES_A_SWEEP_MAX)
    const empty = await this.#db.transaction(async (tx) => {
      const ids = await lockEmptyRepositories(tx, this.#graceSeconds, REPOSITORIES_A_SWEEP_MAX)
      return ids.length === 0 ? 0 : removeEmptyRepositories(tx, ids)
    })
    const repositories = empty + (await removeEmptied(this.#db, REPOSITORIES_A_SWEEP_MAX))
    const deletions = await claimDeletions(this.#db, DELETIONS_A_SWEEP_MAX)
    await deleteOldManifestReads(this.#db, READS_A_SWEEP_MAX)
    const failures = await this.#deleteAll(deletions)
    failures.push(...(await this.#emptyDeadUploads()))
    return {
      uploads,
      repositories,
      contents,
      checked,
      blobs: removed.length,
      bytes: removed.reduce((sum, { size }) => sum + size, 0),
      deletions: deletions.length - failures.length,
      failures,
    }
  }

  /** Removes a part of the content of one deleted repository. Returns how many rows. */
  #removeContents(): Promise<number> {
    return this.#db.transaction(async (tx) => {
      for (const id of await lockUnemptied(tx, UNEMPTIED_A_SWEEP_MAX)) {
        const removed = await removeContent(tx, id, CONTENTS_A_SWEEP_MAX)
        if (removed > 0) return removed
        if (await markEmptied(tx, id)) return 1
        // An upload has a writer: the next repository does not wait for it.
      }
      return 0
    })
  }

  /** Reports each blob that `sweep` would remove now, and removes nothing. */
  async preview(onBlob: (blob: GarbageRow) => void): Promise<SweepPreview> {
    let [blobs, bytes] = [0, 0]
    let after: Pick<CandidateRow, 'touchedAt' | 'id'> = FIRST_CANDIDATE
    for (;;) {
      const page = await listCandidates(this.#db, this.#graceSeconds, after, PREVIEW_PAGE)
      for (const blob of page) {
        if (blob.isReferenced) continue
        onBlob(blob)
        blobs += 1
        bytes += blob.size
      }
      const last = page.at(-1)
      if (last === undefined || page.length < PREVIEW_PAGE) break
      after = last
    }
    return { blobs, bytes, ...(await countPendingCleanup(this.#db)) }
  }

  /** Deletes what dead writers left in uploads that have no acknowledged bytes. Returns the errors. */
  async #emptyDeadUploads(): Promise<unknown[]> {
    const writer = { lease: randomUUID(), process: null }
    const dead = await claimDeadUploads(this.#db, writer, UPLOADS_A_SWEEP_MAX)
    const failures: unknown[] = []
    await forEachConcurrent(dead, DELETIONS_CONCURRENCY_MAX, async (upload) => {
      try {
        await this.#empty(upload, writer.lease)
      } catch (error) {
        failures.push(error)
      }
    })
    return failures
  }

  async #empty({ id, stage, digest }: DeadUpload, lease: string): Promise<void> {
    // A writer that is only slow, and not dead, cannot write to the new stage.
    const fenced = await this.#store.fence(stage as Stage, 0)
    if (!(await replaceStage(this.#db, id, lease, fenced))) return
    await this.#store.cleanUp(id, digest ?? undefined, undefined)
    await releaseUpload(this.#db, id, lease)
  }

  /** Deletes each on its own: a failed deletion stays queued and does not stop the others. */
  async #deleteAll(deletions: readonly QueuedDeletion[]): Promise<unknown[]> {
    const failures: unknown[] = []
    const done: number[] = []
    await forEachConcurrent(deletions, DELETIONS_CONCURRENCY_MAX, async (deletion) => {
      try {
        await deleteBytes(this.#store, deletion)
        done.push(deletion.id)
      } catch (error) {
        failures.push(error)
      }
    })
    if (done.length > 0) await finishDeletions(this.#db, done)
    return failures
  }
}

/** Deletes the bytes of a queued deletion from the store. */
export async function deleteBytes(store: BlobStore, deletion: QueuedDeletion): Promise<void> {
  if (deletion.storageKey !== null) {
    await store.remove(deletion.storageKey)
    return
  }
  const { id, digest, keptKey } = deletion.upload
  await store.cleanUp(id, digest ?? undefined, keptKey ?? undefined)
}

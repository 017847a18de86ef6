import { forEachConcurrent } from '../../async/for-each.ts'
import type { Database } from '../../db/database.ts'
import {
  claimDeletions,
  finishDeletions,
  type QueuedDeletion,
} from '../../db/maintenance/deletion-queue.ts'
import {
  countPendingCleanup,
  type GarbageRow,
  listGarbage,
  lockUntouchedBlobs,
  removeUnreferencedBlobs,
} from '../../db/maintenance/garbage.ts'
import { retireExpiredUploads } from '../../db/registry/uploads.ts'
import type { BlobStore } from '../../storage/blob-store.ts'

export type SweepReport = {
  /** Uploads that were forgotten. */
  readonly uploads: number
  /** Blobs that were looked at. */
  readonly checked: number
  /** Blobs that were forgotten, and their bytes. */
  readonly blobs: number
  readonly bytes: number
  /** Blobs and uploads whose bytes were removed. */
  readonly deletions: number
  /** Removals that failed and are tried again later. */
  readonly failures: readonly unknown[]
}

export type SweepPreview = {
  readonly blobs: number
  readonly bytes: number
  readonly expiredUploads: number
  readonly queuedRemovals: number
}

const UPLOADS_AT_ONCE_MAX = 100
const BLOBS_AT_ONCE_MAX = 500
const REMOVALS_AT_ONCE_MAX = 64
const REMOVALS_TOGETHER_MAX = 8
const PREVIEW_PAGE = 1000

/**
 * The garbage of a registry that stays open: rows first, in a transaction that meets pushes on the
 * blobs' own rows, and bytes afterwards, from a queue that a crash does not empty.
 */
export class GarbageCollector {
  readonly #db: Database
  readonly #store: BlobStore
  readonly #graceSeconds: number

  /** Nothing goes that was touched in the last `graceSeconds`. */
  constructor(db: Database, store: BlobStore, graceSeconds: number) {
    this.#db = db
    this.#store = store
    this.#graceSeconds = graceSeconds
  }

  /** One bounded round; when everything in what it returns is 0, nothing was left to do. */
  async sweep(): Promise<SweepReport> {
    const uploads = await retireExpiredUploads(this.#db, UPLOADS_AT_ONCE_MAX)
    const { checked, gone } = await this.#db.transaction(async (tx) => {
      const ids = await lockUntouchedBlobs(tx, this.#graceSeconds, BLOBS_AT_ONCE_MAX)
      const rows = ids.length === 0 ? [] : await removeUnreferencedBlobs(tx, ids)
      return { checked: ids.length, gone: rows }
    })
    const removals = await claimDeletions(this.#db, REMOVALS_AT_ONCE_MAX)
    const failures = await this.#removeAll(removals)
    return {
      uploads,
      checked,
      blobs: gone.length,
      bytes: gone.reduce((sum, { size }) => sum + size, 0),
      deletions: removals.length - failures.length,
      failures,
    }
  }

  /** What `sweep` would forget now, told one by one. */
  async preview(onBlob: (blob: GarbageRow) => void): Promise<SweepPreview> {
    let [blobs, bytes, after] = [0, 0, '']
    for (;;) {
      const page = await listGarbage(this.#db, this.#graceSeconds, after, PREVIEW_PAGE)
      for (const blob of page) {
        onBlob(blob)
        blobs += 1
        bytes += blob.size
      }
      const last = page.at(-1)
      if (last === undefined || page.length < PREVIEW_PAGE) break
      after = last.digest
    }
    return { blobs, bytes, ...(await countPendingCleanup(this.#db)) }
  }

  /** Each on its own: one that fails stays queued and keeps none of the others. */
  async #removeAll(removals: readonly QueuedDeletion[]): Promise<unknown[]> {
    const failures: unknown[] = []
    const done: number[] = []
    await forEachConcurrent(removals, REMOVALS_TOGETHER_MAX, async (removal) => {
      try {
        await removeBytes(this.#store, removal)
        done.push(removal.id)
      } catch (error) {
        failures.push(error)
      }
    })
    if (done.length > 0) await finishDeletions(this.#db, done)
    return failures
  }
}

/** Removes what a removal stands for. */
export async function removeBytes(store: BlobStore, removal: QueuedDeletion): Promise<void> {
  if (removal.storageKey !== null) {
    await store.remove(removal.storageKey)
    return
  }
  const { id, digest, keptKey } = removal.upload
  await store.cleanUp(id, digest ?? undefined, keptKey ?? undefined)
}

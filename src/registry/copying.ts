import type { Database } from '../db/database.ts'
import { countUploads, type InventoryRow, isStillNamed, listBlobs } from '../db/inventory.ts'
import { alone, findProgress, forgetProgress, saveProgress } from '../db/maintenance.ts'
import { algorithmOf, type Digest } from '../oci/digest.ts'
import { BlobMissing, type BlobStore } from '../storage/blob-store.ts'
import { together } from './together.ts'
import { hashOf } from './transfer.ts'

export type CopyOptions = {
  /** What tells this copy from others, such as `filesystem to s3`. */
  readonly name: string
  /** Looks at everything again, instead of going on behind what was copied before. */
  readonly restart: boolean
  readonly signal: AbortSignal
  onProgress(report: CopyReport): void
}

export type CopyReport = {
  /** Blobs and bytes that the target has, read back and found right. */
  blobs: number
  bytes: number
  /** Of these, blobs that it had before. */
  present: number
  /** Blobs that the source has not, or not as the digest says: they could not be copied. */
  readonly failures: { digest: Digest; reason: 'missing' | 'corrupt' }[]
  /** Uploads in progress: they go on in the source only. */
  uploads: number
}

const BLOBS_A_PAGE = 100
const BLOBS_AT_ONCE_MAX = 4

/**
 * Copies the bytes of every blob, under the same keys, and reads each back for its digest. The
 * registry may go on meanwhile; what comes later is copied when this runs again, which goes on behind
 * the last page that went well. Throws AlreadyRunning, and the signal's reason.
 */
export async function copyBlobs(
  db: Database,
  source: BlobStore,
  target: BlobStore,
  options: CopyOptions,
): Promise<CopyReport> {
  const name = `copy ${options.name}`
  return alone(db, name, async () => {
    if (options.restart) await forgetProgress(db, name)
    const saved = await findProgress(db, name)
    let after = (saved?.progress as { after: number } | undefined)?.after ?? 0
    const report: CopyReport = { blobs: 0, bytes: 0, present: 0, failures: [], uploads: 0 }
    for (;;) {
      const page = await listBlobs(db, after, BLOBS_A_PAGE)
      const last = page.at(-1)
      if (last === undefined) break
      await together(page, BLOBS_AT_ONCE_MAX, (blob) =>
        copyBlob(db, source, target, blob, report, options.signal),
      )
      after = last.id
      // A page with a failure is not done: the next run meets it again.
      if (report.failures.length === 0) await saveProgress(db, name, { after })
      options.onProgress(report)
      options.signal.throwIfAborted()
    }
    report.uploads = await countUploads(db)
    return report
  })
}

async function copyBlob(
  db: Database,
  source: BlobStore,
  target: BlobStore,
  blob: InventoryRow,
  report: CopyReport,
  signal: AbortSignal,
): Promise<void> {
  const { digest, size, storageKey } = blob
  const isPresent = await isRight(target, blob)
  if (!isPresent) {
    try {
      await target.put(storageKey, stoppable(bytesOf(source, blob), signal))
    } catch (error) {
      if (!(error instanceof BlobMissing)) throw error
      // It may have been swept since the page was read.
      if (await isStillNamed(db, blob)) report.failures.push({ digest, reason: 'missing' })
      return
    }
    if (!(await isRight(target, blob))) {
      await target.remove(storageKey)
      report.failures.push({ digest, reason: 'corrupt' })
      return
    }
  }
  report.blobs += 1
  report.bytes += size
  if (isPresent) report.present += 1
}

/** True when the store has the blob's bytes: they are read, every one. */
async function isRight(store: BlobStore, blob: InventoryRow): Promise<boolean> {
  if ((await store.stat(blob.storageKey)) !== blob.size) return false
  return (await hashOf(bytesOf(store, blob), algorithmOf(blob.digest))) === blob.digest
}

async function* bytesOf(
  store: BlobStore,
  { storageKey, size }: InventoryRow,
): AsyncGenerator<Uint8Array> {
  if (size > 0) yield* store.read(storageKey, { start: 0, end: size - 1 })
  else if ((await store.stat(storageKey)) === undefined) throw new BlobMissing(storageKey)
}

async function* stoppable(
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    signal.throwIfAborted()
    yield chunk
  }
}

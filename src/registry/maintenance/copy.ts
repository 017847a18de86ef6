import { forEachConcurrent } from '../../async/for-each.ts'
import type { Database } from '../../db/database.ts'
import {
  countUploads,
  type InventoryRow,
  isStillReferenced,
  listBlobs,
} from '../../db/maintenance/inventory.ts'
import {
  clearProgress,
  findProgress,
  runExclusively,
  saveProgress,
} from '../../db/maintenance/jobs.ts'
import { algorithmOf, type Digest } from '../../oci/digest.ts'
import { BlobMissingError, type BlobStore } from '../../storage/blob-store.ts'
import { digestOfStream } from '../uploads/hash-stream.ts'

export type CopyReport = {
  /** Blobs and bytes that the target has, read back and found right. */
  blobs: number
  bytes: number
  /** Of these, blobs that it had before. */
  present: number
  /** Blobs that the source has not, or not as the digest says: they could not be copied. */
  readonly failures: { digest: Digest; reason: 'missing' | 'corrupt' }[]
}

export type CopyOptions = {
  readonly signal: AbortSignal
  /** Called behind each page. */
  onPage(report: CopyReport, last: InventoryRow): Promise<void>
  /** False for a blob that was swept since its page was read: then it need not be copied. */
  isReferenced(blob: InventoryRow): Promise<boolean>
}

export type CopyStoreOptions = {
  /** What tells this copy from others, such as `filesystem to s3`. */
  readonly name: string
  /** Looks at everything again, instead of going on behind what was copied before. */
  readonly restart: boolean
  readonly signal: AbortSignal
  onProgress(report: CopyReport): void
}

const BLOBS_A_PAGE = 100
const BLOBS_AT_ONCE_MAX = 4

/**
 * Copies the bytes of every blob of the registry to another store. The registry may go on meanwhile;
 * what comes later is copied when this runs again, which goes on behind the last page that went well.
 * `uploads` are in progress, and go on in the source only. Throws AlreadyRunningError, and the signal's
 * reason.
 */
export async function copyStore(
  db: Database,
  source: BlobStore,
  target: BlobStore,
  options: CopyStoreOptions,
): Promise<CopyReport & { uploads: number }> {
  const name = `copy ${options.name}`
  return runExclusively(db, name, async (lock) => {
    if (options.restart) await clearProgress(db, name)
    const saved = await findProgress(db, name)
    const after = (saved?.progress as { after: number } | undefined)?.after ?? 0
    const report = await copyBlobs(pagesOf(db, after), source, target, {
      signal: options.signal,
      isReferenced: (blob) => isStillReferenced(db, blob),
      async onPage(soFar, last) {
        lock.assertHeld()
        // A page with a failure is not done: the next run meets it again.
        if (soFar.failures.length === 0) await saveProgress(db, name, { after: last.id })
        options.onProgress(soFar)
      },
    })
    return { ...report, uploads: await countUploads(db) }
  })
}

async function* pagesOf(db: Database, begin: number): AsyncGenerator<InventoryRow[]> {
  let after = begin
  for (;;) {
    const page = await listBlobs(db, after, BLOBS_A_PAGE)
    const last = page.at(-1)
    if (last === undefined) return
    yield page
    after = last.id
  }
}

/**
 * Copies blobs under their own keys, and reads each back for its digest; those that the target has
 * already are read, too, and not copied. Throws the signal's reason.
 */
export async function copyBlobs(
  pages: AsyncIterable<readonly InventoryRow[]>,
  source: BlobStore,
  target: BlobStore,
  options: CopyOptions,
): Promise<CopyReport> {
  const report: CopyReport = { blobs: 0, bytes: 0, present: 0, failures: [] }
  for await (const page of pages) {
    const last = page.at(-1)
    if (last === undefined) continue
    await forEachConcurrent(page, BLOBS_AT_ONCE_MAX, (blob) =>
      copyBlob(source, target, blob, report, options),
    )
    await options.onPage(report, last)
    options.signal.throwIfAborted()
  }
  return report
}

async function copyBlob(
  source: BlobStore,
  target: BlobStore,
  blob: InventoryRow,
  report: CopyReport,
  { signal, isReferenced: isNamed }: CopyOptions,
): Promise<void> {
  const { digest, size, storageKey } = blob
  const isPresent = await isRight(target, blob)
  if (!isPresent) {
    try {
      await target.put(storageKey, kept(bytesOf(source, blob), signal))
    } catch (error) {
      if (!(error instanceof BlobMissingError)) throw error
      if (await isNamed(blob)) report.failures.push({ digest, reason: 'missing' })
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
  return (await digestOfStream(bytesOf(store, blob), algorithmOf(blob.digest))) === blob.digest
}

async function* bytesOf(
  store: BlobStore,
  { storageKey, size }: InventoryRow,
): AsyncGenerator<Uint8Array> {
  if (size > 0) yield* store.read(storageKey, { start: 0, end: size - 1 })
  else if ((await store.stat(storageKey)) === undefined) throw new BlobMissingError(storageKey)
}

/** Copies of the chunks: one store uses their memory again while the other one still writes them. */
async function* kept(
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    signal.throwIfAborted()
    yield Buffer.from(chunk)
  }
}

import { forEachConcurrent } from '../../async/for-each.ts'
import type { Database } from '../../db/database.ts'
import {
  type InventoryRow,
  isStillReferenced,
  listBlobs,
  listReplacedBlobs,
} from '../../db/maintenance/inventory.ts'
import {
  clearProgress,
  findProgress,
  runExclusively,
  saveProgress,
} from '../../db/maintenance/jobs.ts'
import { countUploads } from '../../db/registry/uploads.ts'
import { algorithmOf, type Digest } from '../../oci/digest.ts'
import { BlobMissingError, type BlobStore } from '../../storage/blob-store.ts'
import { digestOfStream } from '../uploads/hash-stream.ts'

export type CopyReport = VerifyReport & {
  /** Count of `blobs` that the target had before. */
  present: number
}

export type VerifyReport = {
  /** Blobs and bytes of the target, read back and verified. */
  blobs: number
  bytes: number
  /** Blobs whose bytes are missing, or are other bytes; of a copy: in the source. */
  readonly failures: BlobFailure[]
}

export type BlobFailure = {
  readonly digest: Digest
  readonly storageKey: string
  readonly reason: 'missing' | 'corrupt'
  /** True when the registry had lost the blob before. */
  readonly lost: boolean
}

export type CopyOptions = {
  readonly signal: AbortSignal
  /** Called after each page. */
  onPage(report: CopyReport, last: InventoryRow): Promise<void>
  /** Returns false for a blob that a sweep removed since its page was read: it need not be copied. */
  isReferenced(blob: InventoryRow): Promise<boolean>
}

export type CopyStoreOptions = {
  /** Distinguishes the progress of this copy, such as `filesystem to s3`. */
  readonly name: string
  /** Starts with the first blob instead of the saved progress. */
  readonly restart: boolean
  readonly signal: AbortSignal
  onProgress(report: CopyReport): void
}

const BLOBS_A_PAGE = 100
const BLOBS_CONCURRENCY_MAX = 4

/**
 * Copies the bytes of every blob of the registry to another store. The registry may run meanwhile: run
 * the copy again for later blobs, which resumes after the last page without failures. Uploads in progress
 * are counted, and stay in the source. Throws AlreadyRunningError, and the signal's reason.
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
        // The next run repeats a page that had a failure.
        if (soFar.failures.length === 0) {
          await saveProgress(db, name, { after: Math.max(after, last.id) })
        }
        options.onProgress(soFar)
      },
    })
    return { ...report, uploads: await countUploads(db) }
  })
}

/** Yields blobs after the id `begin`, and before them those whose bytes were replaced since they were copied. */
async function* pagesOf(db: Database, begin: number): AsyncGenerator<InventoryRow[]> {
  for (let after = 0; ; ) {
    const page = await listReplacedBlobs(db, after, begin, BLOBS_A_PAGE)
    const last = page.at(-1)
    if (last === undefined) break
    yield page
    after = last.id
  }
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
 * Copies blobs under their own keys, and reads each back to verify its digest. A blob that the target
 * already has is only verified. Throws the signal's reason.
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
    await forEachConcurrent(page, BLOBS_CONCURRENCY_MAX, (blob) =>
      copyBlob(source, target, blob, report, options),
    )
    await options.onPage(report, last)
    options.signal.throwIfAborted()
  }
  return report
}

/** Reads each blob, and compares its size and digest. Throws the signal's reason. */
export async function verifyBlobs(
  pages: AsyncIterable<readonly InventoryRow[]>,
  store: BlobStore,
  options: { readonly signal: AbortSignal; onPage(report: VerifyReport): void },
): Promise<VerifyReport> {
  const report: VerifyReport = { blobs: 0, bytes: 0, failures: [] }
  for await (const page of pages) {
    await forEachConcurrent(page, BLOBS_CONCURRENCY_MAX, async (blob) => {
      options.signal.throwIfAborted()
      if (await hasBytes(store, blob)) {
        report.blobs += 1
        report.bytes += blob.size
      } else {
        const isMissing = (await store.stat(blob.storageKey)) === undefined
        report.failures.push(failureOf(blob, isMissing ? 'missing' : 'corrupt'))
      }
    })
    options.onPage(report)
  }
  return report
}

function failureOf(
  { digest, storageKey, lost }: InventoryRow,
  reason: BlobFailure['reason'],
): BlobFailure {
  return { digest, storageKey, reason, lost }
}

async function copyBlob(
  source: BlobStore,
  target: BlobStore,
  blob: InventoryRow,
  report: CopyReport,
  { signal, isReferenced: isNamed }: CopyOptions,
): Promise<void> {
  const { size, storageKey } = blob
  const isPresent = await hasBytes(target, blob)
  if (!isPresent) {
    try {
      await target.put(storageKey, copied(bytesOf(source, blob), signal))
    } catch (error) {
      if (!(error instanceof BlobMissingError)) throw error
      if (await isNamed(blob)) report.failures.push(failureOf(blob, 'missing'))
      return
    }
    if (!(await hasBytes(target, blob))) {
      await target.remove(storageKey)
      report.failures.push(failureOf(blob, 'corrupt'))
      return
    }
  }
  report.blobs += 1
  report.bytes += size
  if (isPresent) report.present += 1
}

/** True when the store has the blob's bytes: reads all of them to compare the digest. */
async function hasBytes(store: BlobStore, blob: InventoryRow): Promise<boolean> {
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

/** Yields copies of the chunks, because the source reuses their memory while the target still writes. */
async function* copied(
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    signal.throwIfAborted()
    yield Buffer.from(chunk)
  }
}

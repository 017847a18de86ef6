import { forEachConcurrent } from '../../async/for-each.ts'
import { Throttle } from '../../async/throttle.ts'
import type { Database } from '../../db/database.ts'
import {
  findReferenced,
  type InventoryRow,
  isStillReferenced,
  listBlobs,
} from '../../db/maintenance/inventory.ts'
import {
  clearProgress,
  findProgress,
  type JobLock,
  runExclusively,
  saveProgress,
} from '../../db/maintenance/jobs.ts'
import { clearLost, markLost } from '../../db/registry/lost-blobs.ts'
import { algorithmOf, type Digest } from '../../oci/digest.ts'
import { BlobMissingError, type BlobStore, type StoredObject } from '../../storage/blob-store.ts'
import { digestOfStream } from '../uploads/hash-stream.ts'

export type ScrubOptions = {
  readonly bytesPerSecond: number
  /** Younger objects are not reported as orphans. */
  readonly orphanAgeSeconds: number
  readonly deleteOrphans: boolean
  /** Starts over, and discards the progress of a scrub that was stopped. */
  readonly restart: boolean
  readonly signal: AbortSignal
  onProgress(report: ScrubReport): void
}

export type ScrubReport = {
  readonly startedAt: string
  /** Undefined until the scrub is done. */
  finishedAt?: string
  /** Blobs and bytes that were read. */
  blobs: number
  bytes: number
  missing: number
  corrupt: number
  orphans: number
  orphanBytes: number
  deletedOrphans: number
  /** Blobs that were marked as lost, and whose bytes are right again. */
  recovered: number
  /** The first findings of each kind, up to a limit; the counts above are complete. */
  readonly findings: Finding[]
}

export type Finding =
  | { kind: 'missing'; digest: Digest; size: number; key: string }
  | { kind: 'corrupt'; digest: Digest; size: number; key: string; found: string }
  | { kind: 'orphan'; name: string; size: number | null; modifiedAt: string; deleted: boolean }

/** `after` is the id of a blob, and in the second phase the name of an object in the store. */
type Progress = { phase: 'blobs' | 'orphans'; after: string; report: ScrubReport }

const NAME = 'scrub'
const BLOBS_A_PAGE = 100
const BLOBS_CONCURRENCY_MAX = 4
const OBJECTS_A_PAGE = 500
const FINDINGS_MAX = 1000

/**
 * Reads every blob to verify its digest, and finds orphans: objects in the store without a row. Marks missing and
 * corrupt blobs as lost, so that clients push them again, and clears the mark of a blob whose bytes are right. Deletes
 * orphans when `deleteOrphans` is set. Postgres keeps the findings page by page, so a scrub that was stopped resumes.
 * Throws AlreadyRunningError, StoreUnavailableError for the store of another installation, and the signal's reason.
 */
export async function scrub(
  db: Database,
  store: BlobStore,
  options: ScrubOptions,
): Promise<ScrubReport> {
  return runExclusively(db, NAME, async (lock) => {
    if (options.restart) await clearProgress(db, NAME)
    const saved = await findProgress(db, NAME)
    const progress = (saved?.progress as Progress | undefined) ?? newProgress()
    // An earlier release did not count them.
    progress.report.recovered ??= 0
    const run = new ScrubRun(db, store, options, progress, lock)
    await run.run()
    await clearProgress(db, NAME)
    return progress.report
  })
}

/** True when no blob is missing or corrupt and no orphan is left. */
export function isClean({ missing, corrupt, orphans, deletedOrphans }: ScrubReport): boolean {
  return missing + corrupt + (orphans - deletedOrphans) === 0
}

function newProgress(): Progress {
  const counts = { blobs: 0, bytes: 0, missing: 0, corrupt: 0 }
  const orphans = { orphans: 0, orphanBytes: 0, deletedOrphans: 0, recovered: 0 }
  const startedAt = new Date().toISOString()
  return {
    phase: 'blobs',
    after: '0',
    report: { startedAt, ...counts, ...orphans, findings: [] },
  }
}

class ScrubRun {
  readonly #db: Database
  readonly #store: BlobStore
  readonly #options: ScrubOptions
  readonly #progress: Progress
  readonly #throttle: Throttle
  readonly #lock: JobLock

  constructor(
    db: Database,
    store: BlobStore,
    options: ScrubOptions,
    progress: Progress,
    lock: JobLock,
  ) {
    this.#lock = lock
    this.#db = db
    this.#store = store
    this.#options = options
    this.#progress = progress
    this.#throttle = new Throttle(options.bytesPerSecond)
  }

  async run(): Promise<void> {
    const { report } = this.#progress
    if (this.#progress.phase === 'blobs') {
      await this.#readBlobs()
      await this.#save('orphans', '')
    }
    await this.#findOrphans()
    report.finishedAt = new Date().toISOString()
  }

  async #save(phase: Progress['phase'], after: string): Promise<void> {
    this.#lock.assertHeld()
    this.#progress.phase = phase
    this.#progress.after = after
    await saveProgress(this.#db, NAME, this.#progress)
    this.#options.onProgress(this.#progress.report)
    this.#options.signal.throwIfAborted()
  }

  async #readBlobs(): Promise<void> {
    for (;;) {
      const page = await listBlobs(this.#db, Number(this.#progress.after), BLOBS_A_PAGE)
      const last = page.at(-1)
      if (last === undefined) return
      await forEachConcurrent(page, BLOBS_CONCURRENCY_MAX, (blob) => this.#readBlob(blob))
      await this.#save('blobs', String(last.id))
    }
  }

  async #readBlob(blob: InventoryRow): Promise<void> {
    const { report } = this.#progress
    const { digest, size, storageKey: key } = blob
    const found = await this.#digestOf(blob)
    if (found === digest) {
      report.blobs += 1
      report.bytes += size
      if (blob.lost) {
        await clearLost(this.#db, key)
        report.recovered += 1
      }
      return
    }
    // A sweep may have removed it since the page was read.
    if (!(await isStillReferenced(this.#db, blob))) return
    // Throws when the store is not that of the database: then nothing follows from missing bytes.
    await this.#store.check()
    await markLost(this.#db, key)
    report.blobs += 1
    if (found === undefined) {
      report.missing += 1
      this.#report({ kind: 'missing', digest, size, key })
    } else {
      report.corrupt += 1
      report.bytes += size
      this.#report({ kind: 'corrupt', digest, size, key, found })
    }
  }

  /** Returns the digest of the stored bytes, or their size when it is wrong; undefined when there are none. */
  async #digestOf({ digest, size, storageKey }: InventoryRow): Promise<string | undefined> {
    const storedSize = await this.#store.stat(storageKey)
    if (storedSize === undefined) return undefined
    if (storedSize !== size) return `${storedSize} bytes`
    if (size === 0) return digestOfStream(noBytes(), algorithmOf(digest))
    const bytes = this.#store.read(storageKey, { start: 0, end: size - 1 })
    try {
      const { signal } = this.#options
      return await digestOfStream(this.#throttle.limit(bytes, signal), algorithmOf(digest))
    } catch (error) {
      if (error instanceof BlobMissingError) return undefined
      throw error
    }
  }

  async #findOrphans(): Promise<void> {
    let page: StoredObject[] = []
    for await (const object of this.#store.list(this.#progress.after)) {
      page.push(object)
      if (page.length < OBJECTS_A_PAGE) continue
      await this.#checkObjects(page)
      page = []
    }
    await this.#checkObjects(page)
  }

  async #checkObjects(page: readonly StoredObject[]): Promise<void> {
    const last = page.at(-1)
    if (last === undefined) return
    const oldest = Date.now() - this.#options.orphanAgeSeconds * 1000
    const present = <T>(values: (T | undefined)[]) => values.filter((value) => value !== undefined)
    const referenced = await findReferenced(
      this.#db,
      present(page.map(({ key }) => key)),
      present(page.map(({ upload }) => upload)),
    )
    for (const object of page) {
      const isReferenced =
        (object.key !== undefined && referenced.keys.has(object.key)) ||
        (object.upload !== undefined && referenced.uploads.has(object.upload))
      if (!isReferenced && object.modifiedAt.getTime() <= oldest) await this.#addOrphan(object)
    }
    await this.#save('orphans', last.name)
  }

  async #addOrphan(object: StoredObject): Promise<void> {
    const { report } = this.#progress
    const { name, size, modifiedAt } = object
    const deleted = this.#options.deleteOrphans
    if (deleted) {
      await this.#store.removeObject(object)
      report.deletedOrphans += 1
    }
    report.orphans += 1
    report.orphanBytes += size ?? 0
    this.#report({
      kind: 'orphan',
      name,
      size: size ?? null,
      modifiedAt: modifiedAt.toISOString(),
      deleted,
    })
  }

  #report(finding: Finding): void {
    const { findings } = this.#progress.report
    const sameKind = findings.filter(({ kind }) => kind === finding.kind)
    if (sameKind.length < FINDINGS_MAX) findings.push(finding)
  }
}

async function* noBytes(): AsyncGenerator<Uint8Array> {}

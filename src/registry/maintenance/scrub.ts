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
import { algorithmOf, type Digest } from '../../oci/digest.ts'
import { BlobMissingError, type BlobStore, type StoredObject } from '../../storage/blob-store.ts'
import { digestOfStream } from '../uploads/hash-stream.ts'

export type ScrubOptions = {
  readonly bytesPerSecond: number
  /** Bytes without a name are told of only when they are older. */
  readonly orphanAgeSeconds: number
  readonly deleteOrphans: boolean
  /** Begins anew, and forgets what an earlier scrub that was stopped had found. */
  readonly restart: boolean
  readonly signal: AbortSignal
  onProgress(report: ScrubReport): void
}

export type ScrubReport = {
  readonly startedAt: string
  /** Undefined while it is not done. */
  finishedAt?: string
  /** Blobs and bytes that were read. */
  blobs: number
  bytes: number
  missing: number
  corrupt: number
  orphans: number
  orphanBytes: number
  deletedOrphans: number
  /** The first of each kind, up to a limit; the counts above have all. */
  readonly findings: Finding[]
}

export type Finding =
  | { kind: 'missing'; digest: Digest; size: number; key: string }
  | { kind: 'corrupt'; digest: Digest; size: number; key: string; found: string }
  | { kind: 'orphan'; name: string; size: number | null; modifiedAt: string; deleted: boolean }

/** `after` is an id of `blobs`, and then a name of the store's list. */
type Progress = { phase: 'blobs' | 'orphans'; after: string; report: ScrubReport }

const NAME = 'scrub'
const BLOBS_A_PAGE = 100
const BLOBS_AT_ONCE_MAX = 4
const HELD_A_PAGE = 500
const FINDINGS_MAX = 1000

/**
 * Reads every blob for its digest, and looks for bytes that nothing names. It changes nothing but
 * orphans, and those only when it is told to. What it found is kept in Postgres page by page, so that
 * one that was stopped goes on. Throws AlreadyRunningError, and the signal's reason.
 */
export async function scrub(
  db: Database,
  store: BlobStore,
  options: ScrubOptions,
): Promise<ScrubReport> {
  return runExclusively(db, NAME, async (lock) => {
    if (options.restart) await clearProgress(db, NAME)
    const saved = await findProgress(db, NAME)
    const progress = (saved?.progress as Progress | undefined) ?? begin()
    const scrubbing = new Scrubbing(db, store, options, progress, lock)
    await scrubbing.run()
    await clearProgress(db, NAME)
    return progress.report
  })
}

/** True when everything is as it should be. */
export function isClean({ missing, corrupt, orphans, deletedOrphans }: ScrubReport): boolean {
  return missing + corrupt + (orphans - deletedOrphans) === 0
}

function begin(): Progress {
  const counts = { blobs: 0, bytes: 0, missing: 0, corrupt: 0 }
  const orphans = { orphans: 0, orphanBytes: 0, deletedOrphans: 0 }
  const startedAt = new Date().toISOString()
  return {
    phase: 'blobs',
    after: '0',
    report: { startedAt, ...counts, ...orphans, findings: [] },
  }
}

class Scrubbing {
  readonly #db: Database
  readonly #store: BlobStore
  readonly #options: ScrubOptions
  readonly #progress: Progress
  readonly #pace: Throttle
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
    this.#pace = new Throttle(options.bytesPerSecond)
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
      await forEachConcurrent(page, BLOBS_AT_ONCE_MAX, (blob) => this.#readBlob(blob))
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
      return
    }
    // It may have been swept since the page was read.
    if (!(await isStillReferenced(this.#db, blob))) return
    report.blobs += 1
    if (found === undefined) {
      report.missing += 1
      this.#tell({ kind: 'missing', digest, size, key })
    } else {
      report.corrupt += 1
      report.bytes += size
      this.#tell({ kind: 'corrupt', digest, size, key, found })
    }
  }

  /** What the bytes say, or why they cannot be the blob's; undefined when there are none. */
  async #digestOf({ digest, size, storageKey }: InventoryRow): Promise<string | undefined> {
    const has = await this.#store.stat(storageKey)
    if (has === undefined) return undefined
    if (has !== size) return `${has} bytes`
    if (size === 0) return digestOfStream(nothing(), algorithmOf(digest))
    const bytes = this.#store.read(storageKey, { start: 0, end: size - 1 })
    try {
      const { signal } = this.#options
      return await digestOfStream(this.#pace.limit(bytes, signal), algorithmOf(digest))
    } catch (error) {
      if (error instanceof BlobMissingError) return undefined
      throw error
    }
  }

  async #findOrphans(): Promise<void> {
    let page: StoredObject[] = []
    for await (const held of this.#store.list(this.#progress.after)) {
      page.push(held)
      if (page.length < HELD_A_PAGE) continue
      await this.#judge(page)
      page = []
    }
    await this.#judge(page)
  }

  async #judge(page: readonly StoredObject[]): Promise<void> {
    const last = page.at(-1)
    if (last === undefined) return
    const oldest = Date.now() - this.#options.orphanAgeSeconds * 1000
    const present = <T>(values: (T | undefined)[]) => values.filter((value) => value !== undefined)
    const named = await findReferenced(
      this.#db,
      present(page.map(({ key }) => key)),
      present(page.map(({ upload }) => upload)),
    )
    for (const held of page) {
      const isNamed =
        (held.key !== undefined && named.keys.has(held.key)) ||
        (held.upload !== undefined && named.uploads.has(held.upload))
      if (!isNamed && held.modifiedAt.getTime() <= oldest) await this.#orphan(held)
    }
    await this.#save('orphans', last.name)
  }

  async #orphan(held: StoredObject): Promise<void> {
    const { report } = this.#progress
    const { name, size, modifiedAt } = held
    const deleted = this.#options.deleteOrphans
    if (deleted) {
      await this.#store.removeObject(held)
      report.deletedOrphans += 1
    }
    report.orphans += 1
    report.orphanBytes += size ?? 0
    this.#tell({
      kind: 'orphan',
      name,
      size: size ?? null,
      modifiedAt: modifiedAt.toISOString(),
      deleted,
    })
  }

  #tell(finding: Finding): void {
    const { findings } = this.#progress.report
    const like = findings.filter(({ kind }) => kind === finding.kind)
    if (like.length < FINDINGS_MAX) findings.push(finding)
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

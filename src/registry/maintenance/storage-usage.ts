import { setTimeout as delay } from 'node:timers/promises'
import { Loop } from '../../async/loop.ts'
import type { Queryable } from '../../db/database.ts'
import { claimJob, findProgress, saveProgress } from '../../db/maintenance/jobs.ts'
import { listNames, sumBlobs, sumRepositories } from '../../db/maintenance/storage-usage.ts'

/** The content of the store, in bytes according to the database. */
export type StorageUsage = {
  /** Unix time in milliseconds. */
  readonly measuredAt: number
  readonly blobs: number
  readonly bytes: number
  /** Blobs whose bytes the store lost. */
  readonly lost: number
  /** The repositories with the most bytes, the largest first. A blob counts in each repository that has it. */
  readonly repositories: readonly { readonly name: string; readonly bytes: number }[]
  /** The bytes of all other repositories. */
  readonly otherBytes: number
}

/** The name of the job, under which its result is kept. */
export const STORAGE_USAGE_JOB = 'storage-usage'
/** Repositories that are named. */
const REPOSITORIES_NAMED_MAX = 20
/** Time between two measurements of the whole registry, by one of its processes. */
const MEASURE_MILLISECONDS = 3_600_000
/** How often a process looks whether the last measurement is old. */
const LOOK_SECONDS = 60
/** After this time another process measures in place of one that died. */
const CLAIM_SECONDS = 600
/** Between two pages, so that pulls and pushes do not notice the job. */
const PAUSE_MILLISECONDS = 50

/**
 * Measures the store when the last measurement is old and no other process does it. No statement reads more than a page of
 * an index.
 */
async function measureStorage(db: Queryable, signal: AbortSignal): Promise<void> {
  if (!(await isDue(db)) || !(await claimJob(db, STORAGE_USAGE_JOB, CLAIM_SECONDS))) return
  const usage = await sumAll(db, signal)
  await saveProgress(db, STORAGE_USAGE_JOB, usage)
}

/** Measures the store each hour. */
export function startStorageUsage(db: Queryable, onError: (error: unknown) => void): Loop {
  return new Loop({
    everySeconds: LOOK_SECONDS,
    work: (signal) => measureStorage(db, signal),
    onError,
  }).start()
}

async function isDue(db: Queryable): Promise<boolean> {
  const last = (await findProgress(db, STORAGE_USAGE_JOB))?.progress as StorageUsage | null
  const age = Date.now() - (last?.measuredAt ?? 0)
  // Also after a clock that was ahead.
  return Math.abs(age) >= MEASURE_MILLISECONDS
}

async function sumAll(db: Queryable, signal: AbortSignal): Promise<StorageUsage> {
  const pause = () => delay(PAUSE_MILLISECONDS, undefined, { signal })
  const total = { blobs: 0, bytes: 0, lost: 0 }
  for (let after = 0; ; await pause()) {
    const page = await sumBlobs(db, after)
    if (page.last === null) break
    total.blobs += page.blobs
    total.bytes += page.bytes
    total.lost += page.lost
    after = page.last
  }
  const largest = new Largest()
  for (let last = { repositoryId: 0, lastBlob: 0 }; ; await pause()) {
    const rows = await sumRepositories(db, last.repositoryId, last.lastBlob)
    const end = rows.at(-1)
    if (end === undefined) break
    for (const { repositoryId, bytes } of rows) largest.add(repositoryId, bytes)
    last = end
  }
  return { measuredAt: Date.now(), ...total, ...(await nameLargest(db, largest)) }
}

async function nameLargest(
  db: Queryable,
  largest: Largest,
): Promise<Pick<StorageUsage, 'repositories' | 'otherBytes'>> {
  const { found, otherBytes } = largest.result()
  const rows = await listNames(
    db,
    found.map(({ id }) => id),
  )
  const names = new Map(rows.map(({ id, name }) => [id, name]))
  const repositories = found.flatMap(({ id, bytes }) => {
    const name = names.get(id)
    return name === undefined ? [] : [{ name, bytes }]
  })
  return { repositories, otherBytes }
}

/** The repositories with the most bytes among those that are added one after the other, in bounded memory. */
class Largest {
  #found: { readonly id: number; bytes: number }[] = []
  #otherBytes = 0

  /** Adds bytes of a repository. All calls for one repository follow each other. */
  add(id: number, bytes: number): void {
    const last = this.#found.at(-1)
    if (last?.id === id) {
      last.bytes += bytes
      return
    }
    if (this.#found.length > REPOSITORIES_NAMED_MAX) this.#removeSmallest()
    this.#found.push({ id, bytes })
  }

  result(): { found: readonly { id: number; bytes: number }[]; otherBytes: number } {
    if (this.#found.length > REPOSITORIES_NAMED_MAX) this.#removeSmallest()
    const found = [...this.#found].sort((a, b) => b.bytes - a.bytes)
    return { found, otherBytes: this.#otherBytes }
  }

  #removeSmallest(): void {
    const smallest = this.#found.reduce((least, one) => (one.bytes < least.bytes ? one : least))
    this.#found = this.#found.filter((one) => one !== smallest)
    this.#otherBytes += smallest.bytes
  }
}

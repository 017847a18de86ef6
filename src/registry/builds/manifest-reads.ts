import { LRUCache } from 'lru-cache'
import { Batcher } from '../../async/batcher.ts'
import { entriesMax } from '../../async/entries-max.ts'
import { COPY_SECONDS, type ManifestRead, recordManifestReads } from '../../db/builds/builds.ts'
import type { Database } from '../../db/database.ts'
import type { Digest } from '../../oci/digest.ts'

const REMEMBERED_MAX = 50_000
/** A read is recorded again after this time, so that its record covers the time in which a push is a copy. */
const REPEAT_MILLISECONDS = (COPY_SECONDS * 1000) / 4
/** Reads that are being recorded; further ones are not recorded. */
const PENDING_MAX = 4096
/** Reads in one statement. */
const BATCH_MAX = 256
/** A read waits no longer for its record. It takes a round trip, and no write to the disk. */
const WAIT_MILLISECONDS_MAX = 1000

/**
 * Records which authenticated clients have read which manifests, so that a push of the same manifest by the same client
 * is a copy and no build, through any replica.
 */
export class ManifestReads {
  readonly #reads: Batcher<ManifestRead, void>
  /** Reads that are recorded, or are being recorded. */
  readonly #recorded = new LRUCache<string, Promise<void>>({
    ...entriesMax(REMEMBERED_MAX),
    ttl: REPEAT_MILLISECONDS,
  })
  #pending = 0

  constructor(db: Database) {
    this.#reads = new Batcher(async (reads) => {
      await recordManifestReads(db, reads)
      return reads.map(() => undefined)
    }, BATCH_MAX)
  }

  /**
   * Notes a read by a client: its origin, or its name without one. The client must not have the answer before this ends,
   * because it may push the manifest through another replica at once. Never rejects.
   */
  async note(reader: string, digest: Digest): Promise<void> {
    const key = `${digest} ${reader}`
    const recorded = this.#recorded.get(key)
    if (recorded !== undefined) return recorded
    if (this.#pending >= PENDING_MAX) return
    this.#pending += 1
    const recording = this.#record(key, { reader, digest }).finally(() => {
      this.#pending -= 1
    })
    const waited = withinMilliseconds(recording, WAIT_MILLISECONDS_MAX)
    this.#recorded.set(key, waited)
    await waited
  }

  async #record(key: string, read: ManifestRead): Promise<void> {
    try {
      await this.#reads.submit(read)
    } catch {
      // The next read records it. Without a record, a copy counts as a build.
      this.#recorded.delete(key)
    }
  }
}

/** Waits for `work`, and no longer than this. The work goes on. */
async function withinMilliseconds(work: Promise<void>, milliseconds: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const ended = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds)
  })
  await Promise.race([work, ended])
  clearTimeout(timer)
}

import { LRUCache } from 'lru-cache'
import { COPY_SECONDS, recordManifestRead } from '../../db/builds/builds.ts'
import type { Database } from '../../db/database.ts'
import type { Digest } from '../../oci/digest.ts'

const REMEMBERED_MAX = 50_000
/** A read is recorded again after this time, so that its record covers the time in which a push is a copy. */
const REPEAT_MILLISECONDS = (COPY_SECONDS * 1000) / 4
/** Reads that are being recorded; further ones are not recorded. */
const PENDING_MAX = 256

/**
 * Records which authenticated clients have read which manifests, so that a push of the same manifest by the same client
 * is a copy and no build. A read does not wait for it.
 */
export class ManifestReads {
  readonly #db: Database
  readonly #recorded = new LRUCache<string, true>({
    max: REMEMBERED_MAX,
    ttl: REPEAT_MILLISECONDS,
  })
  readonly #pending = new Set<Promise<void>>()

  constructor(db: Database) {
    this.#db = db
  }

  /** Notes a read by a client: its origin, or its name without one. */
  note(reader: string, digest: Digest): void {
    const key = `${digest} ${reader}`
    if (this.#recorded.has(key) || this.#pending.size >= PENDING_MAX) return
    this.#recorded.set(key, true)
    const recording = recordManifestRead(this.#db, reader, digest)
      .catch(() => {
        // The next read records it. Without a record, a copy counts as a build.
        this.#recorded.delete(key)
      })
      .finally(() => this.#pending.delete(recording))
    this.#pending.add(recording)
  }

  /** Waits until the reads so far are recorded. */
  async settle(): Promise<void> {
    if (this.#pending.size > 0) await Promise.all(this.#pending)
  }
}

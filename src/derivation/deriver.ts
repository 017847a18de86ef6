import { LRUCache } from 'lru-cache'
import { QueueFullError, WorkerProcess } from '../async/worker-process.ts'
import type { Digest } from '../oci/digest.ts'
import { unavailable } from '../oci/errors.ts'
import type { WholeRole } from '../unikernel/layer-analysis.ts'
import {
  type AnalysisRecord,
  type AnalysisTask,
  analyze,
  type Derivation,
  derive,
} from './tasks.ts'

export type { AnalysisRecord, Derivation, DocumentFormat, StoredImage } from './tasks.ts'
export { recordOf } from './tasks.ts'

// Smaller inputs are computed at once, because a process takes time to start: 50 ms at most, even for hostile ones.
// The switch of a unikernel has 80 KB, and 25 KB of facts.
const ANALYZED_AT_ONCE_BYTES_MAX = 96 * 1024
const DERIVED_AT_ONCE_BYTES_MAX = 48 * 1024
const CACHE_BYTES_MAX = 32 * 1024 * 1024
const WAITING_MAX = 64
const CLIENT_WAITING_MAX = 16
const RETRY_SECONDS = 2
const ENTRY = new URL(
  import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js',
  import.meta.url,
)
const PROCESS = {
  entry: ENTRY,
  waitingMax: WAITING_MAX,
  clientWaitingMax: CLIENT_WAITING_MAX,
  // The slowest inputs within the bounds take less than a second.
  taskMillisecondsMax: 15_000,
  heapMebibytesMax: 512,
}

/** A derivation, and the account that its time is charged to. */
export type DerivationRequest = {
  /** Names everything that the result depends on. */
  readonly key: string
  /** The size of the input. */
  readonly bytes: number
  /** Loads the input. */
  load(): Promise<Derivation>
  /** Receives the time of the computation, without that in the queue. */
  spend(milliseconds: number): void
}

/**
 * Analyzes blobs and derives JSON from images, large ones in processes, so that no request waits for them.
 * Pushes have a process of their own: readers of documents cannot delay them.
 */
export class Deriver {
  readonly #analyses = new WorkerProcess<AnalysisTask, AnalysisRecord>(PROCESS)
  readonly #derivations = new WorkerProcess<Derivation, Uint8Array>(PROCESS)
  readonly #derived = new LRUCache<string, Uint8Array>({
    maxSize: CACHE_BYTES_MAX,
    sizeCalculation: (json, key) => json.length + key.length,
  })
  readonly #running = new Map<string, Promise<Uint8Array>>()

  /** The tasks that wait for each process. */
  get waiting(): { readonly analyses: number; readonly derivations: number } {
    return { analyses: this.#analyses.waiting, derivations: this.#derivations.waiting }
  }

  /** Analyzes the bytes of a blob for a client, such as a pusher. Throws UNAVAILABLE when the queue is full. */
  async analyze(
    client: string,
    role: WholeRole,
    digest: Digest,
    bytes: Uint8Array,
  ): Promise<AnalysisRecord> {
    const task = { kind: 'analysis', role, digest, bytes } as const
    if (bytes.length <= ANALYZED_AT_ONCE_BYTES_MAX) return analyze(task)
    return inProcess(this.#analyses, client, async () => task)
  }

  /**
   * Derives JSON, or returns the kept result. The caller must have the right to read the images. Throws
   * UNAVAILABLE when the queue is full, and what `load` throws.
   */
  async derive(request: DerivationRequest): Promise<Uint8Array> {
    const { key } = request
    const kept = this.#derived.get(key)
    if (kept !== undefined) return kept
    for (let other = this.#running.get(key); other !== undefined; other = this.#running.get(key)) {
      // The failure of another request, for example because its client left, is not this one's.
      const shared = await other.catch(() => undefined)
      if (shared !== undefined) return shared
    }
    const running = this.#derive(request)
    this.#running.set(key, running)
    try {
      const json = await running
      this.#derived.set(key, json)
      return json
    } finally {
      if (this.#running.get(key) === running) this.#running.delete(key)
    }
  }

  async #derive({ key, bytes, load, spend }: DerivationRequest): Promise<Uint8Array> {
    let started: number | undefined
    const loadAndStart = async () => {
      const input = await load()
      started = performance.now()
      return input
    }
    try {
      if (bytes <= DERIVED_AT_ONCE_BYTES_MAX) return derive(await loadAndStart())
      return await inProcess(this.#derivations, key, loadAndStart)
    } finally {
      if (started !== undefined) spend(performance.now() - started)
    }
  }

  /** Ends the processes. */
  async close(): Promise<void> {
    await Promise.all([this.#analyses.close(), this.#derivations.close()])
  }
}

async function inProcess<Task, Result>(
  process: WorkerProcess<Task, Result>,
  client: string,
  prepare: () => Promise<Task>,
): Promise<Result> {
  try {
    return await process.run(client, prepare)
  } catch (cause) {
    if (!(cause instanceof QueueFullError)) throw cause
    const message = 'too many large files or documents wait to be read, try again'
    throw unavailable(message, { retryAfterSeconds: RETRY_SECONDS, cause })
  }
}

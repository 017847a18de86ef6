import type { Digest } from '../oci/digest.ts'
import { unavailable } from '../oci/errors.ts'

/** Larger manifests are read one by one; nearly all manifests are much smaller. */
export const LARGE_MANIFEST_BYTES = 128 * 1024
const BORROWED_BYTES_MAX = 64 * 1024 * 1024
const WAITING_MAX = 256
const WAIT_MILLISECONDS_MAX = 10_000
const RETRY_SECONDS = 5

/** The bytes of a large manifest, which all of its readers share until the last one releases them. */
export type BorrowedManifest = {
  readonly bytes: Buffer
  /** May be called twice. */
  release(): void
}

type Loaded = { readonly bytes: Promise<Buffer>; readonly size: number; readers: number }

/** Bounds the memory of large manifests whose responses are on their way. */
export class LargeManifests {
  readonly #loaded = new Map<Digest, Loaded>()
  readonly #waiting = new Set<() => void>()
  #bytes = 0

  /** The memory in use. */
  get borrowedBytes(): number {
    return this.#bytes
  }

  /** Loads the bytes, unless another reader has them. Throws UNAVAILABLE when the memory stays in use. */
  async borrow(
    digest: Digest,
    size: number,
    load: () => Promise<Buffer>,
  ): Promise<BorrowedManifest> {
    const until = performance.now() + WAIT_MILLISECONDS_MAX
    while (!this.#loaded.has(digest) && this.#bytes + size > BORROWED_BYTES_MAX) {
      await this.#releaseOfAnother(until)
    }
    const loaded = this.#loaded.get(digest) ?? this.#load(digest, size, load)
    loaded.readers += 1
    let isHeld = true
    const release = () => {
      if (isHeld) this.#release(digest, loaded)
      isHeld = false
    }
    try {
      return { bytes: await loaded.bytes, release }
    } catch (error) {
      release()
      throw error
    }
  }

  #load(digest: Digest, size: number, load: () => Promise<Buffer>): Loaded {
    const loaded = { bytes: load(), size, readers: 0 }
    this.#loaded.set(digest, loaded)
    this.#bytes += size
    return loaded
  }

  #release(digest: Digest, loaded: Loaded): void {
    loaded.readers -= 1
    if (loaded.readers > 0) return
    this.#loaded.delete(digest)
    this.#bytes -= loaded.size
    for (const wake of [...this.#waiting]) wake()
  }

  async #releaseOfAnother(until: number): Promise<void> {
    const left = until - performance.now()
    if (left <= 0 || this.#waiting.size >= WAITING_MAX) {
      throw unavailable('too many large manifests are being downloaded, try again', {
        retryAfterSeconds: RETRY_SECONDS,
      })
    }
    await new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer)
        this.#waiting.delete(wake)
        resolve()
      }
      const timer = setTimeout(wake, left)
      this.#waiting.add(wake)
    })
  }
}

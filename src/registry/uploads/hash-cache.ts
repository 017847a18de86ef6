import { createHash, type Hash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Algorithm } from '../../oci/digest.ts'

type Running = {
  readonly algorithm: Algorithm
  /** Bytes that went into the hash. */
  readonly size: number
  readonly hash: Hash
}

// A running hash is below 1 KiB; one that was dropped costs a re-read of the upload, no more.
const RUNNING_HASHES_MAX = 4096

/**
 * The hashes of uploads that this process serves, so that a blob which arrives in several requests
 * is read from disk only when they came by different replicas.
 */
export class HashCache {
  readonly #hashes = new LRUCache<string, Running>({ max: RUNNING_HASHES_MAX })

  /** A hash to go on with, or undefined when the stored bytes must be read to know it. */
  resume(id: string, algorithm: Algorithm, size: number): Hash | undefined {
    if (size === 0) return createHash(algorithm)
    const running = this.#hashes.get(id)
    if (running?.algorithm !== algorithm || running.size !== size) return undefined
    // A copy: if the request fails, the next one goes on from here again.
    return running.hash.copy()
  }

  keep(id: string, algorithm: Algorithm, size: number, hash: Hash): void {
    this.#hashes.set(id, { algorithm, size, hash })
  }

  drop(id: string): void {
    this.#hashes.delete(id)
  }
}

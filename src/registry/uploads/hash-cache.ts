import { createHash, type Hash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Algorithm } from '../../oci/digest.ts'

type CachedHash = {
  readonly algorithm: Algorithm
  /** Bytes that the hash covers. */
  readonly size: number
  readonly hash: Hash
}

// An incremental hash takes less than 1 KiB. A dropped one only costs a read of the upload's bytes.
const HASHES_MAX = 4096

/**
 * The incremental hashes of uploads that this process serves. A blob that arrives in several requests
 * is read back from the store only when different replicas received them.
 */
export class HashCache {
  readonly #hashes = new LRUCache<string, CachedHash>({ max: HASHES_MAX })

  /** Returns a hash of the first `size` bytes, or undefined when they must be read from the store. */
  resume(id: string, algorithm: Algorithm, size: number): Hash | undefined {
    if (size === 0) return createHash(algorithm)
    const cached = this.#hashes.get(id)
    if (cached?.algorithm !== algorithm || cached.size !== size) return undefined
    // A copy: when the request fails, the next one resumes from the same bytes.
    return cached.hash.copy()
  }

  keep(id: string, algorithm: Algorithm, size: number, hash: Hash): void {
    this.#hashes.set(id, { algorithm, size, hash })
  }

  forget(id: string): void {
    this.#hashes.delete(id)
  }
}

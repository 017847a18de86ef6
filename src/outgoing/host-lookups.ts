import { lookup } from 'node:dns/promises'
import { LRUCache } from 'lru-cache'

/** Resolves a host name to all its addresses. */
export type Resolve = (name: string) => Promise<readonly string[]>

const CACHED_MAX = 10_000
/** A result is kept for so many times the time that it took. */
const KEPT_FACTOR = 10
const KEPT_MILLISECONDS_MAX = 60_000

/**
 * Looks up names with the system's resolver, one at a time. A look-up blocks one of the two threads that Node has for
 * them, also for the store and the database, for as long as the name server of the host wants, and it cannot be
 * aborted. Slow results are kept for a while, so that one name takes a tenth of the time.
 */
export class HostLookups {
  readonly #resolve: Resolve
  readonly #results = new LRUCache<string, Promise<readonly string[]>>({ max: CACHED_MAX })
  #last: Promise<unknown> = Promise.resolve()

  constructor(resolve: Resolve = systemResolve) {
    this.#resolve = resolve
  }

  /** Returns the addresses of a host. Throws the error of the resolver. */
  resolve(name: string): Promise<readonly string[]> {
    const cached = this.#results.get(name)
    if (cached !== undefined) return cached
    const result = this.#last.then(async () => {
      const startedAt = performance.now()
      try {
        return await this.#resolve(name)
      } finally {
        const ttl = Math.min(KEPT_MILLISECONDS_MAX, KEPT_FACTOR * (performance.now() - startedAt))
        this.#results.set(name, result, { ttl: Math.max(1, Math.ceil(ttl)) })
      }
    })
    this.#results.set(name, result)
    this.#last = result.catch(() => {})
    return result
  }
}

async function systemResolve(name: string): Promise<string[]> {
  const found = await lookup(name, { all: true })
  return found.map(({ address }) => address)
}

import { LRUCache } from 'lru-cache'
import { type buildConnector, Pool } from 'undici'
import { errnoOf } from '../async/errno.ts'

export type ConnectionPoolsOptions = {
  /** How long a connection that nobody uses stays open. */
  readonly keepAliveMilliseconds: number
  /** Makes connections to an origin, each checked. */
  connectorFor(url: URL): buildConnector.connector
  readonly headerBytesMax: number
}

// More requests wait for one of these.
const POOL_CONNECTIONS_MAX = 8
// A name that moved is looked up again, and checked, after so long.
const CONNECTION_MILLISECONDS_MAX = 60_000
// The ones that were used last stay.
const POOLS_MAX = 1_000

/** Connections that are used again, by pool: what one pool's server does touches no other pool. */
export class ConnectionPools {
  readonly #options: ConnectionPoolsOptions
  readonly #pools = new LRUCache<string, Pool>({
    max: POOLS_MAX,
    // Requests that run in it come to their end.
    dispose: (pool) => void pool.close().catch(() => {}),
  })

  constructor(options: ConnectionPoolsOptions) {
    this.#options = options
  }

  /** The pool of that name for the URL's origin. */
  find(name: string, url: URL): Pool {
    const key = `${name} ${url.origin}`
    const known = this.#pools.get(key)
    if (known !== undefined) return known
    const { keepAliveMilliseconds, headerBytesMax } = this.#options
    const pool = new Pool(url.origin, {
      connect: this.#options.connectorFor(url),
      connections: POOL_CONNECTIONS_MAX,
      clientTtl: CONNECTION_MILLISECONDS_MAX,
      keepAliveTimeout: keepAliveMilliseconds,
      // A server may ask for less, and not for more.
      keepAliveMaxTimeout: keepAliveMilliseconds,
      maxHeaderSize: headerBytesMax,
      pipelining: 1,
      // The time for the whole request bounds these, too.
      headersTimeout: 0,
      bodyTimeout: 0,
    })
    this.#pools.set(key, pool)
    return pool
  }

  /** Ends all connections. */
  close(): void {
    for (const pool of this.#pools.values()) void pool.destroy().catch(() => {})
    this.#pools.clear()
  }
}

const CLOSED_CODES: ReadonlySet<unknown> = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'])

/** True when the other side closed the connection instead of answering. */
export function isConnectionClosed(error: unknown): boolean {
  return CLOSED_CODES.has(errnoOf(error))
}

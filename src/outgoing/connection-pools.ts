import { LRUCache } from 'lru-cache'
import { type buildConnector, Pool } from 'undici'
import { errnoOf } from '../async/errno.ts'

export type ConnectionPoolsOptions = {
  /** How long an idle connection stays open. */
  readonly keepAliveMilliseconds: number
  /** Returns a connector to an origin that checks each connection. */
  connectorFor(url: URL, destination: Destination): buildConnector.connector
  readonly headerBytesMax: number
}

/** Where the connections of a request or of a pool lead. */
export type Destination = {
  /** True once one of them could lead to an internal address. */
  isInternal: boolean
}

/** Connections to one origin. */
export type ConnectionPool = { readonly pool: Pool; readonly destination: Destination }

// Further requests wait for a connection.
const POOL_CONNECTIONS_MAX = 8
// A host name is resolved and checked again after so long.
const CONNECTION_MILLISECONDS_MAX = 60_000
// Beyond this number, the least recently used pool is closed.
const POOLS_MAX = 1_000

/** Pools of connections that are reused. A server can slow down its own pool only. */
export class ConnectionPools {
  readonly #options: ConnectionPoolsOptions
  readonly #pools = new LRUCache<string, ConnectionPool>({
    max: POOLS_MAX,
    // Requests in flight finish first.
    dispose: ({ pool }) => void pool.close().catch(() => {}),
  })

  constructor(options: ConnectionPoolsOptions) {
    this.#options = options
  }

  /** Returns the pool of that name for the URL's origin, and creates it if necessary. */
  find(name: string, url: URL): ConnectionPool {
    const key = `${name} ${url.origin}`
    const cached = this.#pools.get(key)
    if (cached !== undefined) return cached
    const { keepAliveMilliseconds, headerBytesMax } = this.#options
    const destination: Destination = { isInternal: false }
    const pool = new Pool(url.origin, {
      connect: this.#options.connectorFor(url, destination),
      connections: POOL_CONNECTIONS_MAX,
      clientTtl: CONNECTION_MILLISECONDS_MAX,
      keepAliveTimeout: keepAliveMilliseconds,
      // A server may request a shorter time, but not a longer one.
      keepAliveMaxTimeout: keepAliveMilliseconds,
      maxHeaderSize: headerBytesMax,
      pipelining: 1,
      // The limit of the whole request covers these.
      headersTimeout: 0,
      bodyTimeout: 0,
    })
    const created = { pool, destination }
    this.#pools.set(key, created)
    return created
  }

  /** Closes all connections. */
  close(): void {
    for (const { pool } of this.#pools.values()) void pool.destroy().catch(() => {})
    this.#pools.clear()
  }
}

const CLOSED_CODES: ReadonlySet<unknown> = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'])

/** True when the other side closed the connection instead of answering. */
export function isConnectionClosed(error: unknown): boolean {
  return CLOSED_CODES.has(errnoOf(error))
}

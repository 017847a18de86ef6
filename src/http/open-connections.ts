import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { Server as NetServer, type Socket } from 'node:net'
import { type Counted, type Elsewhere, NOWHERE_ELSE } from '../async/elsewhere.ts'
import { RegistryError } from '../oci/errors.ts'
import { refuseConnection } from './http-server.ts'
import { failReading, readingUntil } from './request-body.ts'

export type ConnectionLimits = {
  /** Open connections of this server, in all its processes. */
  readonly total: number
  /** Open connections of one client: an IPv4 address or an IPv6 /64. */
  readonly perClient: number
  /** Time for which a client may send or read less than the minimum rate. */
  readonly slowMilliseconds: number
}

/** Why a connection was refused or closed, for the metrics. */
export const CUT_REASONS = [
  'client-limit',
  'total-limit',
  'replaced',
  'slow-body',
  'slow-reader',
] as const
export type CutReason = (typeof CUT_REASONS)[number]

export type OpenConnectionsOptions = {
  readonly limits: ConnectionLimits
  /** Returns the client of a connection; undefined for a trusted proxy, which has many clients. */
  clientOf(socket: Socket): string | undefined
  onCut(reason: CutReason, client: string | undefined): void
  /** Counts of the other processes; undefined: there are none. */
  readonly elsewhere?: Elsewhere
}

const SWEEP_MILLISECONDS = 1_000
/** A modem manages seven times as much. */
const RATE_BYTES_A_SECOND_MIN = 1024
/** A client that was fast may pause for so many times the limit of a slow one. */
const PATIENCE_FACTOR_MAX = 4
/** Only connections that did nothing for so long are closed for a new one. */
const REPLACEABLE_MILLISECONDS = 1_000

const NONE: ReadonlySet<Connection> = new Set()

/** An open connection. Its patience falls while the server waits for the client, and rises with bytes. */
type Connection = {
  readonly socket: Socket
  readonly client: string | undefined
  unanswered: number
  request: IncomingMessage | undefined
  /** Milliseconds for which the server still waits. */
  patience: number
  /** Since when the connection is idle, or its client slow; undefined while the server works for it. */
  waitingSince: number | undefined
  received: number
  accepted: number
}

/**
 * The open connections: limits their number and closes those of slow clients. One timer serves all
 * of them, so that a request costs no timer. Also drains them for a graceful shutdown.
 */
export class OpenConnections {
  readonly #server: Server
  readonly #options: OpenConnectionsOptions
  readonly #open = new Map<Socket, Connection>()
  readonly #byClient = new Map<string, Set<Connection>>()
  readonly #timer: NodeJS.Timeout
  /** Bytes of the connections that were closed. */
  readonly #transferred = { received: 0, sent: 0 }
  #sweptAt = performance.now()
  #draining = false
  #closesIdle = false

  /** Must be created before the server listens. */
  constructor(server: Server, options: OpenConnectionsOptions) {
    this.#server = server
    this.#options = options
    // Appended: a refused connection is taken from Node's HTTP parser, which has it by then.
    server.on('connection', (socket: Socket) => this.#admit(socket))
    for (const event of ['request', 'checkContinue']) {
      server.prependListener(event, (req: IncomingMessage, res: ServerResponse) =>
        this.#begin(req, res),
      )
    }
    this.#timer = setInterval(() => this.#sweep(), SWEEP_MILLISECONDS).unref()
  }

  /** The number of open connections. */
  get count(): number {
    return this.#open.size
  }

  /** The connections of this process, by their client. */
  counted(): Counted {
    const byClient = [...this.#byClient].map(([client, { size }]) => [client, size] as const)
    return { total: this.count, byClient }
  }

  /**
   * Stops counting a connection for its client until the function that it returns is called: its request waits, and something
   * else limits such requests.
   */
  exempt(socket: Socket): () => void {
    const connection = this.#open.get(socket)
    if (connection === undefined) return () => {}
    this.#leave(connection)
    return () => {
      if (this.#open.has(socket)) this.#join(connection)
    }
  }

  /** Bytes that clients sent and were sent so far, with headers, in all connections that were accepted. */
  get transferred(): { readonly received: number; readonly sent: number } {
    let { received, sent } = this.#transferred
    for (const { socket } of this.#open.values()) {
      received += socket.bytesRead
      sent += socket.bytesWritten
    }
    return { received, sent }
  }

  /** Closes each connection after its next answer, which says so: the client opens another one, perhaps elsewhere. */
  retire(): void {
    this.#draining = true
  }

  /**
   * Accepts no new connections, waits for requests up to the limit, and closes the remaining connections. A connection
   * without a request may have its next one on the way: it is closed after `idleMilliseconds`.
   */
  async drain(milliseconds: number, idleMilliseconds = 0): Promise<void> {
    this.retire()
    // `close` of the HTTP server would close connections whose response is on its way, as idle ones.
    const closed = new Promise<void>((resolve) => {
      NetServer.prototype.close.call(this.#server, () => resolve())
    })
    // Node would wait for connections without a complete request.
    const idle = setTimeout(() => this.#closeIdle(), idleMilliseconds)
    if (idleMilliseconds === 0) this.#closeIdle()
    const timer = setTimeout(() => this.#server.closeAllConnections(), milliseconds)
    await closed
    clearTimeout(timer)
    clearTimeout(idle)
    clearInterval(this.#timer)
  }

  #closeIdle(): void {
    this.#closesIdle = true
    for (const { socket, unanswered } of this.#open.values()) {
      if (unanswered === 0) socket.destroySoon()
    }
  }

  #admit(socket: Socket): void {
    const { limits, clientOf, onCut, elsewhere = NOWHERE_ELSE } = this.#options
    const client = clientOf(socket)
    const siblings = (client === undefined ? undefined : this.#byClient.get(client)) ?? NONE
    const ofClient = client === undefined ? 0 : siblings.size + elsewhere.of(client)
    if (ofClient >= limits.perClient && !this.#replace(siblings)) {
      onCut('client-limit', client)
      refuseConnection(socket, 'client')
      return
    }
    const all = this.#open.size + elsewhere.total
    if (all >= limits.total && !this.#replace(this.#open.values())) {
      onCut('total-limit', client)
      refuseConnection(socket, 'total')
      return
    }
    const connection: Connection = {
      socket,
      client,
      unanswered: 0,
      request: undefined,
      patience: limits.slowMilliseconds,
      waitingSince: performance.now(),
      received: 0,
      accepted: 0,
    }
    this.#open.set(socket, connection)
    this.#join(connection)
    socket.once('close', () => this.#remove(connection))
  }

  #remove(connection: Connection): void {
    const { socket } = connection
    if (!this.#open.delete(socket)) return
    this.#transferred.received += socket.bytesRead
    this.#transferred.sent += socket.bytesWritten
    this.#leave(connection)
  }

  #join(connection: Connection): void {
    const { client } = connection
    if (client === undefined) return
    const siblings = this.#byClient.get(client) ?? new Set()
    this.#byClient.set(client, siblings.add(connection))
  }

  #leave(connection: Connection): void {
    const { client } = connection
    if (client === undefined) return
    const siblings = this.#byClient.get(client)
    siblings?.delete(connection)
    if (siblings?.size === 0) this.#byClient.delete(client)
  }

  #begin(req: IncomingMessage, res: ServerResponse): void {
    // Announces the shutdown to a client that keeps the connection alive.
    const isLast = this.#draining
    if (isLast) res.setHeader('Connection', 'close')
    const connection = this.#open.get(req.socket)
    if (connection === undefined) return
    connection.unanswered += 1
    connection.request = req
    connection.waitingSince = undefined
    res.once('close', () => {
      connection.unanswered -= 1
      if (connection.unanswered > 0) return
      connection.waitingSince = performance.now()
      connection.patience = this.#options.limits.slowMilliseconds
      // After an answer that did not announce it, the next request may be on its way.
      if (isLast || this.#closesIdle) req.socket.destroySoon()
    })
  }

  /**
   * Closes one connection in favor of a new one: an idle one, or else the one whose client has been slow
   * for longest. Returns false when the server works for all of them.
   */
  #replace(connections: Iterable<Connection>): boolean {
    const since = performance.now() - REPLACEABLE_MILLISECONDS
    let slowest: Connection | undefined
    for (const connection of connections) {
      if (connection.waitingSince === undefined || connection.waitingSince > since) continue
      if (connection.unanswered === 0) {
        slowest = connection
        break
      }
      if (slowest === undefined || connection.patience < slowest.patience) slowest = connection
    }
    if (slowest === undefined) return false
    this.#options.onCut('replaced', slowest.client)
    this.#remove(slowest)
    slowest.socket.destroy()
    return true
  }

  #sweep(): void {
    const now = performance.now()
    const elapsed = now - this.#sweptAt
    this.#sweptAt = now
    for (const connection of this.#open.values()) {
      if (connection.unanswered > 0) this.#checkRate(connection, now, elapsed)
    }
  }

  #checkRate(connection: Connection, now: number, elapsed: number): void {
    const { socket, request } = connection
    const received = socket.bytesRead
    const accepted = acceptedBytes(socket)
    const moved = received - connection.received + accepted - connection.accepted
    connection.received = received
    connection.accepted = accepted
    const until = request === undefined ? undefined : readingUntil(request)
    const isReading = until !== undefined && request?.complete === false
    // Bytes that wait here are the server's delay.
    const waitsForBody = isReading && request.readableLength === 0
    const waitsForReader = !waitsForBody && unacceptedBytes(socket) > 0
    if (!waitsForBody && !waitsForReader) {
      connection.waitingSince = undefined
      return
    }
    const { slowMilliseconds } = this.#options.limits
    const earned = (moved / RATE_BYTES_A_SECOND_MIN) * 1000
    if (earned < elapsed) connection.waitingSince ??= now - elapsed
    else connection.waitingSince = undefined
    const patienceMax = slowMilliseconds * PATIENCE_FACTOR_MAX
    connection.patience = Math.min(patienceMax, connection.patience - elapsed + earned)
    const isLate = isReading && now > until
    if (isLate) this.#cut(connection, bodyTooLate())
    else if (connection.patience < 0)
      this.#cut(connection, waitsForBody ? bodyTooSlow() : undefined)
  }

  /** Answers a body with an error, and resets the connection of a reader. */
  #cut({ socket, request, client }: Connection, error: RegistryError | undefined): void {
    this.#options.onCut(error === undefined ? 'slow-reader' : 'slow-body', client)
    if (error !== undefined && request !== undefined && failReading(request, error)) return
    // A close would keep the unsent bytes in the system for minutes.
    socket.resetAndDestroy()
  }
}

type Handle = { readonly bytesWritten?: number; readonly writeQueueSize?: number }

// Node has no public counter of the bytes that the system has not accepted, which its own idle time-out
// of sockets uses, too. A write of 1 MiB can take a slow reader minutes.
function handleOf(socket: Socket): Handle | undefined {
  return (socket as Socket & { readonly _handle?: Handle | null })._handle ?? undefined
}

function unacceptedBytes(socket: Socket): number {
  return handleOf(socket)?.writeQueueSize ?? 0
}

function acceptedBytes(socket: Socket): number {
  return (handleOf(socket)?.bytesWritten ?? 0) - unacceptedBytes(socket)
}

function bodyTooLate(): RegistryError {
  return new RegistryError('REQUEST_TIMEOUT', undefined, {
    message: 'the body took too long to arrive; send it in less time, or in several requests',
  })
}

function bodyTooSlow(): RegistryError {
  return new RegistryError('REQUEST_TIMEOUT', undefined, {
    message: `the body arrived too slowly; send at least ${RATE_BYTES_A_SECOND_MIN} bytes a second`,
  })
}

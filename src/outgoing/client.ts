import { isIP, type LookupFunction } from 'node:net'
import { buildConnector, Client, type Dispatcher } from 'undici'
import {
  type ConnectionPool,
  ConnectionPools,
  type Destination,
  isConnectionClosed,
} from './connection-pools.ts'
import { Guard, type GuardOptions, literalOf, OutgoingRefusedError } from './guard.ts'
import { HostLookups, type Resolve } from './host-lookups.ts'

/** A request without a response. The message is one line, without path and query. */
export class OutgoingFailedError extends Error {
  override readonly name = 'OutgoingFailedError'
  /** True unless only public addresses were contacted: the message says something about an internal server. */
  readonly isInternal: boolean

  constructor(message: string, { isInternal }: Destination, options?: ErrorOptions) {
    super(message, options)
    this.isInternal = isInternal
  }
}

const NOTHING_CONTACTED: Destination = { isInternal: true }

export type GuardedClientOptions = GuardOptions & {
  /** Limit for establishing the connection. */
  readonly connectMilliseconds?: number
  /** Limit for the whole request, from the DNS look-up to the last byte. */
  readonly requestMilliseconds?: number
  /** How long an idle connection of a pool stays open; without it, there are no pools. */
  readonly keepAliveMilliseconds?: number
  /** Replaces the system's resolver. */
  readonly resolve?: Resolve
}

export type OutgoingRequest = {
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer
  /** The most bytes of the response's body that are read. */
  readonly bytesMax?: number
  /** How to treat a longer body: as a failure, or truncated to `bytesMax`. */
  readonly oversize?: 'refuse' | 'truncate'
  /** Requests with the same pool name and origin share connections. */
  readonly pool?: string | undefined
  /** Aborts the request. */
  readonly signal?: AbortSignal | undefined
}

export type OutgoingResponse = {
  /** May be 3xx: redirects are not followed. */
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: Buffer
  /** True when the body was longer. */
  readonly truncated: boolean
  /** True when the response may be from an internal server. */
  readonly isInternal: boolean
}

const CONNECT_MILLISECONDS_MAX = 5_000
const REQUEST_MILLISECONDS_MAX = 10_000
const HEADER_BYTES_MAX = 16 * 1024
const BODY_BYTES_MAX = 64 * 1024
/** After so long, the next address of the host is tried. */
const ADDRESS_MILLISECONDS_MAX = 1_000

/**
 * The only client for requests to other servers. It checks every address before it connects. Each request
 * has its own connection, or shares those of its pool, so that one server cannot slow down the requests
 * to another.
 */
export class GuardedClient {
  readonly #guard: Guard
  readonly #resolve: Resolve
  readonly #connectMilliseconds: number
  readonly #requestMilliseconds: number
  readonly #inFlight = new Set<AbortController>()
  readonly #pools: ConnectionPools | undefined
  #closed = false

  constructor(options: GuardedClientOptions) {
    this.#guard = new Guard(options)
    const lookups = new HostLookups()
    this.#resolve = options.resolve ?? ((name) => lookups.resolve(name))
    this.#connectMilliseconds = options.connectMilliseconds ?? CONNECT_MILLISECONDS_MAX
    this.#requestMilliseconds = options.requestMilliseconds ?? REQUEST_MILLISECONDS_MAX
    const { keepAliveMilliseconds } = options
    if (keepAliveMilliseconds !== undefined) {
      this.#pools = new ConnectionPools({
        keepAliveMilliseconds,
        headerBytesMax: HEADER_BYTES_MAX,
        connectorFor: (url, destination) => this.#connectorFor(url, destination),
      })
    }
  }

  /** Throws OutgoingRefusedError for a URL that the guard refuses without a DNS look-up. */
  assertUrlAllowed(url: string): void {
    this.#guard.parse(url)
  }

  /**
   * Throws OutgoingRefusedError for a URL that the guard refuses, also when its host has only refused
   * addresses, and OutgoingFailedError when the DNS look-up fails.
   */
  async assertHostAllowed(text: string): Promise<void> {
    const url = this.#guard.parse(text)
    if (literalOf(url) === undefined) {
      await this.#find(url, url.hostname, { isInternal: false })
    }
  }

  /** Sends a request. Throws OutgoingRefusedError when the guard refuses it, and otherwise OutgoingFailedError. */
  async request(text: string, request: OutgoingRequest = {}): Promise<OutgoingResponse> {
    const url = this.#guard.parse(text)
    if (this.#closed) {
      throw new OutgoingFailedError(
        `no request to ${url.origin}: the server is shutting down`,
        NOTHING_CONTACTED,
      )
    }
    const pooled = request.pool === undefined ? undefined : this.#pools?.find(request.pool, url)
    const destination = pooled?.destination ?? { isInternal: false }
    const literal = literalOf(url)
    if (literal !== undefined) destination.isInternal = this.#guard.isInternal(literal)
    const controller = new AbortController()
    this.#inFlight.add(controller)
    const seconds = this.#requestMilliseconds / 1000
    const timer = setTimeout(() => {
      const message = `${url.origin} took longer than ${seconds} s`
      controller.abort(new OutgoingFailedError(message, destination))
    }, this.#requestMilliseconds)
    const abort = () => {
      const message = `the request to ${url.origin} was aborted`
      controller.abort(new OutgoingFailedError(message, destination))
    }
    request.signal?.addEventListener('abort', abort, { once: true })
    if (request.signal?.aborted) abort()
    const { signal } = controller
    try {
      return pooled === undefined
        ? await this.#requestAlone(url, request, destination, signal)
        : await this.#requestFromPool(pooled, url, request, signal)
    } catch (error) {
      throw failure(url, signal.aborted ? signal.reason : error, destination)
    } finally {
      clearTimeout(timer)
      request.signal?.removeEventListener('abort', abort)
      this.#inFlight.delete(controller)
    }
  }

  /** Aborts all requests. */
  close(): void {
    this.#closed = true
    for (const controller of this.#inFlight) {
      controller.abort(
        new OutgoingFailedError(
          'the request was aborted: the server is shutting down',
          NOTHING_CONTACTED,
        ),
      )
    }
    this.#pools?.close()
  }

  #connectorFor(
    url: URL,
    destination: Destination,
    signal?: AbortSignal,
  ): buildConnector.connector {
    return buildConnector({
      // Explicit, so that no environment variable turns it off.
      rejectUnauthorized: true,
      timeout: this.#connectMilliseconds,
      maxCachedSessions: 0,
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: ADDRESS_MILLISECONDS_MAX,
      lookup: this.#lookupFor(url, destination),
      // Also aborts a look-up or a handshake; the client alone would wait for it.
      ...(signal === undefined ? {} : { signal }),
    })
  }

  async #requestAlone(
    url: URL,
    request: OutgoingRequest,
    destination: Destination,
    signal: AbortSignal,
  ): Promise<OutgoingResponse> {
    const client = this.#connectTo(url, destination, signal)
    try {
      const answer = await send(client, url, request, signal)
      return await readResponse(url, request, answer, destination)
    } finally {
      await client.destroy()
    }
  }

  /**
   * Repeats a request on a new connection when a reused one turns out to be closed. The server may have
   * read the first request, so it can get a request twice.
   */
  async #requestFromPool(
    { pool, destination }: ConnectionPool,
    url: URL,
    request: OutgoingRequest,
    signal: AbortSignal,
  ): Promise<OutgoingResponse> {
    const mayReuse = pool.stats.connected > 0
    let answer: Dispatcher.ResponseData
    try {
      answer = await send(pool, url, request, signal)
    } catch (error) {
      if (!mayReuse || signal.aborted || !isConnectionClosed(error)) throw error
      return this.#requestAlone(url, request, destination, signal)
    }
    return readResponse(url, request, answer, destination)
  }

  #connectTo(url: URL, destination: Destination, signal: AbortSignal): Client {
    return new Client(url.origin, {
      connect: this.#connectorFor(url, destination, signal),
      maxHeaderSize: HEADER_BYTES_MAX,
      pipelining: 0,
      // The limit of the whole request covers these.
      headersTimeout: 0,
      bodyTimeout: 0,
    })
  }

  /** Resolves a name to the permitted addresses, and notes in `destination` whether one is internal. */
  async #find(url: URL, name: string, destination: Destination) {
    let addresses: readonly string[]
    try {
      addresses = await this.#resolve(name)
    } catch (error) {
      throw failure(url, error, NOTHING_CONTACTED)
    }
    if (addresses.length === 0) {
      throw new OutgoingFailedError(`${url.origin} has no address`, NOTHING_CONTACTED)
    }
    const permitted = this.#guard.permitted(url, addresses)
    if (permitted.some((address) => this.#guard.isInternal(address))) destination.isInternal = true
    return permitted.map((address) => ({ address, family: isIP(address) }))
  }

  /** Resolves and checks a host once per connection, so the checked address is the connected one. Not called for an address. */
  #lookupFor(url: URL, destination: Destination): LookupFunction {
    return (name, options, callback) => {
      this.#find(url, name, destination).then(
        (found) => {
          const [first] = found
          if (options.all || first === undefined) callback(null, found)
          else callback(null, first.address, first.family)
        },
        (error: Error) => callback(error, []),
      )
    }
  }
}

/** Sends the request. Resolves when the headers of the response arrive. */
async function send(
  dispatcher: Dispatcher,
  url: URL,
  { method = 'GET', headers = {}, body }: OutgoingRequest,
  signal: AbortSignal,
): Promise<Dispatcher.ResponseData> {
  const path = `${url.pathname}${url.search}`
  return dispatcher.request({ path, method, headers: { ...headers }, body: body ?? null, signal })
}

async function readResponse(
  url: URL,
  { bytesMax = BODY_BYTES_MAX, oversize }: OutgoingRequest,
  { statusCode: status, headers, body }: Dispatcher.ResponseData,
  destination: Destination,
): Promise<OutgoingResponse> {
  // A stream that is left early emits an error, which is not a failure here.
  body.on('error', () => {})
  const chunks: Buffer[] = []
  const responseOf = (truncated: boolean): OutgoingResponse => {
    const { isInternal } = destination
    return { status, headers, body: Buffer.concat(chunks), truncated, isInternal }
  }
  let left = bytesMax
  try {
    for await (const chunk of body) {
      const bytes = Buffer.from(chunk)
      if (bytes.length > left) {
        if (oversize !== 'truncate') {
          const message = `${url.origin} answered with more than ${bytesMax} bytes`
          throw new OutgoingFailedError(message, destination)
        }
        chunks.push(bytes.subarray(0, left))
        return responseOf(true)
      }
      left -= bytes.length
      chunks.push(bytes)
    }
  } catch (error) {
    // A caller that accepts a truncated body has its response with the status.
    if (oversize !== 'truncate') throw error
    return responseOf(true)
  }
  return responseOf(false)
}

function failure(url: URL, error: unknown, destination: Destination): Error {
  if (error instanceof OutgoingRefusedError || error instanceof OutgoingFailedError) return error
  const message = `${url.origin} did not answer: ${reasonOf(error)}`
  return new OutgoingFailedError(message, destination, { cause: error })
}

/** The error of several failed addresses has no message, only the errors of each. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return [...new Set(error.errors.map(reasonOf))].join(', ')
  if (!(error instanceof Error)) return String(error)
  return error.message.replaceAll('\n', ' ') || error.name
}

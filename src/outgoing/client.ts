import { lookup } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'
import { buildConnector, Client, type Dispatcher, type Pool } from 'undici'
import { ConnectionPools, isConnectionClosed } from './connection-pools.ts'
import { Guard, type GuardOptions, OutgoingRefusedError } from './guard.ts'

/** The request went out, or tried to, and brought no answer. In one line, without path and query. */
export class OutgoingFailedError extends Error {
  override readonly name = 'OutgoingFailedError'
}

/** All addresses of a name. */
export type Resolve = (name: string) => Promise<readonly string[]>

export type GuardedClientOptions = GuardOptions & {
  /** Until the connection stands. */
  readonly connectMilliseconds?: number
  /** For everything together, from the look-up of the name to the last byte. */
  readonly requestMilliseconds?: number
  /** How long a connection of a pool stays open for the next request; without it, there are no pools. */
  readonly keepAliveMilliseconds?: number
  /** Instead of the system's. */
  readonly resolve?: Resolve
}

export type OutgoingRequest = {
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer
  /** As much of the answer's body is read. */
  readonly bytesMax?: number
  /** What a longer body is: a failure, or cut off there. */
  readonly oversize?: 'refuse' | 'truncate'
  /** Requests of one name and origin share connections. */
  readonly pool?: string | undefined
  /** Ends it early. */
  readonly signal?: AbortSignal | undefined
}

export type OutgoingResponse = {
  /** Also a 3xx: redirects are not followed. */
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: Buffer
  /** True when there was more. */
  readonly truncated: boolean
}

const CONNECT_MILLISECONDS_MAX = 5_000
const REQUEST_MILLISECONDS_MAX = 10_000
const HEADER_BYTES_MAX = 16 * 1024
const BODY_BYTES_MAX = 64 * 1024
/** Of several addresses, the next is tried after so long. */
const ADDRESS_MILLISECONDS_MAX = 1_000

/**
 * The one client for requests to others. It checks every address before it connects. Each request has a
 * connection of its own, or shares those of its pool: what one server does touches nobody else.
 */
export class GuardedClient {
  readonly #guard: Guard
  readonly #resolve: Resolve
  readonly #connectMilliseconds: number
  readonly #requestMilliseconds: number
  readonly #running = new Set<AbortController>()
  readonly #pools: ConnectionPools | undefined
  #closed = false

  constructor(options: GuardedClientOptions) {
    this.#guard = new Guard(options)
    this.#resolve = options.resolve ?? systemResolve
    this.#connectMilliseconds = options.connectMilliseconds ?? CONNECT_MILLISECONDS_MAX
    this.#requestMilliseconds = options.requestMilliseconds ?? REQUEST_MILLISECONDS_MAX
    const { keepAliveMilliseconds } = options
    if (keepAliveMilliseconds !== undefined) {
      this.#pools = new ConnectionPools({
        keepAliveMilliseconds,
        headerBytesMax: HEADER_BYTES_MAX,
        connectorFor: (url) => this.#connectorFor(url),
      })
    }
  }

  /** Throws OutgoingRefusedError for a URL that can be seen never to be reached, whatever its name means. */
  demandReachable(url: string): void {
    this.#guard.parse(url)
  }

  /**
   * Throws OutgoingRefusedError also for a name that leads nowhere but to what is refused, and OutgoingFailedError
   * when it cannot be looked up.
   */
  async assertHostAllowed(text: string): Promise<void> {
    const url = this.#guard.parse(text)
    if (isIP(url.hostname.replace(/^\[|\]$/g, '')) !== 0) return
    try {
      await this.#find(url, url.hostname)
    } catch (error) {
      throw failure(url, error)
    }
  }

  /** Throws OutgoingRefusedError for what the guard does not let out, and OutgoingFailedError for the rest. */
  async request(text: string, request: OutgoingRequest = {}): Promise<OutgoingResponse> {
    const url = this.#guard.parse(text)
    if (this.#closed) throw new OutgoingFailedError(`${url.origin} is not asked: this is the end`)
    const controller = new AbortController()
    this.#running.add(controller)
    const seconds = this.#requestMilliseconds / 1000
    const timer = setTimeout(() => {
      controller.abort(new OutgoingFailedError(`${url.origin} took longer than ${seconds} s`))
    }, this.#requestMilliseconds)
    const giveUp = () => {
      controller.abort(new OutgoingFailedError(`the request to ${url.origin} was given up`))
    }
    request.signal?.addEventListener('abort', giveUp, { once: true })
    if (request.signal?.aborted) giveUp()
    const { signal } = controller
    try {
      return request.pool === undefined || this.#pools === undefined
        ? await this.#askAlone(url, request, signal)
        : await this.#askPool(this.#pools.find(request.pool, url), url, request, signal)
    } catch (error) {
      throw failure(url, signal.aborted ? signal.reason : error)
    } finally {
      clearTimeout(timer)
      request.signal?.removeEventListener('abort', giveUp)
      this.#running.delete(controller)
    }
  }

  /** Ends what still runs. */
  close(): void {
    this.#closed = true
    for (const controller of this.#running) {
      controller.abort(new OutgoingFailedError('the request was given up: this is the end'))
    }
    this.#pools?.close()
  }

  #connectorFor(url: URL, signal?: AbortSignal): buildConnector.connector {
    return buildConnector({
      // Said here, so that no environment variable switches it off.
      rejectUnauthorized: true,
      timeout: this.#connectMilliseconds,
      maxCachedSessions: 0,
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: ADDRESS_MILLISECONDS_MAX,
      lookup: this.#lookupFor(url),
      // Ends a look-up or a handshake, too; the client alone would wait for it.
      ...(signal === undefined ? {} : { signal }),
    })
  }

  async #askAlone(
    url: URL,
    request: OutgoingRequest,
    signal: AbortSignal,
  ): Promise<OutgoingResponse> {
    const client = this.#connectTo(url, signal)
    try {
      return await read(url, request, await ask(client, url, request, signal))
    } finally {
      await client.destroy()
    }
  }

  /**
   * Once more when it went out on a connection that was there already and turned out to be closed, now by
   * one of its own. The server may have read it nevertheless, so it can get a request twice.
   */
  async #askPool(
    pool: Pool,
    url: URL,
    request: OutgoingRequest,
    signal: AbortSignal,
  ): Promise<OutgoingResponse> {
    const mayBeOld = pool.stats.connected > 0
    let answer: Dispatcher.ResponseData
    try {
      answer = await ask(pool, url, request, signal)
    } catch (error) {
      if (!mayBeOld || signal.aborted || !isConnectionClosed(error)) throw error
      return this.#askAlone(url, request, signal)
    }
    return read(url, request, answer)
  }

  #connectTo(url: URL, signal: AbortSignal): Client {
    return new Client(url.origin, {
      connect: this.#connectorFor(url, signal),
      maxHeaderSize: HEADER_BYTES_MAX,
      pipelining: 0,
      // The time for the whole request bounds these, too.
      headersTimeout: 0,
      bodyTimeout: 0,
    })
  }

  async #find(url: URL, name: string) {
    const addresses = await this.#resolve(name)
    if (addresses.length === 0) throw new OutgoingFailedError(`${url.origin} has no address`)
    return this.#guard
      .permitted(url, addresses)
      .map((address) => ({ address, family: isIP(address) }))
  }

  /** Asked once a connection, so what was checked is what is connected to; never for addresses. */
  #lookupFor(url: URL): LookupFunction {
    return (name, options, callback) => {
      this.#find(url, name).then(
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

/** Until the headers of the answer are there. */
async function ask(
  dispatcher: Dispatcher,
  url: URL,
  { method = 'GET', headers = {}, body }: OutgoingRequest,
  signal: AbortSignal,
): Promise<Dispatcher.ResponseData> {
  const path = `${url.pathname}${url.search}`
  return dispatcher.request({ path, method, headers: { ...headers }, body: body ?? null, signal })
}

async function read(
  url: URL,
  { bytesMax = BODY_BYTES_MAX, oversize: longer }: OutgoingRequest,
  { statusCode, headers, body }: Dispatcher.ResponseData,
): Promise<OutgoingResponse> {
  // Leaving a body early is an error of the stream, and ours is no failure.
  body.on('error', () => {})
  const chunks: Buffer[] = []
  let left = bytesMax
  try {
    for await (const chunk of body) {
      const bytes = Buffer.from(chunk)
      if (bytes.length > left) {
        if (longer !== 'truncate') {
          throw new OutgoingFailedError(`${url.origin} answered with more than ${bytesMax} bytes`)
        }
        chunks.push(bytes.subarray(0, left))
        return answerOf(statusCode, headers, chunks, true)
      }
      left -= bytes.length
      chunks.push(bytes)
    }
  } catch (error) {
    // Whoever takes the beginning of a body has its answer with the status.
    if (longer !== 'truncate') throw error
    return answerOf(statusCode, headers, chunks, true)
  }
  return answerOf(statusCode, headers, chunks, false)
}

function answerOf(
  status: number,
  headers: OutgoingResponse['headers'],
  chunks: readonly Buffer[],
  truncated: boolean,
): OutgoingResponse {
  return { status, headers, body: Buffer.concat(chunks), truncated }
}

function failure(url: URL, error: unknown): Error {
  if (error instanceof OutgoingRefusedError || error instanceof OutgoingFailedError) return error
  return new OutgoingFailedError(`${url.origin} did not answer: ${reasonOf(error)}`, {
    cause: error,
  })
}

/** Several addresses that failed have no words of their own, only those of each. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return [...new Set(error.errors.map(reasonOf))].join(', ')
  if (!(error instanceof Error)) return String(error)
  return error.message.replaceAll('\n', ' ') || error.name
}

async function systemResolve(name: string): Promise<string[]> {
  const found = await lookup(name, { all: true })
  return found.map(({ address }) => address)
}

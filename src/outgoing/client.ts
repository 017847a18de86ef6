import { lookup } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'
import { buildConnector, Client } from 'undici'
import { Guard, type GuardOptions, OutgoingRefused } from './guard.ts'

/** The request went out, or tried to, and brought no answer. In one line, without path and query. */
export class OutgoingFailed extends Error {
  override readonly name = 'OutgoingFailed'
}

/** All addresses of a name. */
export type Resolve = (name: string) => Promise<readonly string[]>

export type GuardedClientOptions = GuardOptions & {
  /** Until the connection stands. */
  readonly connectMilliseconds?: number
  /** For everything together, from the look-up of the name to the last byte. */
  readonly requestMilliseconds?: number
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
  readonly longer?: 'refuse' | 'truncate'
}

export type OutgoingAnswer = {
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
 * The one client for requests to others. It checks every address before it connects, and each request
 * has a connection of its own: what one server does touches no other request.
 */
export class GuardedClient {
  readonly #guard: Guard
  readonly #resolve: Resolve
  readonly #connectMilliseconds: number
  readonly #requestMilliseconds: number
  readonly #running = new Set<AbortController>()
  #closed = false

  constructor(options: GuardedClientOptions) {
    this.#guard = new Guard(options)
    this.#resolve = options.resolve ?? systemResolve
    this.#connectMilliseconds = options.connectMilliseconds ?? CONNECT_MILLISECONDS_MAX
    this.#requestMilliseconds = options.requestMilliseconds ?? REQUEST_MILLISECONDS_MAX
  }

  /** Throws OutgoingRefused for a URL that can be seen never to be reached, whatever its name means. */
  demandReachable(url: string): void {
    this.#guard.parse(url)
  }

  /** Throws OutgoingRefused for what the guard does not let out, and OutgoingFailed for the rest. */
  async request(text: string, request: OutgoingRequest = {}): Promise<OutgoingAnswer> {
    const url = this.#guard.parse(text)
    if (this.#closed) throw new OutgoingFailed(`${url.origin} is not asked: this is the end`)
    const controller = new AbortController()
    this.#running.add(controller)
    const seconds = this.#requestMilliseconds / 1000
    const timer = setTimeout(() => {
      controller.abort(new OutgoingFailed(`${url.origin} took longer than ${seconds} s`))
    }, this.#requestMilliseconds)
    const client = this.#connectTo(url, controller.signal)
    try {
      return await exchange(client, url, request, controller.signal)
    } catch (error) {
      throw failure(url, controller.signal.aborted ? controller.signal.reason : error)
    } finally {
      clearTimeout(timer)
      this.#running.delete(controller)
      await client.destroy()
    }
  }

  /** Ends what still runs. */
  close(): void {
    this.#closed = true
    for (const controller of this.#running) {
      controller.abort(new OutgoingFailed('the request was given up: this is the end'))
    }
  }

  #connectTo(url: URL, signal: AbortSignal): Client {
    return new Client(url.origin, {
      connect: buildConnector({
        // Said here, so that no environment variable switches it off.
        rejectUnauthorized: true,
        timeout: this.#connectMilliseconds,
        maxCachedSessions: 0,
        autoSelectFamily: true,
        autoSelectFamilyAttemptTimeout: ADDRESS_MILLISECONDS_MAX,
        lookup: this.#lookupFor(url),
        // Ends a look-up or a handshake, too; the client alone would wait for it.
        signal,
      }),
      maxHeaderSize: HEADER_BYTES_MAX,
      pipelining: 0,
      // The time for the whole request bounds these, too.
      headersTimeout: 0,
      bodyTimeout: 0,
    })
  }

  /** Asked once a connection, so what was checked is what is connected to; never for addresses. */
  #lookupFor(url: URL): LookupFunction {
    const find = async (name: string) => {
      const addresses = await this.#resolve(name)
      if (addresses.length === 0) throw new OutgoingFailed(`${url.origin} has no address`)
      return this.#guard
        .permitted(url, addresses)
        .map((address) => ({ address, family: isIP(address) }))
    }
    return (name, options, callback) => {
      find(name).then(
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

async function exchange(
  client: Client,
  url: URL,
  request: OutgoingRequest,
  signal: AbortSignal,
): Promise<OutgoingAnswer> {
  const { method = 'GET', headers = {}, body: sent = null, bytesMax = BODY_BYTES_MAX } = request
  const {
    statusCode,
    headers: received,
    body,
  } = await client.request({
    path: `${url.pathname}${url.search}`,
    method,
    headers: { ...headers },
    body: sent,
    signal,
  })
  // Leaving a body early is an error of the stream, and ours is no failure.
  body.on('error', () => {})
  const chunks: Buffer[] = []
  let left = bytesMax
  for await (const chunk of body) {
    const bytes = Buffer.from(chunk)
    if (bytes.length > left) {
      if (request.longer !== 'truncate') {
        throw new OutgoingFailed(`${url.origin} answered with more than ${bytesMax} bytes`)
      }
      chunks.push(bytes.subarray(0, left))
      return answerOf(statusCode, received, chunks, true)
    }
    left -= bytes.length
    chunks.push(bytes)
  }
  return answerOf(statusCode, received, chunks, false)
}

function answerOf(
  status: number,
  headers: OutgoingAnswer['headers'],
  chunks: readonly Buffer[],
  truncated: boolean,
): OutgoingAnswer {
  return { status, headers, body: Buffer.concat(chunks), truncated }
}

function failure(url: URL, error: unknown): Error {
  if (error instanceof OutgoingRefused || error instanceof OutgoingFailed) return error
  return new OutgoingFailed(`${url.origin} did not answer: ${reasonOf(error)}`, { cause: error })
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

import type { Readable } from 'node:stream'
import { Agent, type Dispatcher, EnvHttpProxyAgent, request } from 'undici'
import { FileChangedError, unreachableError } from './errors.ts'
import { isLoopback } from './image-reference.ts'

/** A request body, opened anew for every attempt. */
export type Body = {
  /** Bytes. */
  readonly size: number
  open(): Readable | Uint8Array
}

export type HttpRequest = {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body?: Body
  /** A transfer may last as long as bytes keep moving; any other request has a total limit. */
  readonly transfer?: boolean
  /** Ends the request early. */
  readonly signal?: AbortSignal
}

/** A response. The receiver reads its body to the end, or discards it. */
export type HttpResponse = {
  readonly status: number
  readonly url: URL
  readonly body: Readable
  /** A header by its name in lower case; several values are joined by commas. */
  header(name: string): string | undefined
}

export type TransportOptions = {
  /** For the proxy variables `http_proxy`, `https_proxy` and `no_proxy`, also in capitals. */
  readonly environment?: Readonly<Record<string, string | undefined>>
  /** The longest time to connect. */
  readonly connectMilliseconds?: number
  /** The longest time in which no byte is sent or received. */
  readonly idleMilliseconds?: number
}

const CONNECT_MILLISECONDS_MAX = 10_000
// Long, because a registry may copy a large blob to an object store before it answers.
const IDLE_MILLISECONDS_MAX = 300_000
const REQUEST_MILLISECONDS_MAX = 120_000
const CONNECTIONS_MAX = 8
const HEADER_BYTES_MAX = 64 * 1024
const DISCARDED_BYTES_MAX = 1024 * 1024

/** Connections to one registry, and to the hosts of its redirects. */
export class Transport {
  readonly #dispatcher: Dispatcher
  #answered = false

  constructor(host: string, options: TransportOptions = {}) {
    const idle = options.idleMilliseconds ?? IDLE_MILLISECONDS_MAX
    const limits = {
      connect: { timeout: options.connectMilliseconds ?? CONNECT_MILLISECONDS_MAX },
      connections: CONNECTIONS_MAX,
      headersTimeout: idle,
      bodyTimeout: idle,
      maxHeaderSize: HEADER_BYTES_MAX,
      pipelining: 1,
    }
    const { environment = {} } = options
    const proxy = (name: string) => environment[name] || environment[name.toUpperCase()] || ''
    // A registry on this machine is never behind a proxy.
    this.#dispatcher = isLoopback(host)
      ? new Agent(limits)
      : new EnvHttpProxyAgent({
          ...limits,
          httpProxy: proxy('http_proxy'),
          httpsProxy: proxy('https_proxy'),
          noProxy: proxy('no_proxy'),
        })
  }

  /** Sends once, without following redirects. Throws RegistryUnreachableError, and FileChangedError of the body. */
  async send(sent: HttpRequest): Promise<HttpResponse> {
    const { method, url, headers, body, transfer = false, signal } = sent
    const limits = [
      ...(transfer ? [] : [AbortSignal.timeout(REQUEST_MILLISECONDS_MAX)]),
      ...(signal === undefined ? [] : [signal]),
    ]
    const length = body === undefined ? {} : { 'content-length': String(body.size) }
    try {
      const response = await request(url, {
        method,
        headers: { 'user-agent': 'rookery', ...headers, ...length },
        body: body?.open() ?? null,
        dispatcher: this.#dispatcher,
        ...(limits.length === 0 ? {} : { signal: AbortSignal.any(limits) }),
      })
      this.#answered = true
      const header = (name: string) => {
        const value = response.headers[name]
        return Array.isArray(value) ? value.join(', ') : value
      }
      return { status: response.statusCode, url, body: response.body, header }
    } catch (error) {
      throw error instanceof FileChangedError ? error : unreachableError(url, error, this.#answered)
    }
  }

  close(): Promise<void> {
    return this.#dispatcher.destroy()
  }
}

/**
 * Reads a response body. Throws RegistryUnreachableError when the connection breaks, and RangeError
 * when the body has more than `bytesMax` bytes.
 */
export async function readBody({ url, body }: HttpResponse, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let left = bytesMax
  try {
    for await (const chunk of body) {
      const bytes = Buffer.from(chunk)
      left -= bytes.length
      if (left < 0) throw new RangeError(`${url.host} answered with more than ${bytesMax} bytes`)
      chunks.push(bytes)
    }
  } catch (error) {
    throw error instanceof RangeError ? error : unreachableError(url, error, true)
  }
  return Buffer.concat(chunks)
}

/** Discards a response body, so that the connection can be reused. */
export async function discardBody(response: HttpResponse): Promise<void> {
  // A long or broken body only costs the connection.
  await readBody(response, DISCARDED_BYTES_MAX).catch(() => response.body.destroy())
}

import { AuthorizedSession } from './authorized-session.ts'
import { RegistryResponseError } from './errors.ts'
import type { RegistryAddress } from './image-reference.ts'
import type { Login } from './login.ts'
import { type OnWait, withRetries } from './retry.ts'
import { discardBody, type HttpResponse, readBody, type TransportOptions } from './transport.ts'

export type ApiOptions = TransportOptions & {
  readonly credential?: Login | undefined
  readonly onWait?: OnWait
}

// Everything that is known of one image has some 50 KB, and of the largest some MiB.
const ANSWER_BYTES_MAX = 64 * 1024 * 1024
const PAGES_MAX = 10_000
const NEXT = /<([^>]*)>; rel="next"/

/** The API of a Rookery (spec/openapi.yaml). Throws RegistryResponseError and RegistryUnreachableError. */
export class RegistryApi {
  readonly #exchange: AuthorizedSession
  readonly #onWait: OnWait | undefined

  constructor(place: RegistryAddress, { credential, onWait, ...transport }: ApiOptions) {
    this.#exchange = new AuthorizedSession(place, credential, '', transport)
    this.#onWait = onWait
  }

  close(): Promise<void> {
    return this.#exchange.close()
  }

  /** What a path answers. `what` is it for messages, such as `the package opam/dune`. */
  async find(path: string, what: string): Promise<unknown> {
    return (await this.#read(path, what)).value
  }

  /** The lists under `field` of a path's pages, up to `limit` items together. */
  async list(path: string, field: string, what: string, limit: number): Promise<unknown[]> {
    const items: unknown[] = []
    let next: string | undefined = path
    for (let page = 0; next !== undefined && items.length < limit; page += 1) {
      if (page === PAGES_MAX) throw wrong(this.#exchange, `${what} has no last page`)
      const { answer, value }: Read = await this.#read(next, what)
      const found = fieldOf(value, field)
      if (!Array.isArray(found)) throw wrong(this.#exchange, `${what} has no list ${field}`)
      items.push(...found)
      next = NEXT.exec(answer.header('link') ?? '')?.[1]
    }
    return items.slice(0, limit)
  }

  /** Asks for a change. It is tried once: whether it happened is not known after a failure. */
  change(
    path: string,
    what: string,
    body: unknown,
    headers: Readonly<Record<string, string>>,
  ): Promise<unknown> {
    return this.send('POST', path, what, body, headers)
  }

  /** The same by another method; without a body when that is undefined. Undefined: 204. */
  async send(
    method: 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    what: string,
    body: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<unknown> {
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    const answer = await this.#exchange.request({
      method,
      url: this.#exchange.url(path),
      what,
      headers: {
        ...(bytes === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(bytes === undefined ? {} : { body: { size: bytes.length, open: () => bytes } }),
    })
    if (answer.status !== 204) return this.#parsed(answer, what)
    await discardBody(answer)
    return undefined
  }

  #read(path: string, what: string): Promise<Read> {
    return withRetries(async () => {
      const url = this.#exchange.url(path)
      const answer = await this.#exchange.request({ method: 'GET', url, what })
      return { answer, value: await this.#parsed(answer, what) }
    }, this.#onWait)
  }

  async #parsed(answer: HttpResponse, what: string): Promise<unknown> {
    const bytes = await readBody(answer, ANSWER_BYTES_MAX)
    try {
      return JSON.parse(bytes.toString())
    } catch {
      throw wrong(this.#exchange, `${what} is no JSON`)
    }
  }
}

type Read = { readonly answer: HttpResponse; readonly value: unknown }

function fieldOf(value: unknown, field: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, field) : undefined
}

function wrong({ address: place }: AuthorizedSession, problem: string): RegistryResponseError {
  return new RegistryResponseError(
    `${place.host} does not answer like a Rookery: ${problem}; is it another registry?`,
    { status: 502 },
  )
}

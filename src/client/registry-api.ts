import { AuthorizedSession } from './authorized-session.ts'
import { RegistryResponseError } from './errors.ts'
import type { RegistryAddress } from './image-reference.ts'
import type { Login } from './login.ts'
import { type OnWait, withRetries } from './retry.ts'
import { discardBody, type HttpResponse, readBody, type TransportOptions } from './transport.ts'

export type ApiOptions = TransportOptions & {
  readonly login?: Login | undefined
  readonly onWait?: OnWait
}

// The details of one image have about 50 KB, and at most some MiB.
const ANSWER_BYTES_MAX = 64 * 1024 * 1024
/** A registry takes consoles of any length; longer ones are for curl. */
const TEXT_BYTES_MAX = 64 * 1024 * 1024
const PAGES_MAX = 10_000
const NEXT = /<([^>]*)>; rel="next"/

/** The API of a Rookery registry (spec/openapi.yaml). Throws RegistryResponseError and RegistryUnreachableError. */
export class RegistryApi {
  readonly #session: AuthorizedSession
  readonly #onWait: OnWait | undefined

  constructor(address: RegistryAddress, { login, onWait, ...transport }: ApiOptions) {
    this.#session = new AuthorizedSession(address, login, '', transport)
    this.#onWait = onWait
  }

  close(): Promise<void> {
    return this.#session.close()
  }

  /** Requests a path. `subject` names it in messages, such as `the package opam/dune`. */
  async find(path: string, subject: string): Promise<unknown> {
    return (await this.#read(path, subject)).value
  }

  /** Requests a path whose answer is text, of at most TEXT_BYTES_MAX. */
  async findText(path: string, subject: string): Promise<string> {
    const url = this.#session.url(path)
    return withRetries(async () => {
      const response = await this.#session.request({ method: 'GET', url, subject })
      return (await readBody(response, TEXT_BYTES_MAX)).toString()
    }, this.#onWait)
  }

  /** Joins the lists under `field` of a path's pages, up to `limit` items. */
  async list(path: string, field: string, subject: string, limit: number): Promise<unknown[]> {
    return (await this.listUpTo(path, field, subject, limit)).items
  }

  /**
   * The same. `more` is true when the limit left out items, and `truncated` when the registry says that its answer is
   * not complete.
   */
  async listUpTo(path: string, field: string, subject: string, limit: number): Promise<Listed> {
    let truncated = false
    const items: unknown[] = []
    let next: string | undefined = path
    for (let page = 0; next !== undefined && items.length < limit; page += 1) {
      if (page === PAGES_MAX) throw unexpected(this.#session, `${subject} has no last page`)
      const { response, value }: Read = await this.#read(next, subject)
      const found = fieldOf(value, field)
      if (!Array.isArray(found)) throw unexpected(this.#session, `${subject} has no list ${field}`)
      items.push(...found)
      truncated ||= fieldOf(value, 'truncated') === true
      next = NEXT.exec(response.header('link') ?? '')?.[1]
    }
    const more = next !== undefined || items.length > limit
    return { items: items.slice(0, limit), more, truncated }
  }

  /**
   * Requests a path once. With the ETag of an earlier answer it is undefined when nothing changed. Its caller retries,
   * because it knows how long.
   */
  async poll(
    path: string,
    subject: string,
    etag: string | undefined,
    signal: AbortSignal,
  ): Promise<Polled | undefined> {
    const response = await this.#session.request({
      ...{ method: 'GET', url: this.#session.url(path), subject, signal },
      headers: etag === undefined ? {} : { 'if-none-match': etag },
    })
    if (response.status !== 304) {
      return { value: await this.#parsed(response, subject), etag: response.header('etag') }
    }
    await discardBody(response)
    return undefined
  }

  /** Requests a change with POST. Attempted once, because a failed change may have been made. */
  change(
    path: string,
    subject: string,
    body: unknown,
    headers: Readonly<Record<string, string>>,
  ): Promise<unknown> {
    return this.send('POST', path, subject, body, headers)
  }

  /** Requests a change with any method, without a body when it is undefined. Returns undefined for 204. */
  async send(
    method: 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    subject: string,
    body: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<unknown> {
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    const response = await this.#session.request({
      method,
      url: this.#session.url(path),
      subject,
      isSecret: true,
      headers: {
        ...(bytes === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(bytes === undefined ? {} : { body: { size: bytes.length, open: () => bytes } }),
    })
    if (response.status !== 204) return this.#parsed(response, subject)
    await discardBody(response)
    return undefined
  }

  #read(path: string, subject: string): Promise<Read> {
    return withRetries(async () => {
      const url = this.#session.url(path)
      const response = await this.#session.request({ method: 'GET', url, subject })
      return { response, value: await this.#parsed(response, subject) }
    }, this.#onWait)
  }

  async #parsed(response: HttpResponse, subject: string): Promise<unknown> {
    const bytes = await readBody(response, ANSWER_BYTES_MAX)
    try {
      return JSON.parse(bytes.toString())
    } catch {
      throw unexpected(this.#session, `${subject} is not JSON`)
    }
  }
}

/** An answer, with its ETag. */
export type Polled = { readonly value: unknown; readonly etag: string | undefined }

/** Items of a list, and whether there are others. */
export type Listed = {
  readonly items: unknown[]
  readonly more: boolean
  readonly truncated: boolean
}

type Read = { readonly response: HttpResponse; readonly value: unknown }

function fieldOf(value: unknown, field: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, field) : undefined
}

function unexpected({ address: place }: AuthorizedSession, problem: string): RegistryResponseError {
  return new RegistryResponseError(
    `${place.host} does not answer like Rookery: ${problem}; is it another registry?`,
    { status: 502 },
  )
}

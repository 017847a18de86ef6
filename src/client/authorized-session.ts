import { Authorizer } from './authorizer.ts'
import { parseChallenges } from './challenges.ts'
import { RegistryResponseError } from './errors.ts'
import { httpErrorOf } from './http-errors.ts'
import type { RegistryAddress } from './image-reference.ts'
import type { Login } from './login.ts'
import {
  discardBody,
  type HttpRequest,
  type HttpResponse,
  Transport,
  type TransportOptions,
} from './transport.ts'

const REDIRECTS_MAX = 5
/** Redirects that keep method and body; the older ones turn a PUT into a GET. */
const METHOD_KEEPING: ReadonlySet<number> = new Set([307, 308])
const ANY_REDIRECT: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

/** A request, and its subject for messages. */
export type SessionRequest = Omit<HttpRequest, 'headers'> & {
  readonly headers?: Readonly<Record<string, string>>
  /** Such as `the manifest v1`. */
  readonly subject: string
  /** Statuses of 400 and more that are not an error. */
  readonly accept?: readonly number[]
  /** True for a body that only the registry may read: a redirect to another host is refused. */
  readonly isSecret?: boolean
}

/** Sends requests to one registry: with its login, renewed once a request, and along its redirects. */
export class AuthorizedSession {
  readonly address: RegistryAddress
  readonly #transport: Transport
  readonly #login: Login | undefined
  readonly #authorizer: Authorizer

  constructor(
    address: RegistryAddress,
    login: Login | undefined,
    scope: string,
    options?: TransportOptions,
  ) {
    this.address = address
    this.#login = login
    this.#transport = new Transport(address.host, options)
    this.#authorizer = new Authorizer(this.#transport, address, login, scope)
  }

  /** A URL of the registry. Path and query are percent-encoded already. Throws RegistryResponseError for another host. */
  url(path: string): URL {
    // With another beginning, such as `@`, the path would become a part of the host.
    if (path.startsWith('/')) return new URL(`${this.#base}${path}`)
    throw new RegistryResponseError(
      `${this.address.host} names "${path.slice(0, 160)}" as a path, which must begin with a slash`,
      { status: 200 },
    )
  }

  get #base(): string {
    const { host, plainHttp } = this.address
    return `${plainHttp ? 'http' : 'https'}://${apiHost(host)}`
  }

  /** Parses a response's Location. Throws RegistryResponseError when it is missing or malformed. */
  locationOf(response: HttpResponse, subject: string): URL {
    const location = response.header('location')
    if (location === undefined || !URL.canParse(location, response.url.href)) {
      throw new RegistryResponseError(
        `${this.address.host} answered ${subject} without a valid Location: it is not a registry, or a proxy before it is misconfigured`,
        { status: response.status },
      )
    }
    const next = new URL(location, response.url)
    if (!/^https?:$/.test(next.protocol)) {
      throw new RegistryResponseError(
        `${response.url.host} redirects ${subject} to a ${next.protocol} URL, which must be https://: it is misconfigured`,
        { status: response.status },
      )
    }
    return this.#keepTls(next, response)
  }

  /** Sends once. Throws RegistryResponseError for 400 and more, and RegistryUnreachableError. */
  async request(request: SessionRequest): Promise<HttpResponse> {
    const response = await this.#authorized(request)
    const { accept = [], subject } = request
    if (response.status < 400 || accept.includes(response.status)) return response
    const { host } = this.address
    throw await httpErrorOf(response, { host, subject, login: this.#login })
  }

  close(): Promise<void> {
    return this.#transport.close()
  }

  async #authorized(request: SessionRequest): Promise<HttpResponse> {
    const before = this.#authorizer.header
    const response = await this.#sendFollowingRedirects(request, before)
    // The login is for the registry: another host that a redirect or a Location named gets none.
    if (response.status !== 401 || !this.#isOwn(response.url)) return response
    const challenges = parseChallenges(response.header('www-authenticate') ?? '')
    const header = await this.#authorizer.renew(challenges, before)
    if (header === undefined) return response
    await discardBody(response)
    return this.#sendFollowingRedirects(request, header)
  }

  async #sendFollowingRedirects(
    request: SessionRequest,
    authorization: string | undefined,
  ): Promise<HttpResponse> {
    const { method, body, transfer, signal } = request
    let { url } = request
    for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects += 1) {
      // Another host must not learn the login; a signed URL there carries its own.
      const isOwn = this.#isOwn(url) && authorization !== undefined
      const response = await this.#transport.send({
        method,
        url,
        headers: { ...request.headers, ...(isOwn ? { authorization } : {}) },
        ...(body === undefined ? {} : { body }),
        ...(transfer === undefined ? {} : { transfer }),
        ...(signal === undefined ? {} : { signal }),
      })
      const followed = method === 'GET' || method === 'HEAD' ? ANY_REDIRECT : METHOD_KEEPING
      if (!ANY_REDIRECT.has(response.status)) return response
      await discardBody(response)
      const next = this.locationOf(response, request.subject)
      if (!followed.has(response.status)) {
        throw new RegistryResponseError(
          `${this.address.host} redirects ${request.subject} to ${next.origin} with status ${response.status}: use that host, with --plain-http only if it is http://`,
          { status: response.status },
        )
      }
      if (request.isSecret === true && !this.#isOwn(next)) {
        throw new RegistryResponseError(
          `${this.address.host} redirects ${request.subject} to ${next.origin}, which must not get its content: name that registry itself`,
          { status: response.status },
        )
      }
      url = next
    }
    throw new RegistryResponseError(
      `${this.address.host} redirects ${request.subject} more than ${REDIRECTS_MAX} times: it is misconfigured`,
      { status: 508 },
    )
  }

  #isOwn({ origin }: URL): boolean {
    return origin === new URL(this.#base).origin
  }

  /**
   * Keeps TLS. Registries behind a proxy often believe that they are reached without TLS, and send a
   * Location with http:// for their own host: it is read as https://. Other hosts without TLS are
   * refused.
   */
  #keepTls(next: URL, { url: from, status }: HttpResponse): URL {
    if (from.protocol !== 'https:' || next.protocol !== 'http:') return next
    if (next.hostname === from.hostname && (next.port === '' || next.port === from.port)) {
      return new URL(`${next.pathname}${next.search}`, from)
    }
    throw new RegistryResponseError(
      `${from.host} redirects to ${next.origin}, which has no TLS: it is misconfigured`,
      { status },
    )
  }
}

/** Docker Hub serves its API under another name than the one in references. */
function apiHost(host: string): string {
  return host === 'docker.io' ? 'registry-1.docker.io' : host
}

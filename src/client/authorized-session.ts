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
/** With these, the same is sent there; the older ones turn a PUT into something else. */
const SAME_AGAIN: ReadonlySet<number> = new Set([307, 308])
const ANY_REDIRECT: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

/** A request, and what it is about, for messages. */
export type SessionRequest = Omit<HttpRequest, 'headers'> & {
  readonly headers?: Readonly<Record<string, string>>
  /** Such as `the manifest v1`. */
  readonly what: string
  /** Statuses of 400 and more that are an answer and no error. */
  readonly accept?: readonly number[]
}

/** Requests to one registry: with its login, renewed once a request, and along its redirects. */
export class AuthorizedSession {
  readonly address: RegistryAddress
  readonly #transport: Transport
  readonly #credential: Login | undefined
  readonly #authorizer: Authorizer

  constructor(
    place: RegistryAddress,
    credential: Login | undefined,
    scope: string,
    options?: TransportOptions,
  ) {
    this.address = place
    this.#credential = credential
    this.#transport = new Transport(place.host, options)
    this.#authorizer = new Authorizer(this.#transport, place, credential, scope)
  }

  /** An address of the registry. Path and query are as they travel. */
  url(path: string): URL {
    const { host, plainHttp } = this.address
    return new URL(`${plainHttp ? 'http' : 'https'}://${apiHost(host)}${path}`)
  }

  /** Where an answer's Location leads. Throws RegistryResponseError when it leads nowhere. */
  locationOf(answer: HttpResponse, what: string): URL {
    const location = answer.header('location')
    if (location === undefined || !URL.canParse(location, answer.url.href)) {
      throw new RegistryResponseError(
        `${this.address.host} answered ${what} without a Location that is an address: it is no registry, or a proxy before it is set up wrongly`,
        { status: answer.status },
      )
    }
    return this.#secured(new URL(location, answer.url), answer.url)
  }

  /** Sends once. Throws RegistryResponseError for 400 and more, and RegistryUnreachableError. */
  async request(asking: SessionRequest): Promise<HttpResponse> {
    const answer = await this.#authorized(asking)
    const { accept = [], what } = asking
    if (answer.status < 400 || accept.includes(answer.status)) return answer
    throw await httpErrorOf(answer, {
      host: this.address.host,
      what,
      credential: this.#credential,
    })
  }

  close(): Promise<void> {
    return this.#transport.close()
  }

  async #authorized(asking: SessionRequest): Promise<HttpResponse> {
    const before = this.#authorizer.header
    const answer = await this.#followed(asking, before)
    if (answer.status !== 401) return answer
    const challenges = parseChallenges(answer.header('www-authenticate') ?? '')
    const header = await this.#authorizer.renew(challenges, before)
    if (header === undefined) return answer
    await discardBody(answer)
    return this.#followed(asking, header)
  }

  async #followed(
    asking: SessionRequest,
    authorization: string | undefined,
  ): Promise<HttpResponse> {
    const { method, body, transfer } = asking
    let { url } = asking
    for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects += 1) {
      // Whoever is elsewhere must not learn the login; what is there has one in its address.
      const own = this.#isOwn(url) && authorization !== undefined
      const answer = await this.#transport.send({
        method,
        url,
        headers: { ...asking.headers, ...(own ? { authorization } : {}) },
        ...(body === undefined ? {} : { body }),
        ...(transfer === undefined ? {} : { transfer }),
      })
      const following = method === 'GET' || method === 'HEAD' ? ANY_REDIRECT : SAME_AGAIN
      if (!ANY_REDIRECT.has(answer.status)) return answer
      await discardBody(answer)
      const next = this.locationOf(answer, asking.what)
      if (!following.has(answer.status)) {
        throw new RegistryResponseError(
          `${this.address.host} sends ${asking.what} to ${next.origin} with status ${answer.status}: give that host, and --plain-http only if it is http://`,
          { status: answer.status },
        )
      }
      url = next
    }
    throw new RegistryResponseError(
      `${this.address.host} redirects ${asking.what} more than ${REDIRECTS_MAX} times: it is set up wrongly`,
      { status: 508 },
    )
  }

  #isOwn({ origin }: URL): boolean {
    return origin === this.url('/').origin
  }

  /**
   * Registries behind a proxy often think that they are spoken to without TLS, and name their own
   * address so. To anything else, what came by TLS does not go on without.
   */
  #secured(next: URL, from: URL): URL {
    if (from.protocol !== 'https:' || next.protocol !== 'http:') return next
    if (next.hostname === from.hostname && (next.port === '' || next.port === from.port)) {
      return new URL(`${next.pathname}${next.search}`, from)
    }
    throw new RegistryResponseError(
      `${from.host} sends to ${next.origin}, which has no TLS: it is set up wrongly`,
      { status: 502 },
    )
  }
}

/** Docker Hub is asked under another name than it is called by. */
function apiHost(host: string): string {
  return host === 'docker.io' ? 'registry-1.docker.io' : host
}

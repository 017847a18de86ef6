import { isObject } from '../oci/descriptor.ts'
import type { Challenge } from './challenges.ts'
import { RegistryResponseError } from './errors.ts'
import { httpErrorOf } from './http-errors.ts'
import type { RegistryAddress } from './image-reference.ts'
import { basicHeader, type Login } from './login.ts'
import { type HttpResponse, readBody, type Transport } from './transport.ts'

const TOKEN_ANSWER_BYTES_MAX = 256 * 1024
const TOKEN_CHARACTERS_MAX = 48 * 1024
const CLIENT_ID = 'rookery'

/**
 * Answers a registry's challenges (RFC 9110, section 11; distribution, "Token Authentication") and
 * keeps the resulting header for all requests.
 */
export class Authorizer {
  readonly #transport: Transport
  readonly #address: RegistryAddress
  readonly #login: Login | undefined
  /** Requested in addition to the scope of the challenge, such as `repository:builds/www:pull,push`. */
  readonly #scope: string
  #header: string | undefined
  #renewal: Promise<string | undefined> | undefined

  constructor(
    transport: Transport,
    address: RegistryAddress,
    login: Login | undefined,
    scope: string,
  ) {
    this.#transport = transport
    this.#address = address
    this.#login = login
    this.#scope = scope
    if (login?.kind === 'token') this.#header = `Bearer ${login.token}`
  }

  /** The Authorization header of the next request; undefined without one. */
  get header(): string | undefined {
    return this.#header
  }

  /**
   * Returns a header for another attempt after a 401; undefined when there is no other. Requests that
   * are refused together renew it once. Throws RegistryResponseError and RegistryUnreachableError.
   */
  async renew(
    challenges: readonly Challenge[],
    refused: string | undefined,
  ): Promise<string | undefined> {
    if (this.#header !== refused) return this.#header
    this.#renewal ??= this.#answerChallenges(challenges, refused).finally(() => {
      this.#renewal = undefined
    })
    const header = await this.#renewal
    if (header !== undefined) this.#header = header
    return header
  }

  async #answerChallenges(
    challenges: readonly Challenge[],
    refused: string | undefined,
  ): Promise<string | undefined> {
    // A given token cannot be renewed.
    if (this.#login?.kind === 'token') return undefined
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer')
    if (bearer !== undefined) return `Bearer ${await this.#token(bearer)}`
    const basic = challenges.some(({ scheme }) => scheme === 'basic')
    if (!basic || this.#login?.kind !== 'password') return undefined
    const { username, password } = this.#login
    const header = basicHeader(username, password)
    return header === refused ? undefined : header
  }

  async #token({ parameters }: Challenge): Promise<string> {
    const realm = this.#parseRealm(parameters.get('realm'))
    const query = new URLSearchParams()
    const service = parameters.get('service')
    if (service !== undefined) query.set('service', service)
    // One parameter for each scope, as in the token protocol.
    for (const scope of new Set([this.#scope, parameters.get('scope') ?? this.#scope])) {
      query.append('scope', scope)
    }
    const response = await this.#requestToken(realm, query)
    if (response.status !== 200) {
      throw await httpErrorOf(response, {
        host: this.#address.host,
        subject: 'a token',
        login: this.#login,
      })
    }
    return parseToken(await readBody(response, TOKEN_ANSWER_BYTES_MAX), realm)
  }

  #requestToken(realm: URL, query: URLSearchParams): Promise<HttpResponse> {
    const login = this.#login
    if (login?.kind === 'identity-token') {
      const form = new URLSearchParams([
        ...[...query].filter(([name]) => name !== 'scope'),
        ['grant_type', 'refresh_token'],
        ['client_id', CLIENT_ID],
        ['refresh_token', login.token],
        // OAuth 2: one parameter with the scopes separated by spaces (RFC 6749, section 3.3).
        ['scope', query.getAll('scope').join(' ')],
      ])
      const bytes = Buffer.from(form.toString())
      const headers = { 'content-type': 'application/x-www-form-urlencoded' }
      const body = { size: bytes.length, open: () => bytes }
      return this.#transport.send({ method: 'POST', url: realm, headers, body })
    }
    const url = new URL(realm)
    for (const [name, value] of query) url.searchParams.append(name, value)
    const headers =
      login?.kind === 'password'
        ? { authorization: basicHeader(login.username, login.password) }
        : {}
    return this.#transport.send({ method: 'GET', url, headers })
  }

  /** Parses the realm of the token endpoint. With TLS at the registry, it must use TLS too. */
  #parseRealm(text: string | undefined): URL {
    const { host, plainHttp } = this.#address
    const url = text !== undefined && URL.canParse(text) ? new URL(text) : undefined
    const isAllowed = url?.protocol === 'https:' || (plainHttp && url?.protocol === 'http:')
    if (url === undefined || !isAllowed) {
      const shown = text === undefined ? 'no URL' : text.slice(0, 160)
      throw new RegistryResponseError(
        `${host} names ${shown} as its token endpoint, which must be an https:// URL; the registry is misconfigured`,
        { status: 401 },
      )
    }
    return url
  }
}

function parseToken(bytes: Buffer, realm: URL): string {
  const token = findToken(bytes)
  if (token !== undefined && token.length <= TOKEN_CHARACTERS_MAX && /^[\x21-\x7e]+$/.test(token)) {
    return token
  }
  throw new RegistryResponseError(`the response of the token endpoint ${realm.host} has no token`, {
    status: 401,
  })
}

function findToken(bytes: Buffer): string | undefined {
  try {
    const response: unknown = JSON.parse(bytes.toString())
    if (!isObject(response)) return undefined
    const { token, access_token: accessToken } = response
    return [token, accessToken].find((one) => typeof one === 'string')
  } catch {
    return undefined
  }
}

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
 * keeps what it got, for all requests at once.
 */
export class Authorizer {
  readonly #transport: Transport
  readonly #place: RegistryAddress
  readonly #credential: Login | undefined
  /** What is asked for besides what a challenge names, such as `repository:builds/www:pull,push`. */
  readonly #scope: string
  #header: string | undefined
  #renewal: Promise<string | undefined> | undefined

  constructor(
    transport: Transport,
    place: RegistryAddress,
    credential: Login | undefined,
    scope: string,
  ) {
    this.#transport = transport
    this.#place = place
    this.#credential = credential
    this.#scope = scope
    if (credential?.kind === 'token') this.#header = `Bearer ${credential.token}`
  }

  /** The Authorization header of the next request; undefined without one. */
  get header(): string | undefined {
    return this.#header
  }

  /**
   * A header for another attempt after a 401, undefined when there is none to be had. Requests that
   * are refused together renew it together. Throws RegistryResponseError and RegistryUnreachableError.
   */
  async renew(
    challenges: readonly Challenge[],
    refused: string | undefined,
  ): Promise<string | undefined> {
    if (this.#header !== refused) return this.#header
    this.#renewal ??= this.#answer(challenges, refused).finally(() => {
      this.#renewal = undefined
    })
    const header = await this.#renewal
    if (header !== undefined) this.#header = header
    return header
  }

  async #answer(
    challenges: readonly Challenge[],
    refused: string | undefined,
  ): Promise<string | undefined> {
    // A token that was given is all there is.
    if (this.#credential?.kind === 'token') return undefined
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer')
    if (bearer !== undefined) return `Bearer ${await this.#token(bearer)}`
    const basic = challenges.some(({ scheme }) => scheme === 'basic')
    if (!basic || this.#credential?.kind !== 'password') return undefined
    const { username, password } = this.#credential
    const header = basicHeader(username, password)
    return header === refused ? undefined : header
  }

  async #token({ parameters }: Challenge): Promise<string> {
    const realm = this.#realm(parameters.get('realm'))
    const asked = new URLSearchParams()
    const service = parameters.get('service')
    if (service !== undefined) asked.set('service', service)
    // One scope a parameter, as the token protocol has it.
    for (const scope of new Set([this.#scope, parameters.get('scope') ?? this.#scope])) {
      asked.append('scope', scope)
    }
    const answer = await this.#ask(realm, asked)
    if (answer.status !== 200) {
      throw await httpErrorOf(answer, {
        host: this.#place.host,
        what: 'a token',
        credential: this.#credential,
      })
    }
    return parseToken(await readBody(answer, TOKEN_ANSWER_BYTES_MAX), realm)
  }

  #ask(realm: URL, asked: URLSearchParams): Promise<HttpResponse> {
    const credential = this.#credential
    if (credential?.kind === 'identity-token') {
      const form = new URLSearchParams([
        ...[...asked].filter(([name]) => name !== 'scope'),
        ['grant_type', 'refresh_token'],
        ['client_id', CLIENT_ID],
        ['refresh_token', credential.token],
        // OAuth 2 has one parameter with spaces between (RFC 6749, section 3.3).
        ['scope', asked.getAll('scope').join(' ')],
      ])
      const bytes = Buffer.from(form.toString())
      const headers = { 'content-type': 'application/x-www-form-urlencoded' }
      const body = { size: bytes.length, open: () => bytes }
      return this.#transport.send({ method: 'POST', url: realm, headers, body })
    }
    const url = new URL(realm)
    for (const [name, value] of asked) url.searchParams.append(name, value)
    const headers =
      credential?.kind === 'password'
        ? { authorization: basicHeader(credential.username, credential.password) }
        : {}
    return this.#transport.send({ method: 'GET', url, headers })
  }

  /** Where tokens come from: a registry behind TLS must not have a password sent without it. */
  #realm(text: string | undefined): URL {
    const { host, plainHttp } = this.#place
    const url = text !== undefined && URL.canParse(text) ? new URL(text) : undefined
    const right = url?.protocol === 'https:' || (plainHttp && url?.protocol === 'http:')
    if (url === undefined || !right) {
      const shown = text === undefined ? 'nowhere' : text.slice(0, 160)
      throw new RegistryResponseError(
        `${host} sends for a token to ${shown}: it must be an https:// address; the registry is set up wrongly`,
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
  throw new RegistryResponseError(`${realm.host} was asked for a token, and its answer has none`, {
    status: 401,
  })
}

function findToken(bytes: Buffer): string | undefined {
  try {
    const answer: unknown = JSON.parse(bytes.toString())
    if (!isObject(answer)) return undefined
    const { token, access_token: accessToken } = answer
    return [token, accessToken].find((one) => typeof one === 'string')
  } catch {
    return undefined
  }
}

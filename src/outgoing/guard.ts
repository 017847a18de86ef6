import {
  type IpAddress,
  isInNetwork,
  isPublicAddress,
  type Network,
  parseAddress,
  parseNetwork,
} from '../networks/networks.ts'
import { isBlockedPort } from './blocked-ports.ts'

/** The guard refused a request. The message is one line, with the rule. */
export class OutgoingRefusedError extends Error {
  override readonly name = 'OutgoingRefusedError'
  /** True when the message has an internal address that the URL does not have. */
  readonly isInternal: boolean

  constructor(message: string, isInternal = false) {
    super(message)
    this.isInternal = isInternal
  }
}

export type GuardOptions = {
  /** Internal networks such as `10.0.0.0/8` that requests may reach, also by http. */
  readonly allowed: readonly string[]
  /** The setting that allows a network, for operators; the last words of a refusal. */
  readonly hint?: string
}

const URL_LENGTH_MAX = 2048

/**
 * Decides which addresses requests may reach: public ones by https, and addresses of allowed networks.
 * An address that embeds an IPv4 address (mapped, NAT64, 6to4, Teredo, ISATAP) is never public.
 */
export class Guard {
  readonly #allowed: readonly Network[]
  readonly #hint: string

  constructor({ allowed, hint }: GuardOptions) {
    this.#allowed = allowed.map(requireNetwork)
    this.#hint = hint === undefined ? '' : `; ${hint}`
  }

  /** Parses and checks a URL, without a DNS look-up. Throws OutgoingRefusedError. */
  parse(text: string): URL {
    const url = text.length > URL_LENGTH_MAX || !URL.canParse(text) ? undefined : new URL(text)
    if (url === undefined) {
      throw new OutgoingRefusedError(
        `a URL must be like https://example.org/path, with at most ${URL_LENGTH_MAX} characters`,
      )
    }
    if (url.protocol !== 'https:' && url.protocol !== 'http:') {
      throw new OutgoingRefusedError(
        `outgoing requests use https, not ${url.protocol.slice(0, 32)}`,
      )
    }
    // The message omits the text, which may contain a password.
    if (url.username !== '' || url.password !== '') {
      throw new OutgoingRefusedError(
        'a URL of an outgoing request must have no user name and no password',
      )
    }
    if (url.hostname === '' || url.hostname.endsWith('.')) {
      throw new OutgoingRefusedError(`${url.origin} must have a host that does not end with a dot`)
    }
    if (isBlockedPort(Number(url.port))) {
      throw new OutgoingRefusedError(
        `${url.origin} has a port that browsers block, because other protocols use it: use another port, such as 443 or 8443`,
      )
    }
    if (url.protocol === 'http:' && this.#allowed.length === 0) throw this.#plain(url)
    const literal = literalOf(url)
    if (literal !== undefined) this.permitted(url, [literal])
    return url
  }

  /**
   * Returns the addresses that a connection may use. Throws OutgoingRefusedError when there is none.
   */
  permitted(url: URL, addresses: readonly string[]): string[] {
    const permitted = addresses.filter((address) => this.#permits(url, address))
    if (permitted.length > 0) return permitted
    const refused = addresses.find((address) => !isPublic(address))
    if (refused === undefined) throw this.#plain(url)
    const isLiteral = refused === literalOf(url)
    const subject = isLiteral
      ? `${url.origin} is`
      : `${url.origin} resolves to ${refused}, which is`
    throw new OutgoingRefusedError(
      `${subject} neither a public address nor in an allowed network${this.#hint}`,
      !isLiteral,
    )
  }

  /** Returns true unless an address is public and in no allowed network. */
  isInternal(address: string): boolean {
    return !isPublic(address) || this.#isAllowed(address)
  }

  #permits(url: URL, address: string): boolean {
    return (url.protocol === 'https:' && isPublic(address)) || this.#isAllowed(address)
  }

  #isAllowed(address: string): boolean {
    const parsed = parseAddressWithoutZone(address)
    return parsed !== undefined && this.#allowed.some((network) => isInNetwork(parsed, network))
  }

  #plain(url: URL): OutgoingRefusedError {
    return new OutgoingRefusedError(
      `${url.origin} is plain http, which is only for allowed networks: use https${this.#hint}`,
    )
  }
}

/** Returns the host if it is an address; the URL parser has normalized it. */
export function literalOf({ hostname }: URL): string | undefined {
  const address = hostname.replace(/^\[|\]$/g, '')
  return parseAddress(address) === undefined ? undefined : address
}

/** Returns undefined for an address with a zone, which no network contains. */
function parseAddressWithoutZone(text: string): IpAddress | undefined {
  return text.includes('%') ? undefined : parseAddress(text)
}

function isPublic(text: string): boolean {
  const address = parseAddressWithoutZone(text)
  return address !== undefined && isPublicAddress(address)
}

function requireNetwork(text: string): Network {
  const network = parseNetwork(text)
  if (network === undefined) throw new Error(`${text} is not an address or a network`)
  return network
}

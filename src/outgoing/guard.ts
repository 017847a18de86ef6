import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** The guard does not let a request out: what was wrong and what is right, in one line. */
export class OutgoingRefusedError extends Error {
  override readonly name = 'OutgoingRefusedError'
}

export type GuardOptions = {
  /** Networks such as `10.0.0.0/8` that may be reached although they are internal, and by http. */
  readonly allowed: readonly string[]
  /** Says to operators how a network gets allowed; stands at the end of refusals. */
  readonly hint?: string
}

const URL_LENGTH_MAX = 2048
// Of all other IPv6 nothing is public: loopback, mapped and translated IPv4, private networks, links.
const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3')

type Network = ReturnType<typeof ipaddr.parseCIDR>

/**
 * Which addresses requests may go to: public ones by https, and those of the allowed networks. What
 * carries an IPv4 address inside (mapped, NAT64, 6to4, Teredo, ISATAP) is not public, whatever it carries.
 */
export class Guard {
  readonly #allowed: readonly Network[]
  readonly #hint: string

  constructor({ allowed, hint }: GuardOptions) {
    this.#allowed = allowed.map(parseNetwork)
    this.#hint = hint === undefined ? '' : `; ${hint}`
  }

  /** The URL, as far as its text tells: names are looked up later. Throws OutgoingRefusedError. */
  parse(text: string): URL {
    const url = text.length > URL_LENGTH_MAX || !URL.canParse(text) ? undefined : new URL(text)
    if (url === undefined) {
      throw new OutgoingRefusedError(
        `a URL is like https://example.org/path, of at most ${URL_LENGTH_MAX} characters`,
      )
    }
    if (url.protocol !== 'https:' && url.protocol !== 'http:') {
      throw new OutgoingRefusedError(
        `requests go out by https, not by ${url.protocol.slice(0, 32)}`,
      )
    }
    // The text is not repeated here: it may hold a password.
    if (url.username !== '' || url.password !== '') {
      throw new OutgoingRefusedError(
        'a URL of an outgoing request has no user and no password in it',
      )
    }
    if (url.hostname === '' || url.hostname.endsWith('.')) {
      throw new OutgoingRefusedError(`${url.origin} must have a host, without a dot at its end`)
    }
    if (url.protocol === 'http:' && this.#allowed.length === 0) throw this.#plain(url)
    const literal = literalOf(url)
    if (literal !== undefined) this.permitted(url, [literal])
    return url
  }

  /**
   * Those of the addresses that may be connected to; all others are left out. Throws OutgoingRefusedError
   * when none remains.
   */
  permitted(url: URL, addresses: readonly string[]): string[] {
    const permitted = addresses.filter((address) => this.#permits(url, address))
    if (permitted.length > 0) return permitted
    const refused = addresses.find((address) => !isPublic(address))
    if (refused === undefined) throw this.#plain(url)
    const place =
      refused === literalOf(url) ? `${url.origin} is` : `${url.origin} leads to ${refused},`
    throw new OutgoingRefusedError(
      `${place} no public address, and in no network that is allowed${this.#hint}`,
    )
  }

  #permits(url: URL, address: string): boolean {
    if (url.protocol === 'https:' && isPublic(address)) return true
    const parsed = parseAddress(address)
    return (
      parsed !== undefined &&
      this.#allowed.some(([network, bits]) => {
        return network.kind() === parsed.kind() && parsed.match(network, bits)
      })
    )
  }

  #plain(url: URL): OutgoingRefusedError {
    return new OutgoingRefusedError(
      `${url.origin} is plain http, which only networks that are allowed may be asked by: say https${this.#hint}`,
    )
  }
}

/** The host when it is an address; the parser of URLs has brought it into its usual form. */
function literalOf({ hostname }: URL): string | undefined {
  const address = hostname.replace(/^\[|\]$/g, '')
  return isIP(address) === 0 ? undefined : address
}

function isPublic(address: string): boolean {
  const parsed = parseAddress(address)
  if (parsed === undefined || parsed.range() !== 'unicast') return false
  if (parsed instanceof ipaddr.IPv4) return true
  return parsed.match(GLOBAL_UNICAST) && !isIsatap(parsed)
}

/** RFC 5214, 6.1: behind any prefix, an IPv4 address of the tunnel's other end. */
function isIsatap({ parts }: ipaddr.IPv6): boolean {
  return (parts[4] === 0 || parts[4] === 0x200) && parts[5] === 0x5efe
}

/** Undefined for what is no plain address, also for one with a zone, which is never public. */
function parseAddress(address: string) {
  return isIP(address) === 0 || address.includes('%') ? undefined : ipaddr.parse(address)
}

function parseNetwork(text: string): Network {
  if (text.includes('/')) return ipaddr.parseCIDR(text)
  const address = ipaddr.parse(text)
  return [address, address.kind() === 'ipv6' ? 128 : 32]
}

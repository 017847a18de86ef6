import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** A parsed IP address, made only by `parseAddress`. */
export type IpAddress = ipaddr.IPv4 | ipaddr.IPv6

/** A parsed network: its address, and how many leading bits count. Made only by `parseNetwork`. */
export type Network = readonly [address: IpAddress, bits: number]

/** Returns undefined unless the text is an IP address in the usual notation. */
export function parseAddress(text: string): IpAddress | undefined {
  return isIP(text) === 0 ? undefined : ipaddr.parse(withoutDottedTail(text))
}

/** Returns undefined unless the text is an address or a network such as `10.0.0.0/8`. */
export function parseNetwork(text: string): Network | undefined {
  const [start = '', bits, ...more] = text.split('/')
  const address = parseAddress(start)
  if (address === undefined || more.length > 0) return undefined
  const bitsMax = address.kind() === 'ipv6' ? 128 : 32
  if (bits === undefined) return [address, bitsMax]
  return /^\d+$/.test(bits) && Number(bits) <= bitsMax ? [address, Number(bits)] : undefined
}

/** True when address and network are of one IP version and the address is in the network. */
export function isInNetwork(address: IpAddress, [network, bits]: Network): boolean {
  return address.kind() === network.kind() && address.match(network, bits)
}

/** True when every address of `inner` is in `outer`, and both are of one IP version. */
export function isNetworkWithin([address, bits]: Network, outer: Network): boolean {
  return bits >= outer[1] && isInNetwork(address, outer)
}

/**
 * Addresses that look public and belong to the network of a cloud: Azure's platform, with its metadata and key service.
 * The metadata addresses of other clouds are link-local, shared (100.64.0.0/10), reserved or unique local addresses.
 */
const CLOUD_PLATFORMS: ReadonlySet<string> = new Set(['168.63.129.16'])

// All other IPv6 networks are not public: loopback, mapped and translated IPv4, private networks, links.
const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3')

/**
 * True for a public address. An IPv6 address that embeds an IPv4 address (mapped, NAT64, 6to4, Teredo,
 * ISATAP) is never public, and neither is one with a zone.
 */
export function isPublicAddress(address: IpAddress): boolean {
  if (address.range() !== 'unicast') return false
  if (address instanceof ipaddr.IPv4) return !CLOUD_PLATFORMS.has(address.toString())
  return address.zoneId === undefined && address.match(GLOBAL_UNICAST) && !isIsatap(address)
}

/** True for an address of the machine itself, such as `127.0.0.1` or `::1`. */
export function isLoopbackAddress(text: string): boolean {
  return parseAddress(text)?.range() === 'loopback'
}

/** RFC 5214, section 6.1: any prefix, then the IPv4 address of the other end of the tunnel. */
function isIsatap({ parts }: ipaddr.IPv6): boolean {
  return (parts[4] === 0 || parts[4] === 0x200) && parts[5] === 0x5efe
}

/** A list of networks that addresses are compared with. */
export class NetworkList {
  readonly #networks: readonly Network[]

  constructor(networks: readonly Network[]) {
    this.#networks = networks
  }

  /** True when one of the networks has the address. IPv4 counts as IPv4-mapped IPv6, and the reverse. */
  has(text: string): boolean {
    if (this.#networks.length === 0) return false
    const address = parseAddress(text)
    if (address === undefined) return false
    const forms = [address, mapped(address)]
    return this.#networks.some((network) =>
      forms.some((form) => form !== undefined && isInNetwork(form, network)),
    )
  }
}

/** A list without networks, which has no address. */
export const NO_NETWORKS = new NetworkList([])

/** Returns undefined when one of the texts is neither an address nor a network. */
export function parseNetworks(texts: readonly string[]): NetworkList | undefined {
  const networks = texts.map(parseNetwork).filter((network) => network !== undefined)
  return networks.length === texts.length ? new NetworkList(networks) : undefined
}

/** Returns the error text for the first text that is neither an address nor a network. */
export function findNetworkProblem(texts: readonly string[]): string | undefined {
  const wrong = texts.find((text) => parseNetwork(text) === undefined)
  return wrong === undefined
    ? undefined
    : `"${wrong.slice(0, SHOWN_LENGTH_MAX)}" is not an address or a network such as 10.0.0.0/8`
}

const SHOWN_LENGTH_MAX = 64

/** Returns IPv4 in its own notation when it is mapped into IPv6, and any other text unchanged. */
export function unmapAddress(text: string): string {
  const address = text.includes(':') ? parseAddress(text) : undefined
  return address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress()
    ? address.toIPv4Address().toString()
    : text
}

/** Returns the /64 of an IPv6 address, all of which belongs to one client, and any other text unchanged. */
export function clientNetwork(text: string): string {
  const address = text.includes(':') ? parseAddress(text) : undefined
  if (!(address instanceof ipaddr.IPv6)) return text
  const groups = address.parts.slice(0, 4).map((part) => part.toString(16))
  return `${groups.join(':')}::/64`
}

/** The same address in the other IP version, if there is one. */
function mapped(address: IpAddress): IpAddress | undefined {
  if (address instanceof ipaddr.IPv4) return address.toIPv4MappedAddress()
  return address.isIPv4MappedAddress() ? address.toIPv4Address() : undefined
}

const DOTTED_TAIL = /(\d+)\.(\d+)\.(\d+)\.(\d+)(?=%|$)/

/** ipaddr.js reads `::192.0.2.1` as IPv4-mapped; RFC 4291, section 2.5.5 says that it is not. */
function withoutDottedTail(text: string): string {
  if (!text.includes(':')) return text
  return text.replace(DOTTED_TAIL, (_, ...bytes: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = bytes.slice(0, 4).map(Number)
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`
  })
}

import { BlockList, isIP } from 'node:net'

/** Undefined when one of the texts is neither an address nor a network such as `10.0.0.0/8`. */
export function parseNetworks(texts: readonly string[]): BlockList | undefined {
  const networks = new BlockList()
  for (const text of texts) {
    const [address = '', bits, ...more] = text.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    const bitsMax = family === 'ipv6' ? 128 : 32
    const prefix = bits === undefined ? bitsMax : Number(bits)
    const right = isIP(address) !== 0 && more.length === 0 && /^\d*$/.test(bits ?? '')
    if (!right || bits === '' || prefix > bitsMax) return undefined
    networks.addSubnet(address, prefix, family)
  }
  return networks
}

/** True when the address lies in one of the networks. */
export function isWithin(networks: BlockList, address: string): boolean {
  const version = isIP(address)
  return version !== 0 && networks.check(address, version === 6 ? 'ipv6' : 'ipv4')
}

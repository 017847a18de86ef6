import type { IncomingMessage } from 'node:http'
import { type BlockList, isIP } from 'node:net'

const FORWARDED_MAX = 32

/**
 * The client's address: the nearest one in X-Forwarded-For that is not a trusted proxy. Without a
 * trusted proxy at the other end, the header is what anybody may have written, and is not read.
 */
export function clientAddress(req: IncomingMessage, trusted: BlockList): string {
  const peer = plain(req.socket.remoteAddress ?? '')
  const header = req.headers['x-forwarded-for']
  if (header === undefined || !isTrusted(peer, trusted)) return peer
  const hops = [header].flat().join(',').split(',').slice(-FORWARDED_MAX)
  let address = peer
  for (const hop of hops.reverse().map((part) => plain(part.trim()))) {
    if (isIP(hop) === 0) break
    address = hop
    if (!isTrusted(hop, trusted)) break
  }
  return address
}

function isTrusted(address: string, trusted: BlockList): boolean {
  const version = isIP(address)
  return version !== 0 && trusted.check(address, version === 6 ? 'ipv6' : 'ipv4')
}

/** IPv4 addresses arrive mapped into IPv6 on a socket that takes both. */
function plain(address: string): string {
  return address.startsWith('::ffff:') && isIP(address.slice(7)) === 4 ? address.slice(7) : address
}

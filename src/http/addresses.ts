import type { IncomingMessage } from 'node:http'
import { type NetworkList, parseAddress, unmapAddress } from '../networks/networks.ts'

const FORWARDED_MAX = 32

/**
 * The client's address: the nearest one in X-Forwarded-For that is not a trusted proxy. Without a
 * trusted proxy at the other end, the header is what anybody may have written, and is not read.
 */
export function clientAddress(req: IncomingMessage, trusted: NetworkList): string {
  const peer = unmapAddress(req.socket.remoteAddress ?? '')
  const header = req.headers['x-forwarded-for']
  if (header === undefined || !trusted.has(peer)) return peer
  const hops = [header].flat().join(',').split(',').slice(-FORWARDED_MAX)
  let address = peer
  for (const hop of hops.reverse().map((part) => unmapAddress(part.trim()))) {
    if (parseAddress(hop) === undefined) break
    address = hop
    if (!trusted.has(hop)) break
  }
  return address
}

const HOST = /^[A-Za-z0-9._[\]:-]{1,255}$/

/**
 * How the client reached the registry, such as `https://registry.example.org`: what the operator
 * says, or what the request does. X-Forwarded-Proto and X-Forwarded-Host are believed as the address is.
 */
export function publicBaseUrl(
  req: IncomingMessage,
  trusted: NetworkList,
  publicUrl: string | undefined,
): string {
  if (publicUrl !== undefined) return publicUrl
  const proxied = trusted.has(unmapAddress(req.socket.remoteAddress ?? ''))
  const forwarded = (name: string) => {
    const value = proxied ? [req.headers[name]].flat()[0] : undefined
    return value?.split(',')[0]?.trim()
  }
  const scheme = forwarded('x-forwarded-proto') === 'https' ? 'https' : 'http'
  const host = forwarded('x-forwarded-host') ?? req.headers.host ?? ''
  // What nobody could have meant as a host is not repeated.
  return `${scheme}://${HOST.test(host) ? host : 'localhost'}`
}

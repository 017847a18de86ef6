import type { IncomingMessage } from 'node:http'
import { type NetworkList, parseAddress, unmapAddress } from '../networks/networks.ts'

const FORWARDED_MAX = 32

/**
 * Returns the client's address: the nearest one in X-Forwarded-For that is not a trusted proxy. The
 * header counts only when a trusted proxy sent the request, because any client can write it.
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
 * Returns the URL by which the client reaches the registry, such as `https://registry.example.org`:
 * the configured one, or else the one of the request. X-Forwarded-Proto and X-Forwarded-Host count
 * only when a trusted proxy sent the request.
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
  // A malformed host is not repeated.
  return `${scheme}://${HOST.test(host) ? host : 'localhost'}`
}

import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { type NetworkList, parseAddress, unmapAddress } from '../networks/networks.ts'
import { clientElement, parseForwarded, withoutPort } from './forwarded.ts'

const FORWARDED_MAX = 32

/**
 * Returns the client's address: the nearest one in X-Forwarded-For, or else in Forwarded, that is not a
 * trusted proxy. The headers count only when a trusted proxy sent the request, because any client can
 * write them. Another sender of such a header is reported by its address.
 */
export function clientAddress(
  req: IncomingMessage,
  trusted: NetworkList,
  onUntrusted: (address: string) => void = () => {},
): string {
  const peer = unmapAddress(req.socket.remoteAddress ?? '')
  const { headers } = req
  if (headers['x-forwarded-for'] === undefined && headers.forwarded === undefined) return peer
  if (!trusted.has(peer)) {
    onUntrusted(peer)
    return peer
  }
  let address = peer
  for (const hop of hopsOf(headers).slice(-FORWARDED_MAX).reverse().map(withoutPort)) {
    if (parseAddress(hop) === undefined) break
    address = hop
    if (!trusted.has(hop)) break
  }
  return address
}

function hopsOf(headers: IncomingHttpHeaders): string[] {
  const header = headers['x-forwarded-for']
  if (header === undefined) {
    return parseForwarded(headers.forwarded ?? '').map((element) => element.get('for') ?? '')
  }
  return [header]
    .flat()
    .join(',')
    .split(',')
    .map((part) => part.trim())
}

const HOST = /^[A-Za-z0-9._[\]:-]{1,255}$/

/**
 * Returns the URL by which the client reaches the registry, such as `https://registry.example.org`:
 * the configured one, or else the one of the request. X-Forwarded-Proto, -Host and -Port, or else
 * Forwarded, count only when a trusted proxy sent the request.
 */
export function publicBaseUrl(
  req: IncomingMessage,
  trusted: NetworkList,
  publicUrl: string | undefined,
): string {
  if (publicUrl !== undefined) return publicUrl
  const proxied = isProxied(req, trusted)
  const element =
    proxied && req.headers.forwarded !== undefined
      ? clientElement(parseForwarded(req.headers.forwarded), trusted)
      : undefined
  const forwarded = (name: string) =>
    proxied ? firstOf(req.headers[`x-forwarded-${name}`]) : undefined
  const scheme = (forwarded('proto') ?? element?.get('proto')) === 'https' ? 'https' : 'http'
  const host = forwarded('host') ?? element?.get('host') ?? req.headers.host ?? ''
  // A malformed host is not repeated.
  return `${scheme}://${withPort(HOST.test(host) ? host : 'localhost', forwarded('port'))}`
}

/**
 * Returns the same, with `https` when a proxy says so that is not trusted, and then calls `onUntrusted`.
 * Such a proxy terminates TLS, and a client must not send its password to a URL with `http`. The answer
 * goes to no other client, and must not be cached.
 */
export function clientBaseUrl(
  req: IncomingMessage,
  trusted: NetworkList,
  publicUrl: string | undefined,
  onUntrusted: () => void,
): string {
  const base = publicBaseUrl(req, trusted, publicUrl)
  if (publicUrl !== undefined || isProxied(req, trusted)) return base
  const { headers } = req
  const isHttps =
    firstOf(headers['x-forwarded-proto']) === 'https' ||
    parseForwarded(headers.forwarded ?? '').some((element) => element.get('proto') === 'https')
  if (!isHttps) return base
  onUntrusted()
  return base.replace(/^http:/, 'https:')
}

function isProxied(req: IncomingMessage, trusted: NetworkList): boolean {
  return trusted.has(unmapAddress(req.socket.remoteAddress ?? ''))
}

function firstOf(header: string | string[] | undefined): string | undefined {
  return [header].flat()[0]?.split(',')[0]?.trim().toLowerCase()
}

/** Ports 80 and 443 are left out: a proxy behind another one reports its own. */
function withPort(host: string, port: string | undefined): string {
  const hasPort = /:\d+$/.test(host.replace(/^\[[^\]]*\]/, ''))
  if (port === undefined || hasPort || !/^\d{1,5}$/.test(port)) return host
  return ['80', '443'].includes(port) ? host : `${host}:${port}`
}

import { isLoopbackAddress } from '../networks/networks.ts'
import type { RouteContext } from './route.ts'

/** The cookie with the secret of a session. */
export type SessionCookie = {
  readonly name: string
  /** True over https: a browser then sends it over https only. */
  readonly isSecure: boolean
}

/** The prefix makes browsers accept the cookie from this host alone, and not from its parent domain (RFC 6265bis). */
const OVER_HTTPS: SessionCookie = { name: '__Host-rookery', isSecure: true }
const ON_THIS_MACHINE: SessionCookie = { name: 'rookery', isSecure: false }
const LOOPBACK_NAME = /^(?:.+\.)?localhost$/

/**
 * Returns the cookie for requests to `baseUrl`, the URL by which the client at `address` reaches the registry. Undefined for plain
 * http, where others could read the cookie: only a browser on the same machine may use that.
 */
export function sessionCookieFor(baseUrl: string, address: string): SessionCookie | undefined {
  const { protocol, hostname } = new URL(baseUrl)
  if (protocol === 'https:') return OVER_HTTPS
  const name = hostname.replace(/^\[(.*)\]$/, '$1')
  const isOwnName = LOOPBACK_NAME.test(name) || isLoopbackAddress(name)
  return isOwnName && isLoopbackAddress(address) ? ON_THIS_MACHINE : undefined
}

/** Returns the secret of the session that the request has as a cookie. `baseUrl` is called when there is any cookie. */
export function findSessionSecret(
  ctx: RouteContext,
  address: string,
  baseUrl: () => string,
): string | undefined {
  if (ctx.headers.cookie === undefined) return undefined
  const cookie = sessionCookieFor(baseUrl(), address)
  return cookie === undefined ? undefined : ctx.cookies.get(cookie.name)
}

/** Makes the browser send the secret with its next requests to this registry, for so many seconds. 0 seconds remove the cookie. */
export function setSessionCookie(
  ctx: RouteContext,
  { name, isSecure }: SessionCookie,
  secret: string,
  seconds: number,
): void {
  const attributes = ['Path=/', `Max-Age=${seconds}`, 'HttpOnly', 'SameSite=Lax']
  if (isSecure) attributes.push('Secure')
  ctx.append('Set-Cookie', [`${name}=${secret}`, ...attributes].join('; '))
}

import type { IncomingHttpHeaders } from 'node:http'
import { denied } from '../oci/errors.ts'

const VALUE_SHOWN_MAX = 255

/**
 * Refuses a request that a page of another site made a browser send: it may carry the login that the
 * browser remembers, and be inside the browser's network. Clients other than browsers send neither
 * header. `baseUrl` returns the URL by which the client reaches the registry. Throws DENIED.
 */
export function assertNotFromAnotherSite(
  headers: IncomingHttpHeaders,
  baseUrl: () => string,
): void {
  const { origin } = headers
  const site = headers['sec-fetch-site']
  if (site === undefined && origin === undefined) return
  const isOwnSite = site === undefined || site === 'same-origin' || site === 'none'
  if (isOwnSite && (origin === undefined || isOwnOrigin(origin, headers.host, baseUrl()))) return
  const sent = origin === undefined ? `Sec-Fetch-Site: ${site}` : `Origin: ${origin}`
  throw denied(
    `a page of another site may not send this request (${sent.slice(0, VALUE_SHOWN_MAX)}); ` +
      'when it is a page of this registry, ROOKERY_PUBLIC_URL must be the URL that browsers use',
  )
}

/** The host is compared, too, because a proxy may terminate TLS and not report it. */
function isOwnOrigin(origin: string, host: string | undefined, baseUrl: string): boolean {
  if (origin === baseUrl) return true
  return host !== undefined && (origin === `http://${host}` || origin === `https://${host}`)
}

/**
 * True for a browser. A Basic challenge would make it ask for a password and remember it. Browsers send
 * Sec-Fetch-Site only over HTTPS and to the same machine.
 */
export function isBrowser(headers: IncomingHttpHeaders): boolean {
  return (
    headers['sec-fetch-site'] !== undefined ||
    headers['sec-fetch-dest'] !== undefined ||
    headers['sec-fetch-mode'] === 'navigate' ||
    headers['user-agent']?.startsWith('Mozilla/') === true ||
    headers.accept?.includes('text/html') === true
  )
}

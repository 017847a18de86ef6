/**
 * Headers of every response: a browser that opens it runs nothing, loads nothing, and shows it in no
 * frame. Tenants choose the bytes and texts of many responses.
 */
const INERT_HEADERS: Readonly<Record<string, string>> = {
  'X-Content-Type-Options': 'nosniff',
  'Content-Security-Policy':
    "sandbox; default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
}

const TRANSPORT_SECURITY = 'Strict-Transport-Security'
const TRANSPORT_SECURITY_SECONDS = 365 * 86_400

/** The same headers as text, for a response that is written to the socket. */
export const INERT_HEADER_LINES: readonly string[] = Object.entries(INERT_HEADERS).map(
  ([name, value]) => `${name}: ${value}`,
)

/** The names in lower case: an error response keeps these headers. */
export const INERT_HEADER_NAMES: readonly string[] = [
  ...Object.keys(INERT_HEADERS),
  TRANSPORT_SECURITY,
].map((name) => name.toLowerCase())

/** Returns the headers of every response. */
export function responseHeaders(publicUrl: string | undefined): Readonly<Record<string, string>> {
  // The header applies to all ports of a host, so that a registry beside other servers must not send it.
  const isHostsOwn = publicUrl !== undefined && /^https:\/\/[^:]+(\]|:443)?$/.test(publicUrl)
  if (!isHostsOwn) return INERT_HEADERS
  return { ...INERT_HEADERS, [TRANSPORT_SECURITY]: `max-age=${TRANSPORT_SECURITY_SECONDS}` }
}

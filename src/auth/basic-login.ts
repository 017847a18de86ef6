export type BasicLogin = { readonly user: string; readonly password: string }

// Longer than any password, and than any access token, which clients may send as the password.
const ENCODED_LENGTH_MAX = 48 * 1024
const BASIC = /^Basic +([A-Za-z0-9+/_-]+={0,2}) *$/i

/** Parses a Basic authorization (RFC 7617). Returns undefined when it is malformed. */
export function parseBasic(header: string): BasicLogin | undefined {
  if (header.length > ENCODED_LENGTH_MAX) return undefined
  const encoded = BASIC.exec(header)?.[1]
  if (encoded === undefined) return undefined
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon === -1) return undefined
  return { user: text.slice(0, colon), password: text.slice(colon + 1) }
}

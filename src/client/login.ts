/** How a client shows who it is. */
export type Login =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** A registry's own token, sent as it is. */
  | { readonly kind: 'token'; readonly token: string }
  /** What `docker login` keeps instead of a password: the token endpoint gives a token for it. */
  | { readonly kind: 'identity-token'; readonly token: string }

/** The Basic authorization of a user (RFC 7617). */
export function basicHeader(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}

/** When a JSON web token expires, in seconds since 1970; undefined for other tokens. Not verified. */
export function findExpiry(token: string): number | undefined {
  try {
    const claims: unknown = JSON.parse(
      Buffer.from(token.split('.')[1] ?? '', 'base64url').toString(),
    )
    if (typeof claims !== 'object' || claims === null || !('exp' in claims)) return undefined
    return typeof claims.exp === 'number' ? claims.exp : undefined
  } catch {
    // It is no token that can be read, and the registry will say whether it believes it.
    return undefined
  }
}

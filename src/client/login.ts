/** A client's login at a registry. */
export type Login =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** A registry's own token, sent unchanged. */
  | { readonly kind: 'token'; readonly token: string }
  /** Stored by `docker login` instead of a password; the token endpoint exchanges it for a token. */
  | { readonly kind: 'identity-token'; readonly token: string }

/** Formats a Basic Authorization header (RFC 7617). */
export function basicHeader(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}

/** Reads the expiry of a JSON Web Token, unverified, in seconds since 1970. Undefined for other tokens. */
export function findExpiry(token: string): number | undefined {
  try {
    const claims: unknown = JSON.parse(
      Buffer.from(token.split('.')[1] ?? '', 'base64url').toString(),
    )
    if (typeof claims !== 'object' || claims === null || !('exp' in claims)) return undefined
    return typeof claims.exp === 'number' ? claims.exp : undefined
  } catch {
    // An opaque token: only the registry can check it.
    return undefined
  }
}

import { isObject } from '../oci/descriptor.ts'

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
  const { exp } = claimsOf(token)
  return typeof exp === 'number' ? exp : undefined
}

/**
 * Reads the access of a registry's token, unverified, as scopes such as `builds/www (pull, push)` (distribution, "Token
 * Authentication"). Undefined for other tokens.
 */
export function findAccess(token: string): string | undefined {
  const { access } = claimsOf(token)
  if (!Array.isArray(access)) return undefined
  const texts = access.flatMap((entry: unknown) => {
    if (!isObject(entry) || typeof entry.name !== 'string') return []
    const actions = Array.isArray(entry.actions) ? entry.actions.join(', ') : ''
    return [`${entry.type === 'repository' ? '' : `${entry.type} `}${entry.name} (${actions})`]
  })
  return texts.length === 0 ? undefined : texts.join(', ')
}

function claimsOf(token: string): Readonly<Record<string, unknown>> {
  try {
    const claims: unknown = JSON.parse(
      Buffer.from(token.split('.')[1] ?? '', 'base64url').toString(),
    )
    return isObject(claims) ? claims : {}
  } catch {
    // An opaque token: only the registry can check it.
    return {}
  }
}

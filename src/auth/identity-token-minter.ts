import { randomUUID } from 'node:crypto'
import { SignJWT } from 'jose'
import { LRUCache } from 'lru-cache'
import { entriesMax } from '../async/entries-max.ts'
import type { RegistryIssuer } from './access-tokens.ts'
import type { KeyRing } from './signing-keys.ts'

const IDENTITY_SECONDS = 300
/** Shortest remaining lifetime of a returned token: clocks differ, and requests wait. */
const LEFT_SECONDS_MIN = 120
const CACHED_MAX = 10_000

type Minted = { readonly token: string; readonly kid: string; readonly freshUntil: number }

/**
 * Mints tokens by which other services recognize this registry (RFC 7519), signed by the published keys
 * for one audience. The registry itself does not accept them: access tokens have another type.
 */
export class IdentityTokenMinter {
  readonly #keys: KeyRing
  readonly #issuer: RegistryIssuer
  readonly #now: () => number
  readonly #minted = new LRUCache<string, Minted>(entriesMax(CACHED_MAX))

  /** `now` is in milliseconds since the epoch. */
  constructor(keys: KeyRing, issuer: RegistryIssuer, now: () => number = Date.now) {
    this.#keys = keys
    this.#issuer = issuer
    this.#now = now
  }

  /** Returns a token for `audience` with these claims, the same for some minutes. Throws UNAVAILABLE without a signing key. */
  async mint(
    audience: string,
    subject: string,
    claims: Readonly<Record<string, string>> = {},
  ): Promise<string> {
    const key = this.#keys.signingKey()
    const cacheKey = JSON.stringify([audience, subject, claims])
    const now = this.#now()
    const cached = this.#minted.get(cacheKey)
    if (cached !== undefined && cached.kid === key.kid && now < cached.freshUntil) {
      return cached.token
    }
    const seconds = Math.floor(now / 1000)
    const token = await new SignJWT({ ...claims })
      .setProtectedHeader({ alg: key.algorithm, kid: key.kid, typ: 'JWT' })
      .setIssuer(this.#issuer.url)
      .setAudience(audience)
      .setSubject(subject)
      .setIssuedAt(seconds)
      .setNotBefore(seconds)
      .setExpirationTime(seconds + IDENTITY_SECONDS)
      .setJti(randomUUID())
      .sign(key.privateKey)
    const freshUntil = now + (IDENTITY_SECONDS - LEFT_SECONDS_MIN) * 1000
    this.#minted.set(cacheKey, { token, kid: key.kid, freshUntil })
    return token
  }
}

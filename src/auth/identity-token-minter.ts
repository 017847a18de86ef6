import { randomUUID } from 'node:crypto'
import { SignJWT } from 'jose'
import { LRUCache } from 'lru-cache'
import type { RegistryIssuer } from './access-tokens.ts'
import type { KeyRing } from './signing-keys.ts'

const IDENTITY_SECONDS = 300
/** One that is given out is good for so long at least: clocks differ, and requests wait. */
const LEFT_SECONDS_MIN = 120
const REMEMBERED_MAX = 10_000

type Minted = { readonly token: string; readonly kid: string; readonly freshUntil: number }

/**
 * Tokens by which others recognize the registry itself (RFC 7519): they are signed by the published
 * keys, for one audience, and let nobody into the registry, because they are of another type.
 */
export class IdentityTokenMinter {
  readonly #keys: KeyRing
  readonly #issuer: RegistryIssuer
  readonly #now: () => number
  readonly #minted = new LRUCache<string, Minted>({ max: REMEMBERED_MAX })

  /** `now` is in milliseconds since the epoch. */
  constructor(keys: KeyRing, issuer: RegistryIssuer, now: () => number = Date.now) {
    this.#keys = keys
    this.#issuer = issuer
    this.#now = now
  }

  /** A token for `audience`; the same for some minutes. Throws UNAVAILABLE without a key. */
  async mint(audience: string, subject: string): Promise<string> {
    const key = this.#keys.signingKey()
    const place = JSON.stringify([audience, subject])
    const now = this.#now()
    const known = this.#minted.get(place)
    if (known !== undefined && known.kid === key.kid && now < known.freshUntil) return known.token
    const seconds = Math.floor(now / 1000)
    const token = await new SignJWT({})
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
    this.#minted.set(place, { token, kid: key.kid, freshUntil })
    return token
  }
}

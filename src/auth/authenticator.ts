import { hash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { entriesMax } from '../async/entries-max.ts'
import {
  type CredentialRow,
  findCredentialBySecret,
  touchCredential,
} from '../db/auth/credentials.ts'
import { findCredentialByRefreshToken } from '../db/auth/refresh-tokens.ts'
import type { Queryable } from '../db/database.ts'
import { loginEnded, RegistryError, unauthorized } from '../oci/errors.ts'
import { type AccessTokens, InvalidTokenError, isTokenLike } from './access-tokens.ts'
import {
  ANONYMOUS_AUTHENTICATION,
  type Authentication,
  authenticationOfCredential,
  authenticationOfPassword,
  authenticationOfToken,
  type CachedAuthentication,
} from './authentications.ts'
import { parseBasic } from './basic-login.ts'
import { ADMIN_USER, secretSubject } from './credentials.ts'
import { grantVersionSubject } from './hosts/host-access.ts'
import { UPLOAD_FINISH_SECONDS_MAX } from './lifetimes.ts'
import type { LoginThrottle } from './login-throttle.ts'
import type { RevocationList } from './revocations.ts'
import { hashSecret, isSecretLike, matchesSecretHash } from './secrets.ts'

/** `unauthorized`: unknown, wrong, expired or revoked. `throttled`: its address was wrong too often. */
export const REFUSAL_REASONS = ['unauthorized', 'throttled'] as const
export type RefusalReason = (typeof REFUSAL_REASONS)[number]

export type AuthenticatorOptions = {
  readonly db: Queryable
  readonly tokens: AccessTokens
  readonly revocations: RevocationList
  readonly loginThrottle: LoginThrottle
  /** Hash of the password that the environment sets for the user `admin`. */
  readonly adminPasswordSha256: Buffer | undefined
}

const CACHED_MAX = 10_000
/** Lifetime of a cached credential. The revocation list ends it sooner. */
export const CREDENTIAL_MILLISECONDS_MAX = 60_000
const FINISH_MILLISECONDS_MAX = UPLOAD_FINISH_SECONDS_MAX * 1000
const BEARER = /^Bearer +([\w.~+/-]+=*) *$/i

/** Finds the caller of a request from its Authorization header. Verified signatures are cached. */
export class Authenticator {
  readonly #options: AuthenticatorOptions
  readonly #cache = new LRUCache<string, CachedAuthentication>(entriesMax(CACHED_MAX))
  /** Called for each credential, token or password that is refused. */
  onRefused: (reason: RefusalReason) => void = () => {}

  constructor(options: AuthenticatorOptions) {
    this.#options = options
  }

  /**
   * Returns the caller. Without a header, and for an empty user with an empty password, it is anonymous.
   * Throws UNAUTHORIZED for invalid credentials, TOOMANYREQUESTS for an address that guesses passwords, and
   * UNAVAILABLE while the registry cannot read its revocation list.
   */
  async authenticate(authorization: string | undefined, address: string): Promise<Authentication> {
    if (authorization === undefined) return ANONYMOUS_AUTHENTICATION
    // The cache keeps hashes of secrets, not secrets.
    const key = hash('sha256', authorization, 'base64')
    try {
      const cached =
        this.#findCached(key) ?? (await this.#authenticateUncached(authorization, key, address))
      return await this.requireUsable(cached, address)
    } catch (error) {
      this.#countRefusal(error)
      throw error
    }
  }

  #countRefusal(error: unknown): void {
    if (!(error instanceof RegistryError)) return
    if (error.code === 'UNAUTHORIZED') this.onRefused('unauthorized')
    else if (error.code === 'TOOMANYREQUESTS') this.onRefused('throttled')
  }

  /** A host with a secret has another grant at once: its secret stays valid. */
  #findCached(key: string): CachedAuthentication | undefined {
    const cached = this.#cache.get(key)
    const { credential, caller } = cached ?? {}
    if (credential === undefined || caller?.kind !== 'holder' || caller.host === undefined) {
      return cached
    }
    const isChanged = this.#options.revocations.hasWithoutRefresh([
      grantVersionSubject(caller.host),
    ])
    return isChanged ? undefined : cached
  }

  /** Does the same for a user name and a password from a form. */
  async authenticatePassword(
    user: string,
    password: string,
    address: string,
  ): Promise<Authentication> {
    const encoded = Buffer.from(`${user}:${password}`).toString('base64')
    return this.authenticate(`Basic ${encoded}`, address)
  }

  /** Authenticates the holder of a credential, which a refresh token named. Throws UNAUTHORIZED. */
  async authenticateCredential(
    credential: CredentialRow,
    address: string,
  ): Promise<Authentication> {
    if (credential.revokedAt !== null) throw loginEnded('the credential was revoked')
    // No secret was presented.
    const row = { ...credential, secretUntil: null, secretSha256: Buffer.alloc(0), host: null }
    return this.requireUsable(authenticationOfCredential(row, [], 'basic'), address)
  }

  /**
   * Looks up a secret with 256 random bits of this kind. A found one is returned from any address; an unknown one
   * is UNAUTHORIZED, or TOOMANYREQUESTS for an address that sends many different ones.
   */
  async findBySecret<T>(
    kind: 'refresh token' | 'upload URL' | 'enrolment code' | 'session',
    secret: string,
    address: string,
    find: () => Promise<T | undefined> | undefined,
  ): Promise<T> {
    const found = await find()
    if (found !== undefined) return found
    try {
      this.#options.loginThrottle.recordFailure(address, kind, secret)
      throw loginEnded(`the ${kind} is unknown or has expired`)
    } catch (error) {
      this.#countRefusal(error)
      throw error
    }
  }

  /** Verifies a header. The result is the same from any address; address checks follow on each request. */
  async #authenticateUncached(
    authorization: string,
    key: string,
    address: string,
  ): Promise<CachedAuthentication> {
    try {
      const authentication = await this.#identify(authorization, address)
      const ttl = authentication.credential === undefined ? 0 : CREDENTIAL_MILLISECONDS_MAX
      this.#cache.set(key, authentication, { ttl })
      return authentication
    } catch (error) {
      throw error instanceof InvalidTokenError ? unauthorized(error.message, error) : error
    }
  }

  /** Checks all that may have changed since a header or a session was verified. Throws UNAUTHORIZED and UNAVAILABLE. */
  async requireUsable(cached: CachedAuthentication, address: string): Promise<Authentication> {
    const { caller, subjects, networkList, kid, expiresAt } = cached
    if (kid !== undefined && !this.#options.tokens.isKeyTrusted({ kid })) {
      throw unauthorized('the key that signed the token is no longer in use')
    }
    if (subjects.length > 0) {
      const fresh = this.#options.revocations.hasWithoutRefresh(subjects)
      if (fresh ?? (await this.#options.revocations.has(subjects))) {
        throw loginEnded('the credential or token was revoked')
      }
    }
    if (networkList !== undefined && !networkList.has(address)) {
      throw unauthorized(
        `the credential or token may not be used from ${address}, but only from the networks that it names`,
      )
    }
    const overdue = Date.now() - expiresAt
    if (overdue < 0) return cached
    if (
      caller.kind !== 'holder' ||
      caller.tokenId === undefined ||
      overdue > FINISH_MILLISECONDS_MAX
    ) {
      throw loginEnded('the credential or token has expired')
    }
    return { ...cached, caller: { ...caller, expiredAt: new Date(expiresAt) } }
  }

  async #identify(authorization: string, address: string): Promise<CachedAuthentication> {
    const token = BEARER.exec(authorization)?.[1]
    if (token !== undefined) {
      return isTokenLike(token) ? this.#byToken(token) : this.#bySecret(token, undefined, address)
    }
    const credentials = parseBasic(authorization)
    if (credentials === undefined) {
      throw unauthorized('send a token as Bearer, or a credential as Basic authorization')
    }
    const { user, password } = credentials
    // skopeo and podman without credentials answer a challenge like this.
    if (user === '' && password === '') return ANONYMOUS_AUTHENTICATION
    // Clients that only support passwords send a token as the password, with any user name.
    return isTokenLike(password) ? this.#byToken(password) : this.#bySecret(password, user, address)
  }

  /** A signature cannot be guessed, so tokens are verified without the login throttle. */
  async #byToken(token: string): Promise<CachedAuthentication> {
    return authenticationOfToken(await this.#options.tokens.verify(token))
  }

  /**
   * Throws UNAUTHORIZED for a refresh token of this registry in place of a password: containerd sends one like this after
   * it was refused. It is no guess, so it does not count as one.
   */
  async #refuseRefreshToken(secret: string, address: string): Promise<void> {
    if (!isSecretLike(secret, 'refresh')) return
    const found = await findCredentialByRefreshToken(this.#options.db, hashSecret(secret))
    if (found === undefined) return
    if (found.isExpired) throw loginEnded('the refresh token has expired')
    await this.authenticateCredential(found, address)
    throw unauthorized('a refresh token is no password: POST it with grant_type=refresh_token')
  }

  /** `user` is undefined when the secret came without a user name. */
  async #bySecret(
    secret: string,
    user: string | undefined,
    address: string,
  ): Promise<CachedAuthentication> {
    const { adminPasswordSha256, db, loginThrottle } = this.#options
    const isGenerated = isSecretLike(secret, 'credential')
    // Compared for every user name, so that the duration reveals nothing.
    if (
      adminPasswordSha256 !== undefined &&
      matchesSecretHash(secret, adminPasswordSha256) &&
      user === ADMIN_USER
    ) {
      // A person chose this password, so it could be guessed: a guesser must not learn that it is right.
      if (!isGenerated) loginThrottle.assertBelowLimit(address, user)
      return authenticationOfPassword('basic')
    }
    // No wait before the count of a text that only guesses a password: concurrent guesses are counted, too.
    const row = isGenerated ? await findCredentialBySecret(db, hashSecret(secret)) : undefined
    if (row === undefined) {
      await this.#refuseRefreshToken(secret, address)
      loginThrottle.recordFailure(address, user ?? '', secret)
    }
    const name = row?.host?.name ?? row?.name
    if (row === undefined || (user !== undefined && user !== name)) {
      throw user === undefined
        ? unauthorized('this is neither a token of this registry nor a secret that it knows')
        : loginEnded('wrong user name or password')
    }
    if (row.revokedAt !== null) throw loginEnded('the credential was revoked')
    // No request waits for this, and none fails because of it.
    void touchCredential(db, row.id).catch(() => {})
    const subjects = [secretSubject(hashSecret(secret))]
    return authenticationOfCredential(row, subjects, user === undefined ? 'bearer' : 'basic')
  }
}

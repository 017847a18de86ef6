import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import {
  type CredentialRow,
  findCredentialBySecret,
  touchCredential,
} from '../db/auth/credentials.ts'
import type { Queryable } from '../db/database.ts'
import { type NetworkList, NO_NETWORKS, parseNetworks } from '../networks/networks.ts'
import { RegistryError, unauthorized } from '../oci/errors.ts'
import { ANONYMOUS, type Caller } from './access.ts'
import {
  type AccessTokens,
  InvalidTokenError,
  isTokenLike,
  type VerifiedToken,
} from './access-tokens.ts'
import { parseBasic } from './basic-login.ts'
import { ADMIN_USER, grantOf, originOf } from './credentials.ts'
import { UPLOAD_FINISH_SECONDS_MAX } from './lifetimes.ts'
import type { LoginThrottle } from './login-throttle.ts'
import type { RevocationList } from './revocations.ts'
import { grantsOf } from './scope.ts'
import { hashSecret, isSecretLike, matchesSecretHash } from './secrets.ts'

export type AuthenticatorOptions = {
  readonly db: Queryable
  readonly tokens: AccessTokens
  readonly revocations: RevocationList
  readonly loginThrottle: LoginThrottle
  /** Hash of the password that the environment gives the user `admin`. */
  readonly adminPasswordSha256: Buffer | undefined
}

/** What a header was found to mean, for as long as that can be remembered. */
type CachedAuthentication = Authentication & {
  /** What must not be revoked. */
  readonly subjects: readonly string[]
  /** `networks`, ready to be asked. */
  readonly networkList: NetworkList | undefined
  /** The key that signed it, if it came as a token. */
  readonly kid: string | undefined
}

/** Who asks, and what bounds everything that comes from it. */
export type Authentication = {
  readonly caller: Caller
  /** The credential that was presented, if it was one. */
  readonly credential: CredentialRow | undefined
  /** Undefined: from anywhere. */
  readonly networks: readonly string[] | undefined
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
}

const KNOWN_MAX = 10_000
/** A credential is looked up again after so long; its revocation is known sooner. */
const CREDENTIAL_MILLISECONDS_MAX = 60_000
const FINISH_MILLISECONDS_MAX = UPLOAD_FINISH_SECONDS_MAX * 1000
const BEARER = /^Bearer +([\w.~+/-]+=*) *$/i
const ANONYMOUS_AUTHENTICATION: CachedAuthentication = {
  caller: ANONYMOUS,
  credential: undefined,
  subjects: [],
  networks: undefined,
  networkList: undefined,
  kid: undefined,
  expiresAt: Number.POSITIVE_INFINITY,
}

/** Says who asks, from the Authorization header: a signature is checked once, and then remembered. */
export class Authenticator {
  readonly #options: AuthenticatorOptions
  readonly #cache = new LRUCache<string, CachedAuthentication>({ max: KNOWN_MAX })

  constructor(options: AuthenticatorOptions) {
    this.#options = options
  }

  /**
   * Throws UNAUTHORIZED for what does not hold, TOOMANYREQUESTS for an address that guesses, and
   * UNAVAILABLE while nobody can tell. Without a header, and for an empty user with an empty
   * password, the caller is anonymous.
   */
  async authenticate(authorization: string | undefined, address: string): Promise<Authentication> {
    if (authorization === undefined) return ANONYMOUS_AUTHENTICATION
    // Secrets are not kept: only what they hash to.
    const key = createHash('sha256').update(authorization).digest('base64')
    const known =
      this.#cache.get(key) ?? (await this.#authenticateUncached(authorization, key, address))
    return this.#requireUsable(known, address)
  }

  /** The same for a user and a password that came in a form. */
  async authenticatePassword(
    user: string,
    password: string,
    address: string,
  ): Promise<Authentication> {
    const encoded = Buffer.from(`${user}:${password}`).toString('base64')
    return this.authenticate(`Basic ${encoded}`, address)
  }

  /** What a credential that was found by other means lets its holder do. Throws UNAUTHORIZED. */
  async authenticateCredential(
    credential: CredentialRow,
    address: string,
  ): Promise<Authentication> {
    if (credential.revokedAt !== null) throw unauthorized('the credential was revoked')
    return this.#requireUsable(authenticationOfCredential(credential, 'basic'), address)
  }

  /**
   * Finds what a secret or somebody else's token stands for; who guesses is slowed down. Throws as
   * `authenticate`.
   */
  async throttled<T>(address: string, find: () => Promise<T | undefined> | undefined): Promise<T> {
    this.#options.loginThrottle.assertBelowLimit(address)
    try {
      const found = await find()
      if (found !== undefined) return found
      throw unauthorized('it is unknown or has expired')
    } catch (error) {
      if (error instanceof RegistryError && error.code === 'UNAUTHORIZED') {
        this.#options.loginThrottle.recordFailure(address)
      }
      throw error
    }
  }

  /** What a header means, whoever sent it from wherever: that may change from request to request. */
  async #authenticateUncached(
    authorization: string,
    key: string,
    address: string,
  ): Promise<CachedAuthentication> {
    this.#options.loginThrottle.assertBelowLimit(address)
    try {
      const known = await this.#identify(authorization)
      const ttl = known.credential === undefined ? 0 : CREDENTIAL_MILLISECONDS_MAX
      this.#cache.set(key, known, { ttl })
      return known
    } catch (error) {
      if (error instanceof InvalidCredentialsError)
        this.#options.loginThrottle.recordFailure(address)
      throw error instanceof InvalidCredentialsError || error instanceof InvalidTokenError
        ? unauthorized(error.message, error)
        : error
    }
  }

  async #requireUsable(known: CachedAuthentication, address: string): Promise<Authentication> {
    const { caller, subjects, networkList: within, kid, expiresAt } = known
    if (kid !== undefined && !this.#options.tokens.isKeyTrusted({ kid })) {
      throw unauthorized('the key that signed the token is not in use any more')
    }
    if (subjects.length > 0) {
      const fresh = this.#options.revocations.hasWithoutRefresh(subjects)
      if (fresh ?? (await this.#options.revocations.has(subjects))) {
        throw unauthorized('the credential or token was revoked')
      }
    }
    if (within !== undefined && !within.has(address)) {
      throw unauthorized(`it may not be used from ${address}`)
    }
    const late = Date.now() - expiresAt
    if (late < 0) return known
    if (
      caller.kind !== 'holder' ||
      caller.tokenId === undefined ||
      late > FINISH_MILLISECONDS_MAX
    ) {
      throw unauthorized('the credential or token has expired')
    }
    return { ...known, caller: { ...caller, expiredAt: new Date(expiresAt) } }
  }

  async #identify(authorization: string): Promise<CachedAuthentication> {
    const token = BEARER.exec(authorization)?.[1]
    if (token !== undefined) {
      return isTokenLike(token) ? this.#byToken(token) : this.#bySecret(token, undefined)
    }
    const credentials = parseBasic(authorization)
    if (credentials === undefined) {
      throw new InvalidCredentialsError(
        'send a token as Bearer, or a credential as Basic authorization',
      )
    }
    const { user, password } = credentials
    // What skopeo and podman send to a registry that has challenged them when they have nothing.
    if (user === '' && password === '') return ANONYMOUS_AUTHENTICATION
    // Clients that know only passwords hand over tokens as such, under any name.
    return isTokenLike(password) ? this.#byToken(password) : this.#bySecret(password, user)
  }

  async #byToken(token: string): Promise<CachedAuthentication> {
    try {
      return authenticationOfToken(await this.#options.tokens.verify(token))
    } catch (error) {
      if (error instanceof InvalidTokenError && !error.hasValidSignature)
        throw new InvalidCredentialsError(error.message, error)
      throw error
    }
  }

  /** `user` is undefined when the secret came alone. */
  async #bySecret(secret: string, user: string | undefined): Promise<CachedAuthentication> {
    const { adminPasswordSha256: adminSha256, db } = this.#options
    // Compared whoever the user is, so that the time taken tells nothing.
    if (
      adminSha256 !== undefined &&
      matchesSecretHash(secret, adminSha256) &&
      user === ADMIN_USER
    ) {
      return { ...ANONYMOUS_AUTHENTICATION, caller: adminCaller(ADMIN_USER, undefined, 'basic') }
    }
    const row = isSecretLike(secret, 'credential')
      ? await findCredentialBySecret(db, hashSecret(secret))
      : undefined
    if (row === undefined || (user !== undefined && user !== row.name)) {
      throw new InvalidCredentialsError(
        user === undefined
          ? 'this is no token of this registry, and no secret that it knows'
          : 'wrong user name or password',
      )
    }
    if (row.revokedAt !== null) throw unauthorized('the credential was revoked')
    // Whether it is remembered matters to nobody who waits.
    void touchCredential(db, row.id).catch(() => {})
    return authenticationOfCredential(row, user === undefined ? 'bearer' : 'basic')
  }
}

/** Somebody presented what was never given out. */
class InvalidCredentialsError extends Error {
  override readonly name = 'InvalidCredentialsError'

  constructor(message: string, cause?: unknown) {
    super(message, { cause })
  }
}

function adminCaller(
  actor: string,
  origin: string | undefined,
  scheme: 'basic' | 'bearer',
  tokenId?: string,
): Caller {
  return { kind: 'admin', actor, origin, tokenId, scheme }
}

/** Bounds that cannot be read let nobody in. */
function within(networks: readonly string[]): NetworkList {
  return parseNetworks(networks) ?? NO_NETWORKS
}

function authenticationOfCredential(
  row: CredentialRow,
  scheme: 'basic' | 'bearer',
): CachedAuthentication {
  const origin = originOf(row)
  const caller: Caller =
    row.kind === 'admin'
      ? adminCaller(row.name, origin, scheme)
      : {
          kind: 'holder',
          actor: row.name,
          origin,
          tokenId: undefined,
          scheme,
          grants: [grantOf(row)],
          expiredAt: undefined,
        }
  return {
    caller,
    credential: row,
    subjects: [origin],
    networks: row.networks ?? undefined,
    networkList: row.networks === null ? undefined : within(row.networks),
    kid: undefined,
    expiresAt: row.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY,
  }
}

function authenticationOfToken(token: VerifiedToken): CachedAuthentication {
  const { subject, origin, tokenId, access, networks, expiresAt } = token
  const isAdmin = access.some(({ type, name }) => type === 'registry' && name === 'admin')
  const caller: Caller =
    subject === ''
      ? { kind: 'anonymous', hasToken: true }
      : isAdmin
        ? adminCaller(subject, origin, 'bearer', tokenId)
        : {
            kind: 'holder',
            actor: subject,
            origin,
            tokenId,
            scheme: 'bearer',
            grants: grantsOf(access),
            expiredAt: undefined,
          }
  return {
    caller,
    credential: undefined,
    subjects: [`token:${tokenId}`, ...(origin === undefined ? [] : [origin])],
    networks,
    networkList: networks === undefined ? undefined : within(networks),
    kid: token.kid,
    expiresAt: expiresAt.getTime(),
  }
}

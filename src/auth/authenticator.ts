import { createHash } from 'node:crypto'
import { BlockList } from 'node:net'
import { LRUCache } from 'lru-cache'
import {
  type CredentialRow,
  findCredentialBySecret,
  touchCredential,
} from '../db/auth/credentials.ts'
import type { Queryable } from '../db/database.ts'
import { OciError } from '../oci/errors.ts'
import { ANONYMOUS, type Caller } from './access.ts'
import { parseBasic } from './basic.ts'
import { ADMIN_USER, grantOf, originOf } from './credentials.ts'
import { FINISH_SECONDS_MAX } from './lifetimes.ts'
import type { Brakes } from './login-throttle.ts'
import { isWithin, parseNetworks } from './networks.ts'
import type { RevocationList } from './revocations.ts'
import { grantsOf } from './scope.ts'
import { hashSecret, isSecret, isSecretLike } from './secret.ts'
import { isTokenLike, TokenRefused, type Tokens, type VerifiedToken } from './tokens.ts'

export type AuthenticatorOptions = {
  readonly db: Queryable
  readonly tokens: Tokens
  readonly revocations: RevocationList
  readonly brakes: Brakes
  /** Hash of the password that the environment gives the user `admin`. */
  readonly adminSha256: Buffer | undefined
}

/** What a header was found to mean, for as long as that can be remembered. */
type Known = Authenticated & {
  /** What must not be revoked. */
  readonly subjects: readonly string[]
  /** `networks`, ready to be asked. */
  readonly within: BlockList | undefined
  /** The key that signed it, if it came as a token. */
  readonly kid: string | undefined
}

/** Who asks, and what bounds everything that comes from it. */
export type Authenticated = {
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
const FINISH_MILLISECONDS_MAX = FINISH_SECONDS_MAX * 1000
const BEARER = /^Bearer +([\w.~+/-]+=*) *$/i
const NOBODY: Known = {
  caller: ANONYMOUS,
  credential: undefined,
  subjects: [],
  networks: undefined,
  within: undefined,
  kid: undefined,
  expiresAt: Number.POSITIVE_INFINITY,
}

/** Says who asks, from the Authorization header: a signature is checked once, and then remembered. */
export class Authenticator {
  readonly #options: AuthenticatorOptions
  readonly #known = new LRUCache<string, Known>({ max: KNOWN_MAX })

  constructor(options: AuthenticatorOptions) {
    this.#options = options
  }

  /**
   * Throws UNAUTHORIZED for what does not hold, TOOMANYREQUESTS for an address that guesses, and
   * UNAVAILABLE while nobody can tell. Without a header, and for an empty user with an empty
   * password, the caller is anonymous.
   */
  async authenticate(authorization: string | undefined, address: string): Promise<Authenticated> {
    if (authorization === undefined) return NOBODY
    // Secrets are not kept: only what they hash to.
    const key = createHash('sha256').update(authorization).digest('base64')
    const known = this.#known.get(key) ?? (await this.#learn(authorization, key, address))
    return this.#hold(known, address)
  }

  /** The same for a user and a password that came in a form. */
  async authenticatePassword(
    user: string,
    password: string,
    address: string,
  ): Promise<Authenticated> {
    const encoded = Buffer.from(`${user}:${password}`).toString('base64')
    return this.authenticate(`Basic ${encoded}`, address)
  }

  /** What a credential that was found by other means lets its holder do. Throws UNAUTHORIZED. */
  async holderOf(credential: CredentialRow, address: string): Promise<Authenticated> {
    if (credential.revokedAt !== null) throw refused('the credential was revoked')
    return this.#hold(knownCredential(credential, 'basic'), address)
  }

  /**
   * Finds what a secret or somebody else's token stands for; who guesses is slowed down. Throws as
   * `authenticate`.
   */
  async guarded<T>(address: string, find: () => Promise<T | undefined> | undefined): Promise<T> {
    this.#options.brakes.demand(address)
    try {
      const found = await find()
      if (found !== undefined) return found
      throw refused('it is unknown or has expired')
    } catch (error) {
      if (error instanceof OciError && error.code === 'UNAUTHORIZED') {
        this.#options.brakes.failed(address)
      }
      throw error
    }
  }

  /** What a header means, whoever sent it from wherever: that may change from request to request. */
  async #learn(authorization: string, key: string, address: string): Promise<Known> {
    this.#options.brakes.demand(address)
    try {
      const known = await this.#identify(authorization)
      const ttl = known.credential === undefined ? 0 : CREDENTIAL_MILLISECONDS_MAX
      this.#known.set(key, known, { ttl })
      return known
    } catch (error) {
      if (error instanceof Guess) this.#options.brakes.failed(address)
      throw error instanceof Guess || error instanceof TokenRefused
        ? refused(error.message, error)
        : error
    }
  }

  async #hold(known: Known, address: string): Promise<Authenticated> {
    const { caller, subjects, within, kid, expiresAt } = known
    if (kid !== undefined && !this.#options.tokens.believes({ kid })) {
      throw refused('the key that signed the token is not in use any more')
    }
    if (subjects.length > 0) {
      const fresh = this.#options.revocations.hasFresh(subjects)
      if (fresh ?? (await this.#options.revocations.has(subjects))) {
        throw refused('the credential or token was revoked')
      }
    }
    if (within !== undefined && !isWithin(within, address)) {
      throw refused(`it may not be used from ${address}`)
    }
    const late = Date.now() - expiresAt
    if (late < 0) return known
    if (
      caller.kind !== 'holder' ||
      caller.tokenId === undefined ||
      late > FINISH_MILLISECONDS_MAX
    ) {
      throw refused('the credential or token has expired')
    }
    return { ...known, caller: { ...caller, expiredAt: new Date(expiresAt) } }
  }

  async #identify(authorization: string): Promise<Known> {
    const token = BEARER.exec(authorization)?.[1]
    if (token !== undefined) {
      return isTokenLike(token) ? this.#byToken(token) : this.#bySecret(token, undefined)
    }
    const credentials = parseBasic(authorization)
    if (credentials === undefined) {
      throw new Guess('send a token as Bearer, or a credential as Basic authorization')
    }
    const { user, password } = credentials
    // What skopeo and podman send to a registry that has challenged them when they have nothing.
    if (user === '' && password === '') return NOBODY
    // Clients that know only passwords hand over tokens as such, under any name.
    return isTokenLike(password) ? this.#byToken(password) : this.#bySecret(password, user)
  }

  async #byToken(token: string): Promise<Known> {
    try {
      return knownToken(await this.#options.tokens.verify(token))
    } catch (error) {
      if (error instanceof TokenRefused && !error.genuine) throw new Guess(error.message, error)
      throw error
    }
  }

  /** `user` is undefined when the secret came alone. */
  async #bySecret(secret: string, user: string | undefined): Promise<Known> {
    const { adminSha256, db } = this.#options
    // Compared whoever the user is, so that the time taken tells nothing.
    if (adminSha256 !== undefined && isSecret(secret, adminSha256) && user === ADMIN_USER) {
      return { ...NOBODY, caller: adminCaller(ADMIN_USER, undefined, 'basic') }
    }
    const row = isSecretLike(secret, 'credential')
      ? await findCredentialBySecret(db, hashSecret(secret))
      : undefined
    if (row === undefined || (user !== undefined && user !== row.name)) {
      throw new Guess(
        user === undefined
          ? 'this is no token of this registry, and no secret that it knows'
          : 'wrong user name or password',
      )
    }
    if (row.revokedAt !== null) throw refused('the credential was revoked')
    // Whether it is remembered matters to nobody who waits.
    void touchCredential(db, row.id).catch(() => {})
    return knownCredential(row, user === undefined ? 'bearer' : 'basic')
  }
}

/** Somebody presented what was never given out. */
class Guess extends Error {
  override readonly name = 'Guess'

  constructor(message: string, cause?: unknown) {
    super(message, { cause })
  }
}

function refused(message: string, cause?: unknown): OciError {
  return new OciError('UNAUTHORIZED', undefined, { message, cause })
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
function within(networks: readonly string[]): BlockList {
  return parseNetworks(networks) ?? new BlockList()
}

function knownCredential(row: CredentialRow, scheme: 'basic' | 'bearer'): Known {
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
    within: row.networks === null ? undefined : within(row.networks),
    kid: undefined,
    expiresAt: row.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY,
  }
}

function knownToken(token: VerifiedToken): Known {
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
    within: networks === undefined ? undefined : within(networks),
    kid: token.kid,
    expiresAt: expiresAt.getTime(),
  }
}

import { timingSafeEqual } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { entriesMax } from '../async/entries-max.ts'
import { type Actor, addAuditEntries, recordChange } from '../db/auth/audit.ts'
import { addRevocation } from '../db/auth/revocations.ts'
import {
  addSession,
  endSessions,
  findSession,
  type ListedSession,
  listSessions,
  removeSession,
  SESSION_SECONDS_MAX,
  type SessionFilter,
  type SessionLogin,
  type SessionRow,
  touchSession,
} from '../db/auth/sessions.ts'
import type { Database, Queryable } from '../db/database.ts'
import { denied, loginEnded, notFound, RegistryError, unauthorized } from '../oci/errors.ts'
import { isUuid } from '../oci/uuid.ts'
import type { Caller } from './access.ts'
import { isTokenLike, type VerifiedToken } from './access-tokens.ts'
import { completeEntry } from './audit.ts'
import {
  ANONYMOUS_AUTHENTICATION,
  type Authentication,
  authenticationOfCredential,
  authenticationOfPassword,
  authenticationOfToken,
  type CachedAuthentication,
} from './authentications.ts'
import { type Authenticator, CREDENTIAL_MILLISECONDS_MAX } from './authenticator.ts'
import { secretSubject } from './credentials.ts'
import { generateSecret, hashSecret, isSecretLike } from './secrets.ts'

export type SessionsOptions = {
  readonly db: Database
  readonly authenticator: Authenticator
  /** Hash of the password that the environment sets for the user `admin`. */
  readonly adminPasswordSha256: Buffer | undefined
  /** Applies a revocation in this process at once. Other replicas read it within seconds. */
  onRevoked(): Promise<void>
}

type SessionRequest = { readonly requestId: string; readonly address: string }

export type NewSession = {
  /** The value of the cookie, which is stored nowhere. */
  readonly secret: string
  /** Lifetime in seconds; the session ends sooner when nobody uses it, or with its login. */
  readonly seconds: number
}

/** Sessions that one list has, and that one request ends. A login has at most 100 of one source. */
const LISTED_MAX = 1000

const CACHED_MAX = 10_000
/** The end of a session must outlive its entry in the cache of every replica. */
const END_KEPT_SECONDS = 3600

/**
 * Sessions of people: the secret of a cookie has on pages the effect of a login. A session has the rights that its
 * credential or token has now, and ends with it.
 */
export class Sessions {
  readonly #options: SessionsOptions
  readonly #cache = new LRUCache<string, CachedAuthentication>({
    ...entriesMax(CACHED_MAX),
    ttl: CREDENTIAL_MILLISECONDS_MAX,
  })

  constructor(options: SessionsOptions) {
    this.#options = options
  }

  /**
   * Makes a session for a credential, the administrator's password or a token, which may come without a name; always with a new
   * secret. Throws UNAUTHORIZED, also for a login that names no person, and TOOMANYREQUESTS for an address that guesses.
   */
  async logIn(name: string, secret: string, request: SessionRequest): Promise<NewSession> {
    const { authenticator } = this.#options
    const isAlone = name === '' && (isTokenLike(secret) || isSecretLike(secret, 'credential'))
    const login = isAlone
      ? await authenticator.authenticate(`Bearer ${secret}`, request.address)
      : await authenticator.authenticatePassword(name, secret, request.address)
    return this.#begin(login, request)
  }

  async #begin(login: Authentication, request: SessionRequest): Promise<NewSession> {
    const { caller } = login
    if (caller.kind === 'anonymous') throw unauthorized('this login names nobody')
    if (caller.kind === 'holder' && caller.host !== undefined) {
      throw unauthorized('this login is for a host, and pages are for people')
    }
    if (caller.kind === 'holder' && caller.expiredAt !== undefined) {
      throw unauthorized('the token has expired')
    }
    const { actor: name, origin = null, tokenId = null, keyId = null } = caller
    const secret = generateSecret('session')
    const seconds = await this.#options.db.transaction(async (tx) => {
      const actor = { name, origin, tokenId, keyId, ...request }
      await recordChange(tx, actor, { action: 'login' })
      const from = { actor: name, origin, ...this.#sourceOf(login, secret) }
      return addSession(tx, hashSecret(secret), from, secondsLeft(login))
    })
    return { secret, seconds }
  }

  #sourceOf(
    { credential, token }: Authentication,
    secret: string,
  ): Omit<SessionLogin, 'actor' | 'origin'> {
    if (credential !== undefined) return { credential }
    if (token !== undefined) return { token }
    return { passwordProof: this.#passwordProof(secret) }
  }

  /** Returns a hash of the password of the environment and the secret of a session. */
  #passwordProof(secret: string): Buffer {
    const password = this.#options.adminPasswordSha256?.toString('hex') ?? ''
    return hashSecret(`${secret} ${password}`)
  }

  /**
   * Returns the caller to whom the secret of a cookie belongs: an anonymous one when the session has ended, or may not be used from
   * this address. Throws TOOMANYREQUESTS for an address that guesses, and UNAVAILABLE.
   */
  async authenticate(secret: string, address: string): Promise<Authentication> {
    const key = cacheKey(secret)
    const { authenticator } = this.#options
    try {
      const cached = this.#cache.get(key) ?? (await this.#find(secret, key, address))
      const found = await authenticator.requireUsable(cached, address)
      const { caller } = found
      const isExpired = caller.kind === 'holder' && caller.expiredAt !== undefined
      return isExpired ? ANONYMOUS_AUTHENTICATION : found
    } catch (error) {
      if (error instanceof RegistryError && error.code === 'UNAUTHORIZED') {
        return ANONYMOUS_AUTHENTICATION
      }
      throw error
    }
  }

  async #find(secret: string, key: string, address: string): Promise<CachedAuthentication> {
    const { db, authenticator } = this.#options
    const row = await authenticator.findBySecret('session', secret, address, () =>
      isSecretLike(secret, 'session') ? findSession(db, hashSecret(secret)) : undefined,
    )
    if (row.isEnded) throw loginEnded('the session has ended')
    // No request waits for this, and none fails because of it.
    if (row.isSeenDue) void touchSession(db, row.sessionId).catch(() => {})
    const authentication = this.#authenticationOf(row, secret)
    const { subjects, expiresAt } = authentication
    const found = {
      ...authentication,
      subjects: [...subjects, sessionSubject(row.sessionId)],
      expiresAt: Math.min(expiresAt, row.endsAt.getTime()),
    }
    this.#cache.set(key, found)
    return found
  }

  /** Throws UNAUTHORIZED for a credential that was revoked, and for another password of the environment. */
  #authenticationOf(row: SessionRow, secret: string): CachedAuthentication {
    const { credentialSecretSha256, token, passwordProof, endsAt } = row
    if (row.id !== null && credentialSecretSha256 !== null) {
      if (row.revokedAt !== null) throw loginEnded('the credential was revoked')
      const secretSha256 = credentialSecretSha256
      const credential = { ...row, secretSha256, secretUntil: null, host: null }
      return authenticationOfCredential(credential, [secretSubject(secretSha256)], 'session')
    }
    if (passwordProof === null) {
      return authenticationOfToken({ ...(token as VerifiedToken), expiresAt: endsAt }, 'session')
    }
    const isPassword =
      this.#options.adminPasswordSha256 !== undefined &&
      timingSafeEqual(passwordProof, this.#passwordProof(secret))
    if (!isPassword) throw loginEnded('the password of the administrator was changed')
    return authenticationOfPassword('session')
  }

  /**
   * Lists the caller's own sessions, or those of the login `actor`, the one that was used last first. `secret` is the cookie of the
   * request, whose session is marked. Throws DENIED.
   */
  list(
    db: Queryable,
    caller: Caller,
    {
      actor,
      secret,
    }: { readonly actor?: string | undefined; readonly secret?: string | undefined },
  ): Promise<ListedSession[]> {
    const secretSha256 = secret === undefined ? null : hashSecret(secret)
    return listSessions(db, sessionsOf(caller, actor), secretSha256, LISTED_MAX)
  }

  /** Ends one session on every replica within seconds: the caller's own, or that of anybody for an administrator. Throws NOT_FOUND. */
  async revoke(id: string, caller: Caller, actor: Actor): Promise<void> {
    if (!isUuid(id)) throw noSession()
    const owner = caller.kind === 'admin' ? {} : ownSessions(caller)
    const count = await this.#endAll({ ...owner, id }, id, actor)
    if (count === 0) throw noSession()
  }

  /**
   * Ends the caller's own sessions, or those of the login `name`, and returns how many there were. `exceptSecret` is the cookie of a
   * session that stays. Throws DENIED.
   */
  revokeAll(
    {
      name,
      exceptSecret,
    }: { readonly name?: string | undefined; readonly exceptSecret?: string | undefined },
    caller: Caller,
    actor: Actor,
  ): Promise<number> {
    const exceptSecretSha256 = exceptSecret === undefined ? undefined : hashSecret(exceptSecret)
    const filter = { ...sessionsOf(caller, name), exceptSecretSha256 }
    return this.#endAll(filter, `all of ${name ?? actor.name}`, actor)
  }

  async #endAll(filter: SessionFilter, detail: string, actor: Actor): Promise<number> {
    const { db, onRevoked } = this.#options
    const count = await db.transaction(async (tx) => {
      // First, because a session may end itself.
      await recordChange(tx, actor, { action: 'end-session', detail })
      return endSessions(tx, filter, END_KEPT_SECONDS)
    })
    if (count > 0) await onRevoked()
    return count
  }

  /** Ends a session on every replica within seconds. A text that is no session of this registry changes nothing. */
  async end(secret: string, request: SessionRequest): Promise<void> {
    if (!isSecretLike(secret, 'session')) return
    const { db, onRevoked } = this.#options
    const removed = await db.transaction(async (tx) => {
      const session = await removeSession(tx, hashSecret(secret))
      if (session === undefined) return undefined
      const { id, ...identity } = session
      await addRevocation(tx, sessionSubject(id), END_KEPT_SECONDS)
      // Also when the login was revoked meanwhile.
      const entry = { action: 'logout', decision: 'allowed', ...identity, ...request } as const
      await addAuditEntries(tx, [completeEntry(entry)])
      return session
    })
    if (removed === undefined) return
    this.#cache.delete(cacheKey(secret))
    await onRevoked()
  }
}

/** Returns the filter of the caller's own sessions: a token has those that began with it, and another login all of its name and source. */
function ownSessions(caller: Caller): SessionFilter {
  if (caller.kind === 'anonymous') throw unauthorized('a session belongs to a login')
  const { actor, origin = null, tokenId } = caller
  return { actor, origin, tokenId }
}

/** Returns the filter of the sessions that the caller names. Throws DENIED for those of others, unless it is an administrator. */
function sessionsOf(caller: Caller, actor: string | undefined): SessionFilter {
  if (actor === undefined) return ownSessions(caller)
  if (caller.kind !== 'admin') throw denied('only an administrator sees the sessions of a name')
  return { actor }
}

function noSession(): RegistryError {
  return notFound('there is no such session, or it has ended')
}

/** Returns the subject of the revocation list that ends a session. */
function sessionSubject(id: string): string {
  return `session:${id}`
}

/** The cache keeps hashes of secrets, not secrets. */
function cacheKey(secret: string): string {
  return hashSecret(secret).toString('base64')
}

/** A session never outlives the credential or token that it came from. */
function secondsLeft({ expiresAt }: Authentication): number {
  return Math.max(1, Math.min(SESSION_SECONDS_MAX, Math.floor((expiresAt - Date.now()) / 1000)))
}

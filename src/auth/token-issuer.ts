import { addRefreshToken, findCredentialByRefreshToken } from '../db/auth/refresh-tokens.ts'
import type { Queryable } from '../db/database.ts'
import { listPublic } from '../db/registry/repositories.ts'
import { unauthorized } from '../oci/errors.ts'
import type { Caller, Grant } from './access.ts'
import type { AccessTokens, MintedToken } from './access-tokens.ts'
import { type AuditLog, auditIdentity } from './audit.ts'
import type { Authentication, Authenticator } from './authenticator.ts'
import { type AccessEntry, intersect, repositoriesOf, type Scope } from './scope.ts'
import { generateSecret, hashSecret, isSecretLike } from './secrets.ts'

export type AccessTokenResponse = MintedToken & {
  readonly access: readonly AccessEntry[]
  /** Only when it was asked for, and the caller has a credential. */
  readonly refreshToken: string | undefined
}

export type AccessTokenRequest = {
  readonly scopes: readonly Scope[]
  readonly address: string
  readonly requestId: string
  /** A refresh token is wanted, to keep instead of the password. */
  readonly offline: boolean
}

/** Somebody whom a trust policy believes, and what it lets them do. */
export type TrustedIdentity = {
  readonly actor: string
  /** Such as `policy:3`. */
  readonly origin: string
  readonly grants: readonly Grant[]
  /** Longest that a token for it may live. */
  readonly tokenSeconds: number
}

export type TokenIssuerOptions = {
  readonly db: Queryable
  readonly tokens: AccessTokens
  readonly authenticator: Authenticator
  readonly audit: AuditLog
  /** How long a token lives. */
  readonly tokenSeconds: number
  /** Verifies an identity token of somebody else's, once. Throws UNAUTHORIZED. */
  readonly exchange: (identityToken: string) => Promise<TrustedIdentity>
}

type Holder = Pick<Authentication, 'caller' | 'networks' | 'expiresAt'>

/** Base64 makes a third more of it, and servers take headers of 64 KiB. */
const ACCESS_LENGTH_MAX = 16 * 1024
const REFRESH_SECONDS = 30 * 86_400

/** Gives out tokens: what was asked for, as far as it is allowed. */
export class TokenIssuer {
  readonly #options: TokenIssuerOptions

  constructor(options: TokenIssuerOptions) {
    this.#options = options
  }

  /** For whoever came with a header or a password. */
  async issue(holder: Authentication, ask: AccessTokenRequest): Promise<AccessTokenResponse> {
    const { caller, credential } = holder
    if (caller.kind === 'holder' && caller.expiredAt !== undefined) {
      throw unauthorized('the token has expired')
    }
    const answer = await this.#mint(holder, ask, this.#options.tokenSeconds)
    if (!ask.offline || credential === undefined) return answer
    const refreshToken = generateSecret('refresh')
    await addRefreshToken(
      this.#options.db,
      hashSecret(refreshToken),
      credential.id,
      secondsLeft(holder, REFRESH_SECONDS),
    )
    return { ...answer, refreshToken }
  }

  /** For a refresh token that was given out before. Throws UNAUTHORIZED. */
  async refresh(refreshToken: string, ask: AccessTokenRequest): Promise<AccessTokenResponse> {
    const { db, authenticator } = this.#options
    const credential = await authenticator.throttled(ask.address, () =>
      isSecretLike(refreshToken, 'refresh')
        ? findCredentialByRefreshToken(db, hashSecret(refreshToken))
        : undefined,
    )
    const holder = await authenticator.authenticateCredential(credential, ask.address)
    return this.#mint(holder, ask, this.#options.tokenSeconds)
  }

  /** For an identity that somebody else vouches for: RFC 8693. Throws UNAUTHORIZED. */
  async exchange(identityToken: string, ask: AccessTokenRequest): Promise<AccessTokenResponse> {
    const { authenticator, exchange } = this.#options
    const identity = await authenticator.throttled(ask.address, () => exchange(identityToken))
    const { actor, origin, grants, tokenSeconds } = identity
    const caller: Caller = {
      kind: 'holder',
      actor,
      origin,
      tokenId: undefined,
      scheme: 'bearer',
      grants,
      expiredAt: undefined,
    }
    const networks = undefined
    return this.#mint({ caller, networks, expiresAt: Number.POSITIVE_INFINITY }, ask, tokenSeconds)
  }

  async #mint(
    holder: Holder,
    ask: AccessTokenRequest,
    seconds: number,
  ): Promise<AccessTokenResponse> {
    const { caller, networks } = holder
    const { db, tokens, audit } = this.#options
    const needed = caller.kind === 'admin' ? [] : repositoriesOf(ask.scopes)
    const open = new Set<string>(needed.length === 0 ? [] : await listPublic(db, needed))
    const access = fitting(intersect(ask.scopes, caller, (name) => open.has(name)))
    const identity = auditIdentity(caller)
    const minted = await tokens.mint(
      {
        subject: identity.actor ?? '',
        origin: identity.origin ?? undefined,
        tokenId: identity.tokenId ?? undefined,
        access,
        networks,
      },
      secondsLeft(holder, seconds),
    )
    // A token that anybody gets says nothing about anybody.
    if (caller.kind !== 'anonymous') {
      await audit.record({
        ...identity,
        action: 'mint',
        decision: 'allowed',
        tokenId: minted.tokenId,
        address: ask.address,
        requestId: ask.requestId,
        detail: detailOf(access),
      })
    }
    return { ...minted, access, refreshToken: undefined }
  }
}

/** As many of the first entries as a header can carry; a client asks for the rest when it needs it. */
function fitting(access: readonly AccessEntry[]): AccessEntry[] {
  let length = 0
  return access.filter((entry) => {
    length += JSON.stringify(entry).length
    return length <= ACCESS_LENGTH_MAX
  })
}

/** The entries as scopes again: RFC 6749, section 5.1, wants to be told what was granted. */
export function scopeText(access: readonly AccessEntry[]): string {
  return access.map(({ type, name, actions }) => `${type}:${name}:${actions.join(',')}`).join(' ')
}

function detailOf(access: readonly AccessEntry[]): string {
  return access
    .map((entry) =>
      [scopeText([entry]), ...(entry.tags ?? []).map((tag) => `tag ${tag}`)].join(' '),
    )
    .join('; ')
}

/** What comes from something never outlives it. */
function secondsLeft({ expiresAt }: Holder, most: number): number {
  return Math.max(1, Math.min(most, Math.floor((expiresAt - Date.now()) / 1000)))
}

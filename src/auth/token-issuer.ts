import {
  addRefreshToken,
  findCredentialByRefreshToken,
  prolongRefreshToken,
  REFRESH_SECONDS,
} from '../db/auth/refresh-tokens.ts'
import type { Queryable } from '../db/database.ts'
import { listPublic } from '../db/registry/repositories.ts'
import { parseNetworks } from '../networks/networks.ts'
import { loginEnded, RegistryError, unauthorized } from '../oci/errors.ts'
import { ANONYMOUS, type Caller, type Grant } from './access.ts'
import type { AccessTokens, MintedToken } from './access-tokens.ts'
import { type AuditLog, auditIdentity } from './audit.ts'
import type { Authentication } from './authentications.ts'
import type { Authenticator } from './authenticator.ts'
import { InvalidAssertionError } from './hosts/assertions.ts'
import { callerOfHost, entriesOfHost, type HostGrant } from './hosts/host-access.ts'
import { type AccessEntry, intersect, repositoriesOf, type Scope } from './scope.ts'
import { generateSecret, hashSecret, isSecretLike } from './secrets.ts'

export type AccessTokenResponse = MintedToken & {
  readonly access: readonly AccessEntry[]
  /** Present for a caller with a credential that requested one, or sent one. */
  readonly refreshToken: string | undefined
}

export type AccessTokenRequest = {
  readonly scopes: readonly Scope[]
  readonly address: string
  readonly requestId: string
  /** True when the client requests a refresh token, to store instead of the password. */
  readonly offline: boolean
}

/** An identity that a trust policy accepts, and its grants. */
export type TrustedIdentity = {
  readonly actor: string
  /** Such as `policy:3`. */
  readonly origin: string
  readonly grants: readonly Grant[]
  /** Longest lifetime of an access token for it. */
  readonly tokenSeconds: number
}

export type TokenIssuerOptions = {
  readonly db: Queryable
  readonly tokens: AccessTokens
  readonly authenticator: Authenticator
  readonly audit: AuditLog
  /** Lifetime of an access token. */
  readonly tokenSeconds: number
  /** Verifies another issuer's identity token, which it accepts once. Throws UNAUTHORIZED. */
  readonly exchange: (identityToken: string) => Promise<TrustedIdentity>
  /** Verifies the assertion of a host, which it accepts once. Throws InvalidAssertionError. */
  readonly acceptAssertion: (assertion: string) => Promise<HostGrant>
}

type Holder = Pick<Authentication, 'caller' | 'networks' | 'expiresAt'>

const ANYBODY: Holder = {
  caller: ANONYMOUS,
  networks: undefined,
  expiresAt: Number.POSITIVE_INFINITY,
}

/** Lifetime of a token for a host, which asks for the next one by itself. */
const HOST_TOKEN_SECONDS = 900
/** Base64 adds a third, and servers accept headers of 64 KiB. */
const ACCESS_LENGTH_MAX = 16 * 1024

/** Issues access tokens with the requested access, as far as the caller has it. */
export class TokenIssuer {
  readonly #options: TokenIssuerOptions

  constructor(options: TokenIssuerOptions) {
    this.#options = options
  }

  /** Issues a token to a caller with a credential, a password or another access token. */
  async issue(holder: Authentication, request: AccessTokenRequest): Promise<AccessTokenResponse> {
    const { caller, credential } = holder
    if (caller.kind === 'holder' && caller.expiredAt !== undefined) {
      throw unauthorized('the token has expired')
    }
    const response = await this.#mint(holder, request, this.#options.tokenSeconds)
    // A host logs in with its own secret: a refresh token would be another one to lose.
    if (!request.offline || credential === undefined || credential.kind === 'host') return response
    const refreshToken = generateSecret('refresh')
    await addRefreshToken(
      this.#options.db,
      hashSecret(refreshToken),
      credential.id,
      secondsLeft(holder, REFRESH_SECONDS),
      credential.secretSha256,
    )
    return { ...response, refreshToken }
  }

  /**
   * Issues a token for a refresh token, and prolongs the life of the refresh token. Throws UNAUTHORIZED, unless a
   * request only pulls what is public: that also gets a token when the login has ended, as anybody would.
   */
  async refresh(refreshToken: string, request: AccessTokenRequest): Promise<AccessTokenResponse> {
    try {
      return { ...(await this.#refresh(refreshToken, request)), refreshToken }
    } catch (error) {
      if (!(error instanceof RegistryError) || error.code !== 'UNAUTHORIZED') throw error
      // Docker and containerd send a stored refresh token for each pull, and do not try without it.
      const anonymous = await this.#mintForPublicPulls(request)
      if (anonymous === undefined) throw error
      return anonymous
    }
  }

  async #refresh(refreshToken: string, request: AccessTokenRequest): Promise<AccessTokenResponse> {
    const { db, authenticator } = this.#options
    const { address } = request
    const found = await authenticator.findBySecret('refresh token', refreshToken, address, () =>
      isSecretLike(refreshToken, 'refresh')
        ? findCredentialByRefreshToken(db, hashSecret(refreshToken))
        : undefined,
    )
    const { refreshTokenId, isExpired, isProlongable, ...credential } = found
    if (isExpired) throw loginEnded('the refresh token has expired')
    const holder = await authenticator.authenticateCredential(credential, request.address)
    // No request waits for this, and none fails because of it.
    if (isProlongable) void prolongRefreshToken(db, refreshTokenId).catch(() => {})
    return this.#mint(holder, request, this.#options.tokenSeconds)
  }

  /**
   * Returns an anonymous token when each requested scope only pulls from a public repository. A request with another
   * scope, or without one, is about the login itself, such as `docker login`: undefined.
   */
  async #mintForPublicPulls(request: AccessTokenRequest): Promise<AccessTokenResponse | undefined> {
    const { scopes } = request
    const isPull = ({ type, actions }: Scope) => type === 'repository' && actions.join() === 'pull'
    if (scopes.length === 0 || !scopes.every(isPull)) return undefined
    const minted = await this.#mint(ANYBODY, request, this.#options.tokenSeconds)
    const granted = new Set(minted.access.map(({ name }) => name))
    return scopes.every(({ name }) => granted.has(name)) ? minted : undefined
  }

  /** Issues a token for an identity token of a trusted issuer (RFC 8693). Throws UNAUTHORIZED. */
  async exchange(identityToken: string, request: AccessTokenRequest): Promise<AccessTokenResponse> {
    // Without the login throttle: signatures cannot be guessed, and the jobs of a CI system share addresses.
    const { actor, origin, grants, tokenSeconds } = await this.#options.exchange(identityToken)
    const caller: Caller = {
      kind: 'holder',
      actor,
      origin,
      tokenId: undefined,
      keyId: undefined,
      scheme: 'bearer',
      grants,
      expiredAt: undefined,
    }
    const networks = undefined
    return this.#mint(
      { caller, networks, expiresAt: Number.POSITIVE_INFINITY },
      request,
      tokenSeconds,
    )
  }

  /**
   * Issues a token to a host for its assertion (RFC 7523). Without a scope, it has all that the host may do. Throws
   * InvalidAssertionError.
   */
  async issueToHost(assertion: string, request: AccessTokenRequest): Promise<AccessTokenResponse> {
    const host = await this.#options.acceptAssertion(assertion)
    if (host.networks !== null && !parseNetworks(host.networks)?.has(request.address)) {
      throw new InvalidAssertionError(
        `the host ${host.name} may not call from ${request.address}, but only from its networks`,
      )
    }
    const caller = callerOfHost(host, 'bearer')
    const networks = host.networks ?? undefined
    const holder = { caller, networks, expiresAt: Number.POSITIVE_INFINITY }
    return this.#mint(holder, request, HOST_TOKEN_SECONDS)
  }

  async #mint(
    holder: Holder,
    request: AccessTokenRequest,
    seconds: number,
  ): Promise<AccessTokenResponse> {
    const { caller, networks } = holder
    const { db, tokens, audit } = this.#options
    const named = caller.kind === 'admin' ? [] : repositoriesOf(request.scopes)
    const publicNames = new Set<string>(named.length === 0 ? [] : await listPublic(db, named))
    const access = firstThatFit(accessOf(request.scopes, caller, (name) => publicNames.has(name)))
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
    // Tokens for anonymous callers are not audited: they identify nobody.
    if (caller.kind !== 'anonymous') {
      const entry = {
        ...identity,
        action: 'mint',
        decision: 'allowed',
        tokenId: minted.tokenId,
        address: request.address,
        requestId: request.requestId,
        detail: detailOf(access),
      } as const
      await audit.record(entry, caller.keyId)
    }
    return { ...minted, access, refreshToken: undefined }
  }
}

/**
 * Returns the requested access that the caller has. A host that requests no scope gets all that it may do, and each of its
 * tokens names the version of its grant.
 */
function accessOf(
  scopes: readonly Scope[],
  caller: Caller,
  isPublic: (name: string) => boolean,
): AccessEntry[] {
  const requested = intersect(scopes, caller, isPublic)
  if (caller.kind !== 'holder' || caller.host === undefined) return requested
  if (scopes.length === 0) return entriesOfHost(caller.host, caller.grants)
  if (requested.some(({ type }) => type === 'host')) return requested
  return [...entriesOfHost({ ...caller.host, mayReport: false }, []), ...requested]
}

/** Returns the first entries that fit into a header. A client requests the others when it needs them. */
function firstThatFit(access: readonly AccessEntry[]): AccessEntry[] {
  let length = 0
  return access.filter((entry) => {
    length += JSON.stringify(entry).length
    return length <= ACCESS_LENGTH_MAX
  })
}

/** Returns the entries as scopes: RFC 6749, section 5.1, requires the granted scope in the response. */
export function scopeText(access: readonly AccessEntry[]): string {
  return access
    .filter(({ actions }) => actions.length > 0)
    .map(({ type, name, actions }) => `${type}:${name}:${actions.join(',')}`)
    .join(' ')
}

function detailOf(access: readonly AccessEntry[]): string {
  return access
    .filter(({ actions }) => actions.length > 0)
    .map((entry) =>
      [scopeText([entry]), ...(entry.tags ?? []).map((tag) => `tag ${tag}`)].join(' '),
    )
    .join('; ')
}

/** A token never outlives the credential or token that it came from. */
function secondsLeft({ expiresAt }: Holder, most: number): number {
  return Math.max(1, Math.min(most, Math.floor((expiresAt - Date.now()) / 1000)))
}

import { randomUUID } from 'node:crypto'
import { errors, type JWTPayload, jwtVerify, SignJWT } from 'jose'
import type { AccessEntry } from './scope.ts'
import type { KeyRing } from './signing-keys.ts'

/** The names of this registry in tokens. */
export type RegistryIssuer = {
  /** `iss`: the public URL, or a URN of the installation. */
  readonly url: string
  /** `aud`: the service in challenges. */
  readonly service: string
}

/** The claims of an access token, without its times. */
export type TokenClaims = {
  /** The holder. Empty for an anonymous caller. */
  readonly subject: string
  /** The source of the rights; see `CallerIdentity.origin`. */
  readonly origin?: string | undefined
  /** `jti`: that of the token that requested this one, so that both are revoked together. Undefined: a new one. */
  readonly tokenId?: string | undefined
  readonly access: readonly AccessEntry[]
  /** The networks from which the token may be used. */
  readonly networks?: readonly string[] | undefined
}

export type MintedToken = {
  readonly token: string
  readonly tokenId: string
  readonly issuedAt: Date
  readonly expiresSeconds: number
}

export type VerifiedToken = TokenClaims & {
  readonly tokenId: string
  readonly expiresAt: Date
  /** The key that signed the token. */
  readonly kid: string
}

/** A token that is refused. The message gives the reason, in one sentence. */
export class InvalidTokenError extends Error {
  override readonly name = 'InvalidTokenError'
}

/** RFC 9068, section 2.1: the type distinguishes access tokens from all others. */
const TYPE = 'at+jwt'
const ALGORITHMS = ['ES256', 'EdDSA']
/** Clocks of replicas differ. */
const CLOCK_TOLERANCE_SECONDS = 5
const TOKEN_LENGTH_MAX = 32 * 1024
const FORBIDDEN_HEADERS = ['jwk', 'jku', 'x5c', 'x5u', 'crit', 'b64']
const REQUIRED_CLAIMS = ['exp', 'nbf', 'iat', 'jti', 'sub']

/** True for a text in the form of a JWT, of any issuer. */
export function isTokenLike(text: string): boolean {
  return /^eyJ[\w-]*\.[\w-]+\.[\w-]*$/.test(text)
}

/** Mints and verifies the registry's own access tokens (RFC 9068; distribution, "Token Authentication"). */
export class AccessTokens {
  readonly #keys: KeyRing
  readonly #issuer: RegistryIssuer

  constructor(keys: KeyRing, issuer: RegistryIssuer) {
    this.#keys = keys
    this.#issuer = issuer
  }

  async mint(claims: TokenClaims, seconds: number): Promise<MintedToken> {
    const key = this.#keys.signingKey()
    const { access, origin, networks, tokenId = randomUUID() } = claims
    const issuedAt = new Date()
    const now = Math.floor(issuedAt.getTime() / 1000)
    const token = await new SignJWT({
      access,
      ...(origin === undefined ? {} : { origin }),
      ...(networks === undefined ? {} : { networks }),
    })
      .setProtectedHeader({ alg: key.algorithm, kid: key.kid, typ: TYPE })
      .setIssuer(this.#issuer.url)
      .setAudience(this.#issuer.service)
      .setSubject(claims.subject)
      .setIssuedAt(now)
      .setNotBefore(now)
      .setExpirationTime(now + seconds)
      .setJti(tokenId)
      .sign(key.privateKey)
    return { token, tokenId, issuedAt, expiresSeconds: seconds }
  }

  /** False when the key that signed a verified token is no longer trusted. */
  isKeyTrusted({ kid }: Pick<VerifiedToken, 'kid'>): boolean {
    return this.#keys.isTrusted(kid)
  }

  /**
   * Returns the claims of a token, also of an expired one: the caller checks `expiresAt`. Throws
   * InvalidTokenError for a token of another issuer, another audience or type, or not yet valid.
   */
  async verify(token: string): Promise<VerifiedToken> {
    if (token.length > TOKEN_LENGTH_MAX) throw new InvalidTokenError('the token is too long')
    let kid = ''
    try {
      const { payload } = await jwtVerify(
        token,
        async (header) => {
          const forbidden = FORBIDDEN_HEADERS.find((name) => name in header)
          if (forbidden !== undefined) {
            throw new InvalidTokenError(`a token with a ${forbidden} header is not accepted`)
          }
          const key = typeof header.kid === 'string' ? await this.#keys.find(header.kid) : undefined
          if (key === undefined || key.algorithm !== header.alg) {
            throw new InvalidTokenError('the token was not signed by this registry')
          }
          kid = key.kid
          return key.publicKey
        },
        {
          algorithms: ALGORITHMS,
          typ: TYPE,
          issuer: this.#issuer.url,
          audience: this.#issuer.service,
          clockTolerance: CLOCK_TOLERANCE_SECONDS,
          requiredClaims: REQUIRED_CLAIMS,
        },
      )
      return claimsOf(payload, kid)
    } catch (error) {
      // The library checks expiry last: everything else about the token is right.
      if (error instanceof errors.JWTExpired) return claimsOf(error.payload, kid)
      throw invalidTokenOf(error)
    }
  }
}

function invalidTokenOf(error: unknown): unknown {
  if (error instanceof InvalidTokenError) return error
  if (error instanceof errors.JWTClaimValidationFailed) {
    const message =
      error.claim === 'nbf'
        ? 'the token is not valid yet'
        : `the token is not meant for this registry: its ${error.claim} does not match`
    return new InvalidTokenError(message, { cause: error })
  }
  if (error instanceof errors.JOSEError) {
    return new InvalidTokenError('the token was not signed by this registry', { cause: error })
  }
  return error
}

/** The claims need no further checks: only the registry's keys sign this type. */
function claimsOf(payload: JWTPayload, kid: string): VerifiedToken {
  const { sub, jti, exp, access, origin, networks } = payload
  if (sub === undefined || jti === undefined || exp === undefined || !Array.isArray(access)) {
    throw new InvalidTokenError('the token has missing claims')
  }
  return {
    subject: sub,
    tokenId: jti,
    expiresAt: new Date(exp * 1000),
    kid,
    access: access as AccessEntry[],
    origin: typeof origin === 'string' ? origin : undefined,
    networks: Array.isArray(networks) ? (networks as string[]) : undefined,
  }
}

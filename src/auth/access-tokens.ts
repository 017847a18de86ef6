import { randomUUID } from 'node:crypto'
import { errors, type JWTPayload, jwtVerify, SignJWT } from 'jose'
import type { AccessEntry } from './scope.ts'
import type { KeyRing } from './signing-keys.ts'

/** What this registry is called in tokens. */
export type RegistryIssuer = {
  /** `iss`: its public URL, or a URN of the installation's own. */
  readonly url: string
  /** `aud`: what clients are told to ask tokens for. */
  readonly service: string
}

/** What a token says beside its times. */
export type TokenClaims = {
  /** Who has it; empty for nobody in particular. */
  readonly subject: string
  /** What the right comes from; see `Identity.origin`. */
  readonly origin?: string | undefined
  /** `jti`: of the token that it was asked for with, so that both end together. Undefined: a new one. */
  readonly tokenId?: string | undefined
  readonly access: readonly AccessEntry[]
  /** The networks from which it may be used. */
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
  /** The key that signed it. */
  readonly kid: string
}

/** Why a token is not believed, in one sentence for its holder. */
export class InvalidTokenError extends Error {
  override readonly name = 'InvalidTokenError'
  /** True when the signature was ours, so that this was no attempt at guessing. */
  readonly hasValidSignature: boolean

  constructor(message: string, genuine: boolean, cause?: unknown) {
    super(message, { cause })
    this.hasValidSignature = genuine
  }
}

/** RFC 9068, section 2.1: no token of another purpose is taken for one of these. */
const TYPE = 'at+jwt'
const ALGORITHMS = ['ES256', 'EdDSA']
/** Clocks of replicas differ. */
const TOLERANCE_SECONDS = 5
const TOKEN_LENGTH_MAX = 32 * 1024
const FORBIDDEN_HEADERS = ['jwk', 'jku', 'x5c', 'x5u', 'crit', 'b64']
const REQUIRED_CLAIMS = ['exp', 'nbf', 'iat', 'jti', 'sub']

/** True for what looks like a JWT, whoever made it. */
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

  /** False when the key that signed a verified token is not believed any more. */
  isKeyTrusted({ kid }: Pick<VerifiedToken, 'kid'>): boolean {
    return this.#keys.isTrusted(kid)
  }

  /**
   * What the token says, also when it has expired: `expiresAt` tells. Throws InvalidTokenError for one that
   * was never ours, is meant for something else, or is not valid yet.
   */
  async verify(token: string): Promise<VerifiedToken> {
    if (token.length > TOKEN_LENGTH_MAX) throw new InvalidTokenError('the token is too long', false)
    let kid = ''
    try {
      const { payload } = await jwtVerify(
        token,
        async (header) => {
          const forbidden = FORBIDDEN_HEADERS.find((name) => name in header)
          if (forbidden !== undefined) {
            throw new InvalidTokenError(`a token with a ${forbidden} header is not believed`, false)
          }
          const key = typeof header.kid === 'string' ? await this.#keys.find(header.kid) : undefined
          if (key === undefined || key.algorithm !== header.alg) {
            throw new InvalidTokenError('the token was not signed by this registry', false)
          }
          kid = key.kid
          return key.publicKey
        },
        {
          algorithms: ALGORITHMS,
          typ: TYPE,
          issuer: this.#issuer.url,
          audience: this.#issuer.service,
          clockTolerance: TOLERANCE_SECONDS,
          requiredClaims: REQUIRED_CLAIMS,
        },
      )
      return verified(payload, kid)
    } catch (error) {
      // Everything else about it was right: the library looks at this last.
      if (error instanceof errors.JWTExpired) return verified(error.payload, kid)
      throw refusal(error)
    }
  }
}

function refusal(error: unknown): unknown {
  if (error instanceof InvalidTokenError) return error
  if (error instanceof errors.JWTClaimValidationFailed) {
    const message =
      error.claim === 'nbf'
        ? 'the token is not valid yet'
        : `the token is not meant for this: its ${error.claim} is not the right one`
    return new InvalidTokenError(message, true, error)
  }
  if (error instanceof errors.JOSEError) {
    return new InvalidTokenError('the token was not signed by this registry', false, error)
  }
  return error
}

/** The claims are our own: only keys of ours sign this type. */
function verified(payload: JWTPayload, kid: string): VerifiedToken {
  const { sub, jti, exp, access, origin, networks } = payload
  if (sub === undefined || jti === undefined || exp === undefined || !Array.isArray(access)) {
    throw new InvalidTokenError('the token lacks claims', true)
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

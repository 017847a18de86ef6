import { createHash } from 'node:crypto'
import { compactVerify, decodeJwt, decodeProtectedHeader, type JWSHeaderParameters } from 'jose'
import type { IssuerKeys } from './issuer-keys.ts'

/** The claims of a token. */
export type Claims = Readonly<Record<string, unknown>>

/** A decoded identity token. Nothing in it is trusted before its signature is verified. */
export type IdentityToken = {
  readonly text: string
  readonly header: JWSHeaderParameters
  readonly claims: Claims
  /** `iss` */
  readonly issuer: string
  /** `sub` */
  readonly subject: string
}

/** An identity token that is refused. The message gives the reason, in one sentence. */
export class InvalidIdentityTokenError extends Error {
  override readonly name = 'InvalidIdentityTokenError'
}

const TOKEN_LENGTH_MAX = 16 * 1024
/** Asymmetric algorithms only: anybody who can verify an HMAC could create one. */
const ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
]
/** Headers that bring their own keys or change how the token is interpreted. */
const FORBIDDEN_HEADERS = ['jwk', 'jku', 'x5c', 'x5u', 'crit', 'b64']
/** Clocks of issuers differ. */
export const CLOCK_TOLERANCE_SECONDS = 30
/** Far more than the clocks of replicas and database differ. */
const REPLAY_MARGIN_SECONDS = 900
/**
 * Longest age of an identity token, for any `exp`. Some issuers give a job a token at its start that is
 * valid for as long as the job may run.
 */
export const IDENTITY_AGE_SECONDS_MAX = 6 * 3600

/** Decodes a token without verifying it. Throws InvalidIdentityTokenError for another text. */
export function decodeIdentityToken(text: string): IdentityToken {
  if (text.length > TOKEN_LENGTH_MAX) {
    throw new InvalidIdentityTokenError(
      `an identity token may have at most ${TOKEN_LENGTH_MAX} characters`,
    )
  }
  try {
    const claims: Claims = decodeJwt(text)
    const header = decodeProtectedHeader(text)
    const { iss, sub } = claims
    if (isText(iss) && isText(sub)) return { text, header, claims, issuer: iss, subject: sub }
  } catch (cause) {
    throw new InvalidIdentityTokenError('an identity token must be a signed JSON Web Token', {
      cause,
    })
  }
  throw new InvalidIdentityTokenError(
    'an identity token must have the claims iss (its issuer) and sub (its subject)',
  )
}

/** Throws InvalidIdentityTokenError unless the issuer signed the token, and IssuerUnavailableError. */
export async function verifySignature(token: IdentityToken, keys: IssuerKeys): Promise<void> {
  const { text, header, issuer } = token
  const forbidden = FORBIDDEN_HEADERS.find((name) => name in header)
  if (forbidden !== undefined) {
    throw new InvalidIdentityTokenError(
      `an identity token with a ${forbidden} header is not accepted`,
    )
  }
  if (!ALGORITHMS.some((algorithm) => algorithm === header.alg)) {
    throw new InvalidIdentityTokenError(
      `an identity token must be signed with one of ${ALGORITHMS.join(', ')}`,
    )
  }
  const key = await keys.find(issuer, header)
  if (key === undefined) {
    throw new InvalidIdentityTokenError('the identity token names no key of its issuer')
  }
  try {
    await compactVerify(text, key, { algorithms: ALGORITHMS })
  } catch (cause) {
    throw new InvalidIdentityTokenError('the signature of the identity token is wrong', { cause })
  }
}

/** Returns the error text for invalid or expired times, or undefined. `now` is in milliseconds. */
export function findTimeProblem({ claims }: IdentityToken, now: number): string | undefined {
  const seconds = now / 1000
  const { exp, iat, nbf } = claims
  if (!isTime(exp)) return 'the identity token has no time of expiry (exp)'
  if (!isTime(iat)) return 'the identity token has no time of issue (iat)'
  if (nbf !== undefined && !isTime(nbf)) return 'nbf of the identity token is not a time'
  if (Math.max(iat, nbf ?? iat) > seconds + CLOCK_TOLERANCE_SECONDS) {
    return 'the identity token is not valid yet'
  }
  if (exp <= seconds - CLOCK_TOLERANCE_SECONDS) return 'the identity token has expired'
  if (iat <= seconds - CLOCK_TOLERANCE_SECONDS - IDENTITY_AGE_SECONDS_MAX) {
    return `the identity token was issued more than ${IDENTITY_AGE_SECONDS_MAX / 3600} hours ago`
  }
  return undefined
}

/**
 * Returns the time after which no replica accepts the token, even with a wrong clock. It is called only for a token
 * without a time problem, so it is hours away and not the years that an issuer may have set.
 */
export function replayCheckedUntil({ claims }: IdentityToken): Date {
  const aged = Number(claims.iat) + IDENTITY_AGE_SECONDS_MAX
  return new Date((Math.min(Number(claims.exp), aged) + REPLAY_MARGIN_SECONDS) * 1000)
}

/**
 * Returns an id that is unique for the issuer: the `jti`, or a hash of the signed part. The signature itself
 * is not part of the hash: it could be encoded differently and still be valid.
 */
export function identityTokenId({ text, claims: { jti } }: IdentityToken): string {
  return typeof jti === 'string' && jti !== ''
    ? `jti:${sha256(jti)}`
    : `token:${sha256(text.slice(0, text.lastIndexOf('.')))}`
}

/** Returns the audiences: `aud` may have one or several. */
export function audiencesOf({ claims: { aud } }: IdentityToken): string[] {
  return [aud].flat().filter((one) => typeof one === 'string')
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && !value.includes('\0')
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('base64url')
}

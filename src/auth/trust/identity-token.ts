import { createHash } from 'node:crypto'
import { compactVerify, decodeJwt, decodeProtectedHeader, type JWSHeaderParameters } from 'jose'
import type { IssuerKeys } from './issuer-keys.ts'

/** What a token says of itself and its holder. */
export type Claims = Readonly<Record<string, unknown>>

/** An identity token as it reads. Nothing in it is believed before its signature is checked. */
export type IdentityToken = {
  readonly text: string
  readonly header: JWSHeaderParameters
  readonly claims: Claims
  /** `iss` */
  readonly issuer: string
  /** `sub` */
  readonly subject: string
}

/** Why an identity token is not believed, in one sentence for its holder. */
export class InvalidIdentityTokenError extends Error {
  override readonly name = 'InvalidIdentityTokenError'
}

const TOKEN_LENGTH_MAX = 16 * 1024
/** With keys that only the issuer has: an HMAC could be made by everybody who verifies. */
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
/** Headers that bring their own keys, or change how the rest is to be read. */
const FORBIDDEN_HEADERS = ['jwk', 'jku', 'x5c', 'x5u', 'crit', 'b64']
/** Clocks of others differ. */
export const CLOCK_TOLERANCE_SECONDS = 30
/** Far more than the clocks of replicas and database differ. */
const KEPT_SECONDS = 900
/**
 * However long an issuer says: some give a job its token at its start, good for as long as the job may
 * run, and after so long nobody takes it any more.
 */
export const IDENTITY_AGE_SECONDS_MAX = 6 * 3600

/** Reads a token without believing it. Throws InvalidIdentityTokenError for what is none. */
export function decodeIdentityToken(text: string): IdentityToken {
  if (text.length > TOKEN_LENGTH_MAX) {
    throw new InvalidIdentityTokenError(
      `an identity token has at most ${TOKEN_LENGTH_MAX} characters`,
    )
  }
  try {
    const claims: Claims = decodeJwt(text)
    const header = decodeProtectedHeader(text)
    const { iss, sub } = claims
    if (isText(iss) && isText(sub)) return { text, header, claims, issuer: iss, subject: sub }
  } catch (cause) {
    throw new InvalidIdentityTokenError('an identity token is a signed JSON Web Token', { cause })
  }
  throw new InvalidIdentityTokenError(
    'an identity token says in iss who issued it, and in sub to whom',
  )
}

/** Throws InvalidIdentityTokenError when the issuer did not sign it, and IssuerUnavailableError. */
export async function verifySignature(token: IdentityToken, keys: IssuerKeys): Promise<void> {
  const { text, header, issuer } = token
  const forbidden = FORBIDDEN_HEADERS.find((name) => name in header)
  if (forbidden !== undefined) {
    throw new InvalidIdentityTokenError(
      `an identity token with a ${forbidden} header is not believed`,
    )
  }
  if (!ALGORITHMS.some((algorithm) => algorithm === header.alg)) {
    throw new InvalidIdentityTokenError(`an identity token is signed with ${ALGORITHMS.join(', ')}`)
  }
  const key = await keys.find(issuer, header)
  if (key === undefined) {
    throw new InvalidIdentityTokenError('the identity token names no key that its issuer has')
  }
  try {
    await compactVerify(text, key, { algorithms: ALGORITHMS })
  } catch (cause) {
    throw new InvalidIdentityTokenError('the signature of the identity token is wrong', { cause })
  }
}

/** What is wrong with its times; undefined when nothing is. `now` is in milliseconds. */
export function findTimeProblem({ claims }: IdentityToken, now: number): string | undefined {
  const seconds = now / 1000
  const { exp, iat, nbf } = claims
  if (!isTime(exp)) return 'the identity token does not say in exp when it expires'
  if (!isTime(iat)) return 'the identity token does not say in iat when it was issued'
  if (nbf !== undefined && !isTime(nbf)) return 'the nbf of the identity token is no time'
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
 * When no replica takes it any more, whatever its clock; only for a token without a time fault, so that
 * it is remembered for hours and not for the years that an issuer may have said.
 */
export function replayCheckedUntil({ claims }: IdentityToken): Date {
  const aged = Number(claims.iat) + IDENTITY_AGE_SECONDS_MAX
  return new Date((Math.min(Number(claims.exp), aged) + KEPT_SECONDS) * 1000)
}

/**
 * What tells the token from all others of its issuer: its `jti`, or else a hash of what is signed. The
 * signature itself could be written in another way and still be right.
 */
export function identityTokenId({ text, claims: { jti } }: IdentityToken): string {
  return typeof jti === 'string' && jti !== ''
    ? `jti:${sha256(jti)}`
    : `token:${sha256(text.slice(0, text.lastIndexOf('.')))}`
}

/** `aud`, which may be one or several. */
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

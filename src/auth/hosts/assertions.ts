import { compactVerify, decodeJwt, decodeProtectedHeader } from 'jose'
import { algorithmOf, type HostJwk, importHostKey } from './host-key.ts'

/** An assertion that is refused. The message gives the reason. */
export class InvalidAssertionError extends Error {
  override readonly name = 'InvalidAssertionError'
}

/** An assertion whose signature and claims are right. */
export type Assertion = {
  /** The thumbprint of the key that signed it. */
  readonly thumbprint: string
  /** `jti`: no other assertion of the key has it. */
  readonly id: string
  /** No process accepts the assertion after this time, even with a clock that is off. */
  readonly refusedFrom: Date
}

/** How an assertion is verified. */
export type AssertionContext = {
  /** `aud`: the issuer of the registry. */
  readonly audience: string
  /** Milliseconds since the epoch. */
  readonly now: number
  /** Returns the key with this thumbprint, or undefined. */
  readonly findKey: (thumbprint: string) => Promise<HostJwk | undefined>
}

/** Longest time from now to `exp`, in seconds: a stolen assertion is useless soon. */
export const ASSERTION_SECONDS_MAX = 300
/** Clocks of hosts differ. */
export const ASSERTION_CLOCK_SECONDS = 30
/** Far more than the clocks of replicas and database differ. */
const REPLAY_MARGIN_SECONDS = 900
const ASSERTION_LENGTH_MAX = 4096
const ID_LENGTH_MAX = 128
const ALGORITHMS = ['EdDSA', 'ES256']
/** Headers that bring their own keys or change how the assertion is interpreted. */
const FORBIDDEN_HEADERS = ['jwk', 'jku', 'x5c', 'x5u', 'crit', 'b64']
const THUMBPRINT = /^[\w-]{43}$/

/**
 * Verifies an assertion by which a host proves that it has its key (RFC 7523, section 3): `iss`, `sub` and `kid` are the
 * thumbprint of the key, `aud` is the issuer of the registry, `exp` is at most five minutes away, and `jti` names it.
 * Throws InvalidAssertionError.
 */
export async function verifyAssertion(
  text: string,
  { audience, now, findKey }: AssertionContext,
): Promise<Assertion> {
  if (text.length > ASSERTION_LENGTH_MAX) {
    throw new InvalidAssertionError(
      `an assertion may have at most ${ASSERTION_LENGTH_MAX} characters`,
    )
  }
  const { header, claims } = decode(text)
  const forbidden = FORBIDDEN_HEADERS.find((name) => name in header)
  if (forbidden !== undefined) {
    throw new InvalidAssertionError(`an assertion with a ${forbidden} header is not accepted`)
  }
  if (!ALGORITHMS.some((algorithm) => algorithm === header.alg)) {
    throw new InvalidAssertionError(`alg must be ${ALGORITHMS.join(' or ')}`)
  }
  const { kid } = header
  if (typeof kid !== 'string' || !THUMBPRINT.test(kid)) {
    throw new InvalidAssertionError('kid must be the thumbprint of the key (RFC 7638, SHA-256)')
  }
  const jwk = await findKey(kid)
  if (jwk === undefined) {
    throw new InvalidAssertionError('no host has the key of this assertion: enrol the host')
  }
  await verifySignature(text, jwk, header.alg)
  if (claims.iss !== kid || claims.sub !== kid) {
    throw new InvalidAssertionError('iss and sub must be the thumbprint of the key, as kid is')
  }
  const { aud } = claims
  if (aud !== audience && !(Array.isArray(aud) && aud.length === 1 && aud[0] === audience)) {
    throw new InvalidAssertionError(
      `aud must be ${audience}, the issuer that /.well-known/openid-configuration names`,
    )
  }
  const expires = requireTimes(claims, now / 1000)
  return {
    thumbprint: kid,
    id: requireId(claims.jti),
    refusedFrom: new Date((expires + REPLAY_MARGIN_SECONDS) * 1000),
  }
}

type Claims = Readonly<Record<string, unknown>>

function decode(text: string): { header: Claims; claims: Claims } {
  try {
    return { header: { ...decodeProtectedHeader(text) }, claims: decodeJwt(text) }
  } catch (cause) {
    throw new InvalidAssertionError('an assertion must be a signed JSON Web Token', { cause })
  }
}

async function verifySignature(text: string, jwk: HostJwk, given: unknown): Promise<void> {
  const algorithm = algorithmOf(jwk)
  if (given !== algorithm) {
    throw new InvalidAssertionError(`alg must be ${algorithm}, as the key is a ${jwk.crv} key`)
  }
  try {
    await compactVerify(text, await importHostKey(jwk), { algorithms: [algorithm] })
  } catch (cause) {
    throw new InvalidAssertionError('the signature of the assertion is wrong', { cause })
  }
}

function requireId(jti: unknown): string {
  if (typeof jti === 'string' && jti !== '' && jti.length <= ID_LENGTH_MAX && !jti.includes('\0')) {
    return jti
  }
  throw new InvalidAssertionError(`jti must be a text of 1 to ${ID_LENGTH_MAX} characters`)
}

/** Returns `exp`. `now` is in seconds. */
function requireTimes({ exp, iat, nbf }: Claims, now: number): number {
  if (!isTime(exp)) throw new InvalidAssertionError('exp must be a time in seconds')
  for (const [name, time] of Object.entries({ iat, nbf })) {
    if (time !== undefined && !isTime(time)) {
      throw new InvalidAssertionError(`${name} must be a time in seconds`)
    }
  }
  const problem = findTimeProblem(exp, isTime(iat) ? iat : undefined, nbf, now)
  if (problem !== undefined) {
    throw new InvalidAssertionError(`${problem}${clockAdvice(isTime(iat) ? iat : undefined, now)}`)
  }
  return exp
}

function findTimeProblem(
  exp: number,
  iat: number | undefined,
  nbf: unknown,
  now: number,
): string | undefined {
  if (exp <= now - ASSERTION_CLOCK_SECONDS) {
    return `the assertion expired ${Math.round(now - exp)} s ago`
  }
  const begin = Math.max(iat ?? 0, isTime(nbf) ? nbf : 0)
  if (begin > now + ASSERTION_CLOCK_SECONDS) {
    return `the assertion is valid in ${Math.round(begin - now)} s only`
  }
  if (exp > now + ASSERTION_SECONDS_MAX + ASSERTION_CLOCK_SECONDS) {
    return `the assertion ends in ${Math.round(exp - now)} s, and exp may be at most ${ASSERTION_SECONDS_MAX} s away`
  }
  return undefined
}

/** Says by how much the clock of the host is off, as far as `iat` shows it. */
function clockAdvice(iat: number | undefined, now: number): string {
  const source = 'the Date header of this answer has the time of the registry'
  if (iat === undefined) return `: check the clock of the host; ${source}`
  const seconds = Math.round(Math.abs(iat - now))
  if (seconds <= ASSERTION_CLOCK_SECONDS) return ''
  return `: the clock of the host is ${seconds} s ${iat < now ? 'behind' : 'ahead'}; ${source}`
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

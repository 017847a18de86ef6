import { type CryptoKey, calculateJwkThumbprint, importJWK } from 'jose'
import { badRequest } from '../../oci/errors.ts'

/** A public key of a host, of one of the two kinds that every openssl since 1.1.1 makes (RFC 8037, RFC 7518). */
export type HostJwk =
  | { readonly kty: 'OKP'; readonly crv: 'Ed25519'; readonly x: string }
  | { readonly kty: 'EC'; readonly crv: 'P-256'; readonly x: string; readonly y: string }

export type HostKey = {
  readonly jwk: HostJwk
  /** RFC 7638, SHA-256: the `kid` of its assertions, and the fingerprint that people compare. */
  readonly thumbprint: string
}

const JWK_LENGTH_MAX = 1024
/** 32 bytes in base64url, whose last character has two bits that are zero. */
const COORDINATE = /^[\w-]{42}[AEIMQUYcgkosw048]$/
/** Members that say how a key is used, and have no effect here (RFC 7517, section 4). */
const IGNORED: ReadonlySet<string> = new Set(['kid', 'use', 'key_ops', 'alg'])
const PRIVATE: ReadonlySet<string> = new Set(['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'])
/**
 * The points of Ed25519 whose order is at most 8, without the sign of x: with such a key anybody can make a signature
 * that is valid.
 */
const SMALL_ORDER: ReadonlySet<string> = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
])

const RULE =
  'jwk must be a public key as JSON: {"kty":"OKP","crv":"Ed25519","x":…} or {"kty":"EC","crv":"P-256","x":…,"y":…}'

/** Parses the public key of a host, a JWK as JSON text or as an object. Throws REQUEST_INVALID. */
export async function parseHostKey(value: unknown): Promise<HostKey> {
  const members = membersOf(value)
  if (Object.keys(members).some((name) => PRIVATE.has(name))) {
    throw badRequest(
      'jwk has the private key, which must not leave the host: make another key, and send its public members only',
    )
  }
  const jwk = jwkOf(members)
  try {
    await importHostKey(jwk)
  } catch (cause) {
    throw badRequest(`${RULE}; this one is no point of its curve`, { cause })
  }
  return { jwk, thumbprint: await calculateJwkThumbprint(jwk, 'sha256') }
}

/** Returns the only algorithm that a key is used with: a token cannot choose another one. */
export function algorithmOf({ kty }: HostJwk): 'EdDSA' | 'ES256' {
  return kty === 'OKP' ? 'EdDSA' : 'ES256'
}

/** Returns the key that verifies signatures. Throws for a point that is not on the curve. */
export async function importHostKey(jwk: HostJwk): Promise<CryptoKey> {
  const key = await importJWK(jwk, algorithmOf(jwk))
  if (key instanceof Uint8Array) throw new Error('a public key was read as a secret')
  return key
}

function membersOf(value: unknown): Readonly<Record<string, unknown>> {
  let parsed = value
  if (typeof value === 'string') {
    if (value.length > JWK_LENGTH_MAX) {
      throw badRequest(`jwk may have at most ${JWK_LENGTH_MAX} characters`)
    }
    try {
      parsed = JSON.parse(value)
    } catch (cause) {
      throw badRequest(RULE, { cause })
    }
  }
  if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) return { ...parsed }
  throw badRequest(RULE)
}

function jwkOf(members: Readonly<Record<string, unknown>>): HostJwk {
  const { kty, crv, x, y } = members
  const allowed = new Set(['kty', 'crv', 'x', ...(kty === 'EC' ? ['y'] : []), ...IGNORED])
  const unknown = Object.keys(members).find((name) => !allowed.has(name))
  if (unknown !== undefined) {
    throw badRequest(`${unknown.slice(0, 32)} is not a member of such a key; ${RULE}`)
  }
  if (kty === 'OKP' && crv === 'Ed25519' && isCoordinate(x)) {
    assertLargeOrder(x)
    return { kty, crv, x }
  }
  if (kty === 'EC' && crv === 'P-256' && isCoordinate(x) && isCoordinate(y)) {
    return { kty, crv, x, y }
  }
  throw badRequest(RULE)
}

function isCoordinate(value: unknown): value is string {
  return typeof value === 'string' && COORDINATE.test(value)
}

function assertLargeOrder(x: string): void {
  const bytes = Buffer.from(x, 'base64url')
  bytes[31] = (bytes[31] ?? 0) & 0x7f
  if (!SMALL_ORDER.has(bytes.toString('hex'))) return
  throw badRequest('jwk is a weak key, for which anybody can sign: make another one')
}

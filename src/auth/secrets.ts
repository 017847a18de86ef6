import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { crc32 } from 'node:zlib'

const SECRET_BYTES = 32

/** The prefix of a secret names its purpose. A secret of one purpose is invalid for another. */
export const SECRET_PREFIXES = {
  credential: 'rky',
  refresh: 'rkr',
  uploadUrl: 'rku',
  enrolment: 'rke',
  session: 'rks',
} as const
export type SecretPurpose = keyof typeof SECRET_PREFIXES

const SHAPE = /^(rk[yrues]_[A-Za-z0-9_-]{43})_([0-9a-f]{8})$/

/**
 * Generates a secret, `rky_<256 random bits>_<checksum>`. Scanners find leaked secrets by the prefix, and the
 * checksum distinguishes a mistyped secret from an unknown one.
 */
export function generateSecret(purpose: SecretPurpose = 'credential'): string {
  const body = `${SECRET_PREFIXES[purpose]}_${randomBytes(SECRET_BYTES).toString('base64url')}`
  return `${body}_${checksumOf(body)}`
}

/** True when prefix and checksum are right: other texts need no lookup. */
export function isSecretLike(text: string, purpose: SecretPurpose): boolean {
  const match = SHAPE.exec(text)
  return (
    match !== null &&
    text.startsWith(`${SECRET_PREFIXES[purpose]}_`) &&
    checksumOf(match[1] ?? '') === match[2]
  )
}

/** Returns the SHA-256. A secret has 256 random bits, so a slow hash would add nothing. */
export function hashSecret(secret: string): Buffer {
  return createHash('sha256').update(secret).digest()
}

/** Compares in constant time. */
export function matchesSecretHash(candidate: string, hash: Buffer): boolean {
  return timingSafeEqual(hashSecret(candidate), hash)
}

function checksumOf(body: string): string {
  return crc32(body).toString(16).padStart(8, '0')
}

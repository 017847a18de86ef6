import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { crc32 } from 'node:zlib'

const SECRET_BYTES = 32

/** What a secret is for, by its first letters; one kind never passes for another. */
export const SECRET_PREFIXES = { credential: 'rky', refresh: 'rkr', uploadUrl: 'rku' } as const
export type SecretPurpose = keyof typeof SECRET_PREFIXES

const SHAPE = /^(rk[yru]_[A-Za-z0-9_-]{43})_([0-9a-f]{8})$/

/**
 * A new secret, `rky_<256 random bits>_<checksum>`: the prefix lets scanners find one that leaked,
 * and the checksum tells a mistyped one from a wrong one.
 */
export function generateSecret(purpose: SecretPurpose = 'credential'): string {
  const body = `${SECRET_PREFIXES[purpose]}_${randomBytes(SECRET_BYTES).toString('base64url')}`
  return `${body}_${checksumOf(body)}`
}

/** True for what may be a secret of that purpose: nothing else needs to be looked up. */
export function isSecretLike(text: string, purpose: SecretPurpose): boolean {
  const match = SHAPE.exec(text)
  return (
    match !== null &&
    text.startsWith(`${SECRET_PREFIXES[purpose]}_`) &&
    checksumOf(match[1] ?? '') === match[2]
  )
}

/** SHA-256: a secret has 256 random bits, so a slow hash would add nothing. */
export function hashSecret(secret: string): Buffer {
  return createHash('sha256').update(secret).digest()
}

/** Takes the same time whether and wherever they differ. */
export function matchesSecretHash(candidate: string, hash: Buffer): boolean {
  return timingSafeEqual(hashSecret(candidate), hash)
}

function checksumOf(body: string): string {
  return crc32(body).toString(16).padStart(8, '0')
}

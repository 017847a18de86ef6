import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { crc32 } from 'node:zlib'

const SECRET_BYTES = 32
const PREFIX = 'rky'

/**
 * A new secret, `rky_<256 random bits>_<checksum>`: the prefix lets scanners find one that leaked,
 * and the checksum tells a mistyped one from a wrong one.
 */
export function generateSecret(): string {
  const body = `${PREFIX}_${randomBytes(SECRET_BYTES).toString('base64url')}`
  return `${body}_${crc32(body).toString(16).padStart(8, '0')}`
}

/** SHA-256: a secret has 256 random bits, so a slow hash would add nothing. */
export function hashSecret(secret: string): Buffer {
  return createHash('sha256').update(secret).digest()
}

/** Takes the same time whether and wherever they differ. */
export function isSecret(candidate: string, hash: Buffer): boolean {
  return timingSafeEqual(hashSecret(candidate), hash)
}

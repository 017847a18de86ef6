import { describe, expect, it } from 'vitest'
import {
  generateSecret,
  hashSecret,
  isSecretLike,
  matchesSecretHash,
  SECRET_PREFIXES,
  type SecretPurpose,
} from '../../src/auth/secrets.ts'

const PURPOSES = Object.keys(SECRET_PREFIXES) as SecretPurpose[]

describe('a secret', () => {
  it.each(PURPOSES)('for a %s has no other purpose', (purpose) => {
    const secret = generateSecret(purpose)
    const fits = PURPOSES.filter((one) => isSecretLike(secret, one))
    expect(fits).toEqual([purpose])
    for (const prefix of Object.values(SECRET_PREFIXES)) {
      const renamed = prefix + secret.slice(prefix.length)
      expect(PURPOSES.some((one) => isSecretLike(renamed, one))).toBe(renamed === secret)
    }
  })

  it('is unique, and has 256 random bits', () => {
    const many = new Set(Array.from({ length: 1000 }, () => generateSecret()))
    expect(many.size).toBe(1000)
    for (const secret of many) expect(secret).toMatch(/^rky_[\w-]{43}_[0-9a-f]{8}$/)
  })

  it('with any one mistyped character is recognized as mistyped', () => {
    const secret = generateSecret()
    for (let at = 0; at < secret.length; at += 1) {
      for (const other of ['a', 'Z', '0', '_', '-', ' ', 'ä']) {
        const mistyped = secret.slice(0, at) + other + secret.slice(at + 1)
        if (mistyped !== secret) expect(isSecretLike(mistyped, 'credential')).toBe(false)
      }
    }
  })

  it.each([
    '',
    'rky_',
    'rky__00000000',
    `rky_${'a'.repeat(43)}_00000000`,
    `rky_${'a'.repeat(1_000_000)}_00000000`,
    `${generateSecret()}\n`,
    `\n${generateSecret()}`,
    `${generateSecret()}${generateSecret()}`,
    generateSecret().toUpperCase(),
  ])('is not %#', (text) => {
    expect(isSecretLike(text, 'credential')).toBe(false)
  })

  it('is compared completely, at any length', () => {
    const secret = generateSecret()
    const hash = hashSecret(secret)
    expect(matchesSecretHash(secret, hash)).toBe(true)
    for (const other of [
      '',
      secret.slice(1),
      `${secret}x`,
      generateSecret(),
      'x'.repeat(100_000),
    ]) {
      expect(matchesSecretHash(other, hash)).toBe(false)
    }
  })
})

import { createHash, type Hash } from 'node:crypto'
import { RegistryError } from './errors.ts'

/** The hash algorithms of the image spec ("Registered Algorithms") that this registry computes. */
export const ALGORITHMS = { sha256: 64, sha512: 128 } as const

export type Algorithm = keyof typeof ALGORITHMS

/** Made only by `parseDigest` and `digestOf`, so holding one proves that it is well formed. */
export type Digest = string & { readonly __type: 'Digest' }

const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/
const DIGEST_LENGTH_MAX = 'sha512:'.length + ALGORITHMS.sha512

/** Parses a digest: image spec, "Digests". Throws DIGEST_INVALID for a malformed digest or an unknown algorithm. */
export function parseDigest(text: string): Digest {
  if (text.length > DIGEST_LENGTH_MAX || !DIGEST.test(text)) {
    throw new RegistryError(
      'DIGEST_INVALID',
      { digest: shortened(text) },
      { message: 'a digest is sha256: and 64, or sha512: and 128 lower-case hexadecimal digits' },
    )
  }
  return text as Digest
}

/** The beginning of a digest, which people copy from a table. Made only by `isDigestPrefix`. */
export type DigestPrefix = string & { readonly __type: 'DigestPrefix' }

/** Fewer digits could be those of many images. */
export const PREFIX_DIGITS_MIN = 7
const PREFIX = new RegExp(
  `^(?:sha256:[0-9a-f]{${PREFIX_DIGITS_MIN},63}|sha512:[0-9a-f]{${PREFIX_DIGITS_MIN},127})$`,
)

/** True for a shortened digest, such as `sha256:3e8948f1c2d0`. The distribution spec knows whole digests only. */
export function isDigestPrefix(text: string): text is DigestPrefix {
  return text.length < DIGEST_LENGTH_MAX && PREFIX.test(text)
}

/** Returns the only digest that a prefix is of; undefined when there is none. Throws DIGEST_INVALID when there are several. */
export function onlyDigestOf(prefix: DigestPrefix, digests: readonly Digest[]): Digest | undefined {
  const [first, ...others] = digests
  if (others.length === 0) return first
  const message = `${prefix} is the beginning of ${digests.length} digests or more: write more digits`
  throw new RegistryError('DIGEST_INVALID', { prefix, digests: digests.length }, { message })
}

/** Parses the name of a hash algorithm. Throws DIGEST_INVALID for one that this registry does not compute. */
export function parseAlgorithm(text: string): Algorithm {
  if (!Object.hasOwn(ALGORITHMS, text)) {
    throw new RegistryError(
      'DIGEST_INVALID',
      { 'digest-algorithm': shortened(text) },
      { message: `the digest algorithm must be one of ${Object.keys(ALGORITHMS).join(', ')}` },
    )
  }
  return text as Algorithm
}

/** Returns the algorithm of a digest. */
export function algorithmOf(digest: Digest): Algorithm {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256'
}

/** Returns the hexadecimal part, which is safe as a file name. */
export function hexOf(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1)
}

/** Finishes a hash, to which no bytes can be added afterwards. */
export function digestOfHash(algorithm: Algorithm, hash: Hash): Digest {
  return `${algorithm}:${hash.digest('hex')}` as Digest
}

/** Returns the digest of bytes in memory. */
export function digestOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256'): Digest {
  return digestOfHash(algorithm, createHash(algorithm).update(bytes))
}

const SHORTENED_LENGTH = 160

/** Shortens a client's text for an error, to one line at most. */
export function shortened(text: string): string {
  return text.length > SHORTENED_LENGTH ? `${text.slice(0, SHORTENED_LENGTH)}…` : text
}

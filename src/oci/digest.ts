import { createHash, type Hash } from 'node:crypto'
import { RegistryError } from './errors.ts'

/** The hash algorithms of the image spec ("Registered Algorithms") that this registry computes. */
export const ALGORITHMS = { sha256: 64, sha512: 128 } as const

export type Algorithm = keyof typeof ALGORITHMS

/** Made only by `parseDigest` and `digestOf`, so holding one proves that it is well formed. */
export type Digest = string & { readonly __type: 'Digest' }

const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/
const DIGEST_LENGTH_MAX = 'sha512:'.length + ALGORITHMS.sha512

/** Image spec, "Digests". Throws DIGEST_INVALID for a malformed digest or an unknown algorithm. */
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

/** Throws DIGEST_INVALID for an algorithm that this registry does not compute. */
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

/** The algorithm that a digest names. */
export function algorithmOf(digest: Digest): Algorithm {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256'
}

/** The hexadecimal part, which is safe as a file name. */
export function hexOf(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1)
}

/** Finishes a running hash: nothing can be added to it afterwards. */
export function digestOfHash(algorithm: Algorithm, hash: Hash): Digest {
  return `${algorithm}:${hash.digest('hex')}` as Digest
}

/** The digest of bytes that are in memory. */
export function digestOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256'): Digest {
  return digestOfHash(algorithm, createHash(algorithm).update(bytes))
}

const SHORTENED_LENGTH = 160

/** Client text as it may stand in an error: never longer than a line. */
export function shortened(text: string): string {
  return text.length > SHORTENED_LENGTH ? `${text.slice(0, SHORTENED_LENGTH)}…` : text
}

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'

// Computed apart from `src`, so that a test does not trust its subject.

/** Returns the digest of bytes. */
export function digestOf(bytes: Uint8Array | string, algorithm = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`
}

/** Returns the SHA-256 digest of a file, without holding the file in memory. */
export async function digestOfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return `sha256:${hash.digest('hex')}`
}

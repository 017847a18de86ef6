import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { type Digest, digestOfHash } from '../../oci/digest.ts'
import { withProgress } from './progress-bar.ts'

/** Streams a file, and shows on a terminal how much of `size` bytes is read. */
export function readFileWithProgress(path: string, size: number): AsyncIterable<Uint8Array> {
  return withProgress(createReadStream(path), size, `reading ${basename(path)}`)
}

/**
 * Digest and size of the bytes that were read, even if the file changes later. Shows on a terminal how far it is. Throws
 * what the file system throws.
 */
export async function hashFile(path: string): Promise<{ digest: Digest; size: number }> {
  const { size: total } = await stat(path)
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of readFileWithProgress(path, total)) {
    hash.update(chunk)
    size += chunk.length
  }
  return { digest: digestOfHash('sha256', hash), size }
}

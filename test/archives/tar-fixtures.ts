import { Buffer } from 'node:buffer'
import { decompress } from '../../src/archives/decompress.ts'
import { readTar, type TarEntry } from '../../src/archives/tar.ts'

export const NEVER = new AbortController().signal

/** Yields the bytes in chunks that share their memory, as those of a store. */
export async function* chunksOf(bytes: Buffer, size = 1000): AsyncGenerator<Buffer> {
  const memory = Buffer.alloc(size)
  for (let at = 0; at < bytes.length; at += size) {
    const length = bytes.copy(memory, 0, at, at + size)
    yield memory.subarray(0, length)
  }
}

/** Reads the entries of a tar file, with their contents. */
export async function entriesOf(bytes: Buffer, entriesMax = 1000, chunkBytes = 1000) {
  const entries: (TarEntry & { readonly content: string })[] = []
  const contents = new Map<TarEntry, Buffer[]>()
  const tar = decompress(chunksOf(bytes, chunkBytes), { bytesMax: 1e9, signal: NEVER })
  await readTar(tar, { entriesMax }, (entry) => {
    const chunks: Buffer[] = []
    contents.set(entry, chunks)
    return (chunk) => void chunks.push(Buffer.from(chunk))
  })
  for (const [entry, chunks] of contents) {
    entries.push({ ...entry, content: Buffer.concat(chunks).toString() })
  }
  return entries
}

/** Corrects the checksum of the header at `start`. */
export function withChecksum(tar: Buffer, start = 0): Buffer {
  const header = tar.subarray(start, start + 512)
  header.fill(' ', 148, 156)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return tar
}

/** Returns a copy with this field for the size of the first entry. */
export function withSize(tar: Buffer, size: string): Buffer {
  const changed = Buffer.from(tar)
  changed.fill(0, 124, 136)
  changed.write(size, 124, 'latin1')
  return withChecksum(changed)
}

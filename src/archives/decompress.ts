import { Readable, type Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import zlib from 'node:zlib'
import { ArchiveError } from './archive-error.ts'

export type DecompressionLimits = {
  /** The decompressed bytes. */
  readonly bytesMax: number
  /** The reading ends when it is aborted, which is no property of the archive. */
  readonly signal: AbortSignal
}

// The best that gzip does is 1030. Real files stay below 100, and a small one may be all zeros.
const RATIO_MAX = 200
const RATIO_IGNORED_BYTES = 32 * 1024 * 1024
const CHUNK_BYTES = 64 * 1024
const GZIP = [0x1f, 0x8b]
const ZSTD = [0x28, 0xb5, 0x2f, 0xfd]
const MAGIC_BYTES = 4

/**
 * Decompresses gzip with any number of members, or zstd where Node has it; yields other bytes as they are. The work is
 * done outside of the event loop. Throws ArchiveError, and what `source` throws.
 */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  { bytesMax, signal }: DecompressionLimits,
): AsyncGenerator<Uint8Array> {
  const counter = { bytes: 0 }
  const input = counted(source, counter)
  try {
    const first = await firstBytes(input)
    let bytes = 0
    for await (const chunk of decoded(prepended(first, input), decoderOf(first))) {
      if (signal.aborted) throw exceeded('it takes too long to read')
      bytes += chunk.length
      if (bytes > bytesMax) {
        throw exceeded(`it has more than ${bytesMax} bytes when it is decompressed`)
      }
      if (bytes > RATIO_IGNORED_BYTES && bytes > counter.bytes * RATIO_MAX) {
        throw new ArchiveError(`it decompresses to more than ${RATIO_MAX} times its size`)
      }
      yield chunk
    }
  } finally {
    // A generator around it that never started does not end it.
    await input.return(undefined)
  }
}

function exceeded(problem: string): ArchiveError {
  return new ArchiveError(problem, { readableWith: 'limit' })
}

async function* counted(
  source: AsyncIterable<Uint8Array>,
  counter: { bytes: number },
): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    // In parts, because many sources are no archives, which the first part shows.
    for (let at = 0; at < chunk.length; at += CHUNK_BYTES) {
      const part = chunk.subarray(at, at + CHUNK_BYTES)
      counter.bytes += part.length
      // The source may reuse the memory for its next chunk, which a decoder requests before it has read this one.
      yield Buffer.from(part)
    }
  }
}

async function firstBytes(input: AsyncGenerator<Uint8Array>): Promise<Uint8Array> {
  let first: Uint8Array = Buffer.alloc(0)
  while (first.length < MAGIC_BYTES) {
    const { value, done } = await input.next()
    if (done) break
    first = first.length === 0 ? value : Buffer.concat([first, value])
  }
  return first
}

async function* prepended(
  first: Uint8Array,
  rest: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  if (first.length > 0) yield first
  yield* rest
}

/** Throws ArchiveError when this release of Node cannot read the format. */
function decoderOf(first: Uint8Array): Transform | undefined {
  const beginsWith = (magic: readonly number[]) => magic.every((byte, at) => first[at] === byte)
  if (beginsWith(GZIP)) return zlib.createGunzip({ chunkSize: CHUNK_BYTES })
  if (!beginsWith(ZSTD)) return undefined
  const { createZstdDecompress } = zlib as { createZstdDecompress?: () => Transform }
  if (createZstdDecompress !== undefined) return createZstdDecompress()
  throw new ArchiveError(
    `it is compressed with zstd, which Node ${process.versions.node} cannot read: the server needs Node 22.15 or later`,
    { readableWith: 'node' },
  )
}

async function* decoded(
  whole: AsyncGenerator<Uint8Array>,
  decoder: Transform | undefined,
): AsyncGenerator<Uint8Array> {
  if (decoder === undefined) return yield* whole
  // Its failure is that of `decoder`, which the loop throws.
  const feeding = pipeline(Readable.from(whole), decoder).catch(() => {})
  try {
    yield* decoder
  } catch (cause) {
    throw isOfFormat(cause) ? new ArchiveError(`it is damaged: ${cause.message}`, { cause }) : cause
  } finally {
    decoder.destroy()
    await feeding
  }
}

function isOfFormat(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && /^(?:Z_|ZSTD_)/.test(String(error.code))
}

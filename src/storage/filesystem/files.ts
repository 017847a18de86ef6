import { type FileHandle, open } from 'node:fs/promises'
import type { ByteRange } from '../blob-store.ts'

// Reading a blob of 1 MiB at once costs a third less CPU than four reads. The first readers get large
// buffers, and the total memory is bounded: a reader holds its buffers for as long as its client is slow.
const KIB = 1024
const BUFFER_SIZES = [
  { bytes: 1024 * KIB, countMax: 16 },
  { bytes: 256 * KIB, countMax: 128 },
  { bytes: 32 * KIB, countMax: Number.POSITIVE_INFINITY },
] as const
const SPARE_BUFFERS_MAX = 64

/** A pool of read buffers of one size: reuse saves the page faults of new buffers, which cost as much as copying. */
class BuffersOfSize {
  readonly bytes: number
  readonly #countMax: number
  readonly #spare: Buffer[] = []
  #inUse = 0

  constructor({ bytes, countMax }: { bytes: number; countMax: number }) {
    this.bytes = bytes
    this.#countMax = countMax
  }

  /** Returns undefined when too many are in use. */
  tryTake(count: number): Buffer[] | undefined {
    if (this.#inUse + count > this.#countMax) return undefined
    this.#inUse += count
    return Array.from(
      { length: count },
      () => this.#spare.pop() ?? Buffer.allocUnsafeSlow(this.bytes),
    )
  }

  give(buffers: readonly Buffer[]): void {
    this.#inUse -= buffers.length
    for (const buffer of buffers) {
      if (this.#spare.length < SPARE_BUFFERS_MAX) this.#spare.push(buffer)
    }
  }
}

/** The read buffers of all downloads. */
class ReadBuffers {
  readonly #sizes = BUFFER_SIZES.map((size) => new BuffersOfSize(size))

  /** Takes one buffer, or two of the same size when `length` exceeds one. */
  take(length: number): Buffer[] {
    for (const [index, size] of this.#sizes.entries()) {
      const next = this.#sizes[index + 1]
      // A smaller size suffices.
      if (next !== undefined && length <= next.bytes) continue
      const buffers = size.tryTake(length > size.bytes ? 2 : 1)
      if (buffers !== undefined) return buffers
    }
    throw new Error('the smallest read buffers have no limit')
  }

  give(buffers: readonly Buffer[]): void {
    this.#sizes.find(({ bytes }) => bytes === buffers[0]?.length)?.give(buffers)
  }
}

const readBuffers = new ReadBuffers()

// One large write costs a third of the CPU of many small ones, but takes memory. All uploads share this
// budget, and each gets a share between the two bounds.
const WRITE_BUDGET_BYTES = 16 * 1024 * 1024
const WRITE_BYTES_MIN = 128 * 1024
const WRITE_BYTES_MAX = 1024 * 1024

let writers = 0

/** Returns the bytes that a writer gathers before it writes, while as many are on their way to disk. */
function writeBytes(): number {
  const share = Math.floor(WRITE_BUDGET_BYTES / 2 / Math.max(1, writers))
  return Math.min(WRITE_BYTES_MAX, Math.max(WRITE_BYTES_MIN, share))
}

/**
 * Reads a range of a file. Reads one chunk ahead while the consumer uses the previous one, in two
 * alternating buffers. Throws `short` when the file ends before the range.
 */
export async function* readRange(
  path: string,
  range: ByteRange,
  short: () => Error,
): AsyncGenerator<Uint8Array> {
  const file = await open(path, 'r')
  const buffers = readBuffers.take(range.end - range.start + 1)
  const bytes = buffers[0]?.length ?? 0
  let reading: Promise<Uint8Array> | undefined
  try {
    let position = range.start
    const next = (turn: number): Promise<Uint8Array> | undefined => {
      const wanted = Math.min(bytes, range.end + 1 - position)
      const buffer = buffers[turn % buffers.length]
      if (wanted <= 0 || buffer === undefined) return undefined
      const at = position
      position += wanted
      return fill(file, buffer.subarray(0, wanted), at, short)
    }
    reading = next(0)
    for (let turn = 1; reading !== undefined; turn += 1) {
      const chunk = await reading
      reading = next(turn)
      // A consumer that stops here leaves a read in flight; `finally` waits for it.
      reading?.catch(() => {})
      yield chunk
    }
  } finally {
    await reading?.catch(() => {})
    readBuffers.give(buffers)
    await file.close()
  }
}

async function fill(
  file: FileHandle,
  buffer: Buffer,
  position: number,
  short: () => Error,
): Promise<Uint8Array> {
  let filled = 0
  while (filled < buffer.length) {
    const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, position + filled)
    if (bytesRead === 0) throw short()
    filled += bytesRead
  }
  return buffer
}

/**
 * Writes `source` at `position`, and gathers the next batch while the previous one is written. Returns
 * the position after the last byte.
 */
export async function writeFrom(
  file: FileHandle,
  position: number,
  source: AsyncIterable<Uint8Array>,
): Promise<number> {
  writers += 1
  let writing: Promise<void> = Promise.resolve()
  try {
    let end = position
    let batch: Uint8Array[] = []
    let batchBytes = 0
    const flush = async (): Promise<void> => {
      await writing
      writing = writeAll(file, batch, end)
      // The next `await writing` throws the failure.
      writing.catch(() => {})
      end += batchBytes
      batch = []
      batchBytes = 0
    }
    for await (const chunk of source) {
      batch.push(chunk)
      batchBytes += chunk.length
      if (batchBytes >= writeBytes()) await flush()
    }
    if (batchBytes > 0) await flush()
    await writing
    return end
  } finally {
    writers -= 1
    await writing.catch(() => {})
  }
}

async function writeAll(
  file: FileHandle,
  chunks: readonly Uint8Array[],
  position: number,
): Promise<void> {
  let rest = chunks
  let at = position
  while (rest.length > 0) {
    const { bytesWritten } = await file.writev(rest, at)
    at += bytesWritten
    rest = after(rest, bytesWritten)
  }
}

/** Returns the rest of `chunks` after their first `bytes`, because a write may be partial. */
function after(chunks: readonly Uint8Array[], bytes: number): Uint8Array[] {
  const rest: Uint8Array[] = []
  let skip = bytes
  for (const chunk of chunks) {
    if (skip >= chunk.length) skip -= chunk.length
    else {
      rest.push(chunk.subarray(skip))
      skip = 0
    }
  }
  return rest
}

/** Syncs a folder, so that names added to it or moved into it survive a power cut. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

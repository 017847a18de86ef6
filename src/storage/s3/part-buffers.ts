import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { S3_PART_BYTES } from '../../config/limits.ts'
import { StoreFullError } from '../blob-store.ts'
import { isFull } from '../system-errors.ts'

/**
 * Memory for the parts of all uploads: 14 buffers of 8 MiB, 112 MiB in total. Clients fill twelve
 * buffers, which are then sent. When all of them are taken, a new part waits for one that is being sent,
 * which takes at most the time of a call. When clients are filling all of them, parts gather in files, and
 * the last two buffers send those to the store. Slow clients never delay others.
 */
const FILLED_BUFFERS_MAX = 12
const CARRYING_BUFFERS_MAX = 2

/** Bytes that a part gathers before it takes a buffer: most blobs are smaller. */
const SMALL_BYTES_MAX = 256 * 1024
const FILE_MODE = 0o600

/** A pool of buffers, each for one part. */
class BufferPool {
  readonly #spare: Buffer[] = []
  readonly #waiting: ((buffer: Buffer) => void)[] = []
  #room: number
  #sending = 0

  constructor(buffersMax: number) {
    this.#room = buffersMax
  }

  /** Returns undefined when all buffers are in use. */
  tryTake(): Buffer | undefined {
    const spare = this.#spare.pop()
    if (spare !== undefined) return spare
    if (this.#room === 0) return undefined
    this.#room -= 1
    return Buffer.allocUnsafeSlow(S3_PART_BYTES)
  }

  /** Waits for a buffer that is being sent. Returns undefined when more takers wait than buffers are being sent. */
  async takeSoon(): Promise<Buffer | undefined> {
    const buffer = this.tryTake()
    if (buffer !== undefined) return buffer
    return this.#waiting.length < this.#sending ? this.#next() : undefined
  }

  /** Waits for a buffer. The request that has it ends within its limits. */
  async take(): Promise<Buffer> {
    return this.tryTake() ?? this.#next()
  }

  /** Counts a buffer that is being sent (1), or was sent (-1). */
  sending(change: 1 | -1): void {
    this.#sending += change
  }

  #next(): Promise<Buffer> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  give(buffer: Buffer): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#spare.push(buffer)
    else next(buffer)
  }
}

/** The memory and the files in which the parts of this process's uploads gather. */
export class PartBuffers {
  readonly filled = new BufferPool(FILLED_BUFFERS_MAX)
  readonly carrying = new BufferPool(CARRYING_BUFFERS_MAX)
  readonly #folder: string

  private constructor(folder: string) {
    this.#folder = folder
  }

  /** Opens the folder of the files, which are unlinked as soon as they are open. */
  static async open(folder: string): Promise<PartBuffers> {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    // A process that was killed between open and unlink left a file.
    for (const name of await readdir(folder)) await rm(join(folder, name), { force: true })
    return new PartBuffers(folder)
  }

  async openFile(): Promise<FileHandle> {
    const path = join(this.#folder, randomUUID())
    const file = await open(path, 'wx+', FILE_MODE)
    await rm(path, { force: true })
    return file
  }
}

/** The bytes of at most one part, between client and store. */
export class BufferedPart {
  readonly #buffers: PartBuffers
  /** Chunks that are not yet in the buffer or the file. */
  #chunks: Uint8Array[] = []
  #chunkBytes = 0
  #pooled: Buffer | undefined
  #file: FileHandle | undefined
  #size = 0

  constructor(buffers: PartBuffers) {
    this.#buffers = buffers
  }

  get size(): number {
    return this.#size
  }

  get room(): number {
    return S3_PART_BYTES - this.#size
  }

  /** Adds at most `room` bytes. Their memory must not change until the part is released. */
  async add(chunk: Uint8Array): Promise<void> {
    if (this.#pooled !== undefined) {
      this.#pooled.set(chunk, this.#size)
      this.#size += chunk.length
      return
    }
    this.#chunks.push(chunk)
    this.#chunkBytes += chunk.length
    this.#size += chunk.length
    if (this.#chunkBytes > SMALL_BYTES_MAX) await this.#spill()
  }

  /** Passes the bytes to `use`, in memory that is valid until `use` ends. */
  async carry<T>(use: (bytes: Buffer) => Promise<T>): Promise<T> {
    const file = this.#file
    if (file !== undefined) return this.#carryFile(file, use)
    const pooled = this.#pooled
    if (pooled === undefined) return use(Buffer.concat(this.#chunks))
    this.#buffers.filled.sending(1)
    try {
      return await use(pooled.subarray(0, this.#size))
    } finally {
      this.#buffers.filled.sending(-1)
    }
  }

  /** Releases buffer and file. May be called twice. */
  async release(): Promise<void> {
    const [pooled, file] = [this.#pooled, this.#file]
    this.#pooled = undefined
    this.#file = undefined
    this.#chunks = []
    if (pooled !== undefined) this.#buffers.filled.give(pooled)
    await file?.close()
  }

  /**
   * Moves the chunks into a buffer, or into a file when no buffer is free soon. Throws StoreFullError when
   * the disk has no space for the file.
   */
  async #spill(): Promise<void> {
    try {
      await this.#moveChunks()
    } catch (error) {
      if (!isFull(error)) throw error
      throw new StoreFullError('no space left for parts that wait to be sent to the store', {
        cause: error,
      })
    }
  }

  async #moveChunks(): Promise<void> {
    if (this.#file === undefined) {
      this.#pooled = await this.#buffers.filled.takeSoon()
      if (this.#pooled === undefined) this.#file = await this.#buffers.openFile()
    }
    let position = this.#size - this.#chunkBytes
    for (const chunk of this.#chunks) {
      if (this.#file === undefined) this.#pooled?.set(chunk, position)
      else await writeAll(this.#file, chunk, position)
      position += chunk.length
    }
    this.#chunks = []
    this.#chunkBytes = 0
  }

  async #carryFile<T>(file: FileHandle, use: (bytes: Buffer) => Promise<T>): Promise<T> {
    await this.#spill()
    const buffer = await this.#buffers.carrying.take()
    try {
      let filled = 0
      while (filled < this.#size) {
        const { bytesRead } = await file.read(buffer, filled, this.#size - filled, filled)
        if (bytesRead === 0) throw new Error('a part lost bytes of its file')
        filled += bytesRead
      }
      return await use(buffer.subarray(0, this.#size))
    } finally {
      this.#buffers.carrying.give(buffer)
    }
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0
  while (written < bytes.length) {
    const { bytesWritten } = await file.write(
      bytes,
      written,
      bytes.length - written,
      position + written,
    )
    written += bytesWritten
  }
}

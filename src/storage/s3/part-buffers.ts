import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PART_BYTES } from './stage.ts'

/**
 * Memory for the parts of all uploads together: 14 buffers of 8 MiB, 112 MiB whatever is uploaded.
 * Twelve are filled by clients and sent. When all of them are taken, a new part waits for one that is
 * being sent, which takes no longer than a call may; when clients hold them all, parts gather in
 * files, and the last two buffers carry those to the store. So slow clients never hold up others.
 */
const FILLED_BUFFERS_MAX = 12
const CARRYING_BUFFERS_MAX = 2

/** So much is gathered before a buffer is taken: most blobs are smaller than this. */
const SMALL_BYTES_MAX = 256 * 1024
const SMALL_BYTES_FIRST = 16 * 1024
const FILE_MODE = 0o600

/** Buffers of one part each, used again. */
class Pool {
  readonly #spare: Buffer[] = []
  readonly #waiting: ((buffer: Buffer) => void)[] = []
  #room: number
  #sending = 0

  constructor(buffersMax: number) {
    this.#room = buffersMax
  }

  /** Undefined when all are in use. */
  tryTake(): Buffer | undefined {
    const spare = this.#spare.pop()
    if (spare !== undefined) return spare
    if (this.#room === 0) return undefined
    this.#room -= 1
    return Buffer.allocUnsafeSlow(PART_BYTES)
  }

  /** Waits for one that is being sent; undefined when there are not enough of those. */
  async takeSoon(): Promise<Buffer | undefined> {
    const buffer = this.tryTake()
    if (buffer !== undefined) return buffer
    return this.#waiting.length < this.#sending ? this.#next() : undefined
  }

  /** Waits for one; whoever holds one is within a request's limits. */
  async take(): Promise<Buffer> {
    return this.tryTake() ?? this.#next()
  }

  /** One more buffer is on its way to the store, or one less. */
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

/** Where the parts of this process's uploads gather. */
export class PartBuffers {
  readonly filled = new Pool(FILLED_BUFFERS_MAX)
  readonly carrying = new Pool(CARRYING_BUFFERS_MAX)
  readonly #folder: string

  private constructor(folder: string) {
    this.#folder = folder
  }

  /** `folder` is for files that are unlinked as soon as they are open. */
  static async open(folder: string): Promise<PartBuffers> {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    // One that was killed between the two may have left its name.
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

/** Up to one part's bytes on their way from a client to the store. */
export class Part {
  readonly #buffers: PartBuffers
  #small: Buffer | undefined
  #pooled: Buffer | undefined
  #file: FileHandle | undefined
  #size = 0
  #inFile = 0

  constructor(buffers: PartBuffers) {
    this.#buffers = buffers
  }

  get size(): number {
    return this.#size
  }

  get room(): number {
    return PART_BYTES - this.#size
  }

  /** Takes a copy of at most `room` bytes. */
  async add(chunk: Uint8Array): Promise<void> {
    const size = this.#size + chunk.length
    if (this.#pooled === undefined && this.#file === undefined && size > SMALL_BYTES_MAX) {
      await this.#grow()
    }
    if (this.#file === undefined) {
      const target = this.#pooled ?? this.#smallFor(size)
      target.set(chunk, this.#size)
    } else {
      // In the file lies what was flushed; the small buffer gathers until it is worth a write.
      await this.#addToFile(this.#file, chunk)
    }
    this.#size = size
  }

  /** Gives the bytes to `use`, in memory that is valid until `use` ends. */
  async carry<T>(use: (bytes: Buffer) => Promise<T>): Promise<T> {
    const file = this.#file
    const pooled = this.#pooled
    if (pooled !== undefined) {
      this.#buffers.filled.sending(1)
      try {
        return await use(pooled.subarray(0, this.#size))
      } finally {
        this.#buffers.filled.sending(-1)
      }
    }
    if (file === undefined) return use((this.#small ?? Buffer.alloc(0)).subarray(0, this.#size))
    await this.#flush(file)
    const buffer = await this.#buffers.carrying.take()
    try {
      let filled = 0
      while (filled < this.#size) {
        const { bytesRead } = await file.read(buffer, filled, this.#size - filled, filled)
        if (bytesRead === 0) throw new Error('a gathered part lost its end')
        filled += bytesRead
      }
      return await use(buffer.subarray(0, this.#size))
    } finally {
      this.#buffers.carrying.give(buffer)
    }
  }

  /** Lets go of the memory; can be called twice. */
  async release(): Promise<void> {
    const [pooled, file] = [this.#pooled, this.#file]
    this.#pooled = undefined
    this.#file = undefined
    this.#small = undefined
    if (pooled !== undefined) this.#buffers.filled.give(pooled)
    await file?.close()
  }

  #smallFor(size: number): Buffer {
    const small = this.#small
    if (small !== undefined && small.length >= size) return small
    let length = Math.max(SMALL_BYTES_FIRST, small?.length ?? 0)
    while (length < size) length *= 2
    const larger = Buffer.allocUnsafeSlow(length)
    if (small !== undefined) larger.set(small.subarray(0, this.#size))
    this.#small = larger
    return larger
  }

  async #grow(): Promise<void> {
    const small = this.#small?.subarray(0, this.#size)
    this.#pooled = await this.#buffers.filled.takeSoon()
    if (this.#pooled === undefined) {
      this.#file = await this.#buffers.openFile()
      this.#small = this.#smallFor(SMALL_BYTES_MAX)
      return
    }
    if (small !== undefined) this.#pooled.set(small)
    this.#small = undefined
  }

  async #addToFile(file: FileHandle, chunk: Uint8Array): Promise<void> {
    const gathered = this.#size - this.#inFile
    const small = this.#smallFor(SMALL_BYTES_MAX)
    if (gathered + chunk.length <= small.length) {
      small.set(chunk, gathered)
      return
    }
    await this.#flush(file)
    await writeAll(file, chunk, this.#inFile)
    this.#inFile += chunk.length
  }

  async #flush(file: FileHandle): Promise<void> {
    const gathered = this.#size - this.#inFile
    if (gathered === 0 || this.#small === undefined) return
    await writeAll(file, this.#small.subarray(0, gathered), this.#inFile)
    this.#inFile = this.#size
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

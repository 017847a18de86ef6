/**
 * Brings the bytes of a kernel from `start` to `end`, both counted, as in HTTP. What it gave is
 * valid until it is called again.
 */
export type ReadRange = (start: number, end: number) => Promise<Uint8Array>

// A kernel of Solo5 takes two or three: its beginning, its notes, its section headers at the end.
export const READS_MAX = 16
// A kernel of Solo5 takes less than 50 KiB, however large it is.
export const READ_BYTES_MAX = 512 * 1024
// One read of this brings the ELF header, the program headers and mostly the notes as well.
const BLOCK_BYTES = 16 * 1024

/** An ELF that breaks the rules of ELF or of Solo5. The message is one line, with what is right. */
export class MalformedKernelError extends Error {
  override readonly name = 'MalformedKernelError'
  /** Bytes from the beginning of the kernel to what is wrong. */
  readonly offset: number

  constructor(offset: number, problem: string) {
    super(`malformed kernel: at byte ${offset}, ${problem}`)
    this.offset = offset
  }
}

/** A part of a kernel, as the kernel itself names it. */
export type Area = {
  /** Bytes from the beginning of the kernel. */
  readonly offset: number
  /** Bytes. Whatever 64 bits can say: it may be more than there are. */
  readonly length: number
  /** For messages, such as `segment 3`. */
  readonly what: string
  /** Where the kernel says so, in bytes from its beginning. */
  readonly saidAt: number
}

type Block = { readonly start: number; readonly bytes: Uint8Array }

/** A kernel that lies elsewhere: brings no more than is asked, in few reads, and keeps it. */
export class KernelBytes {
  /** Bytes. */
  readonly size: number
  readonly #read: ReadRange
  readonly #blocks: Block[] = []
  #bytesRead = 0

  constructor(size: number, read: ReadRange) {
    this.size = size
    this.#read = read
  }

  /**
   * The bytes of an area, which stay valid. Throws MalformedKernelError when the area does not lie in
   * the kernel or a limit is passed, and whatever the read throws.
   */
  async bytesOf(area: Area): Promise<Uint8Array> {
    this.assertInside(area)
    const { offset, length, saidAt } = area
    const end = offset + length
    const kept = this.#blocks.find(
      ({ start, bytes }) => start <= offset && end <= start + bytes.length,
    )
    if (kept) return kept.bytes.subarray(offset - kept.start, end - kept.start)
    const wanted = Math.min(Math.max(length, BLOCK_BYTES), this.size - offset)
    if (this.#blocks.length === READS_MAX || this.#bytesRead + wanted > READ_BYTES_MAX) {
      throw new MalformedKernelError(
        saidAt,
        `headers and notes are scattered; they must be readable in ${READS_MAX} reads of together ${READ_BYTES_MAX} bytes`,
      )
    }
    const bytes = new Uint8Array(await this.#read(offset, offset + wanted - 1))
    if (bytes.length !== wanted) {
      throw new Error(`read ${bytes.length} bytes of a kernel from ${offset}, asked for ${wanted}`)
    }
    this.#blocks.push({ start: offset, bytes })
    this.#bytesRead += wanted
    return bytes.subarray(0, length)
  }

  /** Throws MalformedKernelError when an area does not lie in the kernel. */
  assertInside({ offset, length, what, saidAt }: Area): void {
    if (offset <= this.size && length <= this.size - offset) return
    throw new MalformedKernelError(
      saidAt,
      `${what} should be ${shown(length)} bytes from byte ${shown(offset)}, but the kernel ends at ${this.size}`,
    )
  }
}

/** A number out of a kernel, for a message: 64 bits may say more than a number holds exactly. */
function shown(bytes: number): string {
  return Number.isSafeInteger(bytes) ? String(bytes) : '2^53 or more'
}

/** The width of addresses and sizes: the ELF's class. */
export type Bits = 32 | 64

export type Endianness = 'little' | 'big'

/** How an ELF writes its numbers. */
export type ElfFormat = { readonly bits: Bits; readonly endianness: Endianness }

/** Numbers in an ELF, by their offsets in `bytes`. Throws RangeError beyond these. */
export class ElfFields {
  readonly #view: DataView
  readonly #bits: Bits
  readonly #little: boolean

  constructor(bytes: Uint8Array, { bits, endianness }: ElfFormat) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#bits = bits
    this.#little = endianness === 'little'
  }

  u16(at: number): number {
    return this.#view.getUint16(at, this.#little)
  }

  u32(at: number): number {
    return this.#view.getUint32(at, this.#little)
  }

  /**
   * An offset, a size or an alignment: 4 bytes in a 32-bit ELF, 8 in a 64-bit one. Rounded from 2^53
   * on, which no kernel reaches; so a sum of two neither wraps nor turns negative.
   */
  word(at: number): number {
    return this.#bits === 32 ? this.u32(at) : Number(this.#view.getBigUint64(at, this.#little))
  }
}

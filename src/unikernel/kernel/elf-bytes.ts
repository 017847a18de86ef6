/**
 * Reads the bytes of a kernel from `start` to `end`, both inclusive as in HTTP. The result is valid
 * until the next call.
 */
export type ReadRange = (start: number, end: number) => Promise<Uint8Array>

// A Solo5 kernel takes two or three: its beginning, its notes, and its section headers at the end.
export const READS_MAX = 16
// A Solo5 kernel takes less than 50 KiB, at any size.
export const READ_BYTES_MAX = 512 * 1024
// One read of this size has the ELF header, the program headers and mostly the notes as well.
const BLOCK_BYTES = 16 * 1024

/** An ELF that breaks the rules of ELF or of Solo5. The message is one line with the rule. */
export class MalformedKernelError extends Error {
  override readonly name = 'MalformedKernelError'
  /** Offset of the error, in bytes from the beginning of the kernel. */
  readonly offset: number

  constructor(offset: number, problem: string) {
    super(`malformed kernel: at byte ${offset}, ${problem}`)
    this.offset = offset
  }
}

/** A part of a kernel, as declared by the kernel. */
export type Area = {
  /** Bytes from the beginning of the kernel. */
  readonly offset: number
  /** In bytes. Any 64-bit number: it may be larger than the kernel. */
  readonly length: number
  /** For messages, such as `segment 3`. */
  readonly what: string
  /** Offset of the declaration, in bytes from the beginning of the kernel. */
  readonly declaredAt: number
}

type Block = { readonly start: number; readonly bytes: Uint8Array }

/** A remote kernel: reads only the requested parts, in few reads, and keeps them. */
export class KernelBytes {
  /** In bytes. */
  readonly size: number
  readonly #read: ReadRange
  readonly #blocks: Block[] = []
  #bytesRead = 0

  constructor(size: number, read: ReadRange) {
    this.size = size
    this.#read = read
  }

  /**
   * Returns the bytes of an area, which stay valid. Throws MalformedKernelError when the area is
   * not inside the kernel or a limit is exceeded, and the errors of the read.
   */
  async bytesOf(area: Area): Promise<Uint8Array> {
    this.assertInside(area)
    const { offset, length, declaredAt } = area
    const end = offset + length
    const kept = this.#blocks.find(
      ({ start, bytes }) => start <= offset && end <= start + bytes.length,
    )
    if (kept) return kept.bytes.subarray(offset - kept.start, end - kept.start)
    const wanted = Math.min(Math.max(length, BLOCK_BYTES), this.size - offset)
    if (this.#blocks.length === READS_MAX || this.#bytesRead + wanted > READ_BYTES_MAX) {
      throw new MalformedKernelError(
        declaredAt,
        `headers and notes are scattered; they must be readable in ${READS_MAX} reads of ${READ_BYTES_MAX} bytes in total`,
      )
    }
    const bytes = new Uint8Array(await this.#read(offset, offset + wanted - 1))
    if (bytes.length !== wanted) {
      throw new Error(`read ${bytes.length} bytes of a kernel from ${offset}, requested ${wanted}`)
    }
    this.#blocks.push({ start: offset, bytes })
    this.#bytesRead += wanted
    return bytes.subarray(0, length)
  }

  /** Throws MalformedKernelError when an area is not inside the kernel. */
  assertInside({ offset, length, what, declaredAt }: Area): void {
    if (offset <= this.size && length <= this.size - offset) return
    throw new MalformedKernelError(
      declaredAt,
      `${what} should be ${shown(length)} bytes from byte ${shown(offset)}, but the kernel ends at ${this.size}`,
    )
  }
}

/** Formats a number of a kernel for a message: 64 bits may exceed the exact range of a number. */
function shown(bytes: number): string {
  return Number.isSafeInteger(bytes) ? String(bytes) : '2^53 or more'
}

/** The width of addresses and sizes: the ELF's class. */
export type Bits = 32 | 64

export type Endianness = 'little' | 'big'

/** The number format of an ELF. */
export type ElfFormat = { readonly bits: Bits; readonly endianness: Endianness }

/** Reads numbers of an ELF, by their offsets in `bytes`. Throws RangeError outside of `bytes`. */
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
   * Reads an offset, a size or an alignment: 4 bytes in a 32-bit ELF, 8 in a 64-bit one. Rounded
   * from 2^53 on, which no kernel reaches; so a sum of two neither wraps nor turns negative.
   */
  word(at: number): number {
    return this.#bits === 32 ? this.u32(at) : Number(this.#view.getBigUint64(at, this.#little))
  }
}

import { Buffer } from 'node:buffer'
import { badRequest, type RegistryError } from '../../oci/errors.ts'

/** The tags of ASN.1 that an exec has (X.690, section 8.1.2). */
export const TAGS = {
  integer: 0x02,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
} as const

/** The explicit tag `[number]`. */
export const explicitTag = (number: number): number => 0xa0 + number

// Lengths of 2^48 and more have no file. A length with zeros in front is accepted, as asn1-combinators does.
const LENGTH_BYTES_MAX = 8
const SHORT_LENGTH_MAX = 0x7f
const LONG_LENGTH = 0x80

/** An exec that is no DER of its grammar: 400. */
export function invalidExec(problem: string, cause?: unknown): RegistryError {
  return badRequest(`the body is no exec of builder: ${problem}`, { cause })
}

/** Reads the elements of DER in a buffer. Throws REQUEST_INVALID for an element of another tag, or one that is cut off. */
export class DerReader {
  readonly #bytes: Buffer
  #at: number
  readonly #end: number

  constructor(bytes: Buffer, start = 0, end = bytes.length) {
    this.#bytes = bytes
    this.#at = start
    this.#end = end
  }

  /** The position of the next element in the buffer. */
  get position(): number {
    return this.#at
  }

  get isDone(): boolean {
    return this.#at >= this.#end
  }

  /** The tag of the next element; undefined after the last one. */
  get nextTag(): number | undefined {
    return this.isDone ? undefined : this.#bytes[this.#at]
  }

  /** Returns the content of the next element, without a copy. */
  content(tag: number, what: string): Buffer {
    const { start, end } = this.#next(tag, what)
    return this.#bytes.subarray(start, end)
  }

  /** Returns a reader of the elements in the next element. */
  inside(tag: number, what: string): DerReader {
    const { start, end } = this.#next(tag, what)
    return new DerReader(this.#bytes, start, end)
  }

  /** Returns a number from 0 to 2^63 - 1. */
  unsigned(what: string): number {
    const value = this.signed(what)
    if (value < 0) throw invalidExec(`${what} is negative`)
    return value
  }

  signed(what: string): number {
    const bytes = this.content(TAGS.integer, what)
    if (bytes.length < 1 || bytes.length > LENGTH_BYTES_MAX) {
      throw invalidExec(`${what} must be an integer of 1 to ${LENGTH_BYTES_MAX} bytes`)
    }
    if (bytes.length <= 6) return bytes.readIntBE(0, bytes.length)
    return Number(BigInt.asIntN(bytes.length * 8, BigInt(`0x${bytes.toString('hex')}`)))
  }

  /** Throws when elements follow. */
  assertDone(what: string): void {
    if (!this.isDone) throw invalidExec(`bytes follow ${what}`)
  }

  #next(tag: number, what: string): { start: number; end: number } {
    const bytes = this.#bytes
    if (this.#at >= this.#end) throw invalidExec(`${what} is missing`)
    const found = bytes[this.#at] ?? 0
    if (found !== tag) throw wrongTag(found, tag, what)
    const first = bytes[this.#at + 1] ?? 0
    let start = this.#at + 2
    let length = first
    if (first > SHORT_LENGTH_MAX) {
      const count = lengthCount(first, what)
      if (start + count > this.#end) throw invalidExec(`${what} is cut off`)
      length = parseLength(bytes.subarray(start, start + count), what)
      start += count
    }
    if (start > this.#end || length > this.#end - start) throw invalidExec(`${what} is cut off`)
    this.#at = start + length
    return { start, end: this.#at }
  }
}

/** The error of an element that has another tag. */
export function wrongTag(found: number, wanted: number, what: string): RegistryError {
  const hex = (tag: number) => `0x${tag.toString(16).padStart(2, '0')}`
  return invalidExec(`${what} must have the tag ${hex(wanted)}, not ${hex(found)}`)
}

/** Returns how many bytes of a long length follow its first byte. Throws for an indefinite length. */
export function lengthCount(first: number, what: string): number {
  const count = first - LONG_LENGTH
  if (count === 0) throw invalidExec(`${what} has an indefinite length, which DER has not`)
  if (count > LENGTH_BYTES_MAX) throw invalidExec(`${what} has a length of ${count} bytes`)
  return count
}

/** Returns a long length. Throws for one that no number is exact for. */
export function parseLength(bytes: Uint8Array, what: string): number {
  let length = 0
  for (const byte of bytes) length = length * 256 + byte
  if (!Number.isSafeInteger(length)) throw invalidExec(`${what} has an impossible length`)
  return length
}

/** Returns the tag and the shortest length of an element whose content has so many bytes. */
export function derHeader(tag: number, length: number): Buffer {
  if (length <= SHORT_LENGTH_MAX) return Buffer.from([tag, length])
  const digits: number[] = []
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) digits.unshift(rest % 256)
  return Buffer.from([tag, LONG_LENGTH + digits.length, ...digits])
}

/** Returns an element with this content. */
export function derElement(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const length = contents.reduce((sum, { length: size }) => sum + size, 0)
  return Buffer.concat([derHeader(tag, length), ...contents])
}

/** Returns a non-negative INTEGER. */
export function derInteger(value: number): Buffer {
  const digits: number[] = []
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) digits.unshift(rest % 256)
  // A first bit of 1 would make it negative.
  if ((digits[0] ?? 0x80) >= 0x80) digits.unshift(0)
  return derElement(TAGS.integer, Buffer.from(digits))
}

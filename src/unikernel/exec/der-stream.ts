import { Buffer } from 'node:buffer'
import { invalidExec, lengthCount, parseLength, wrongTag } from './der.ts'

const NO_BYTES = Buffer.alloc(0)
const SHORT_LENGTH_MAX = 0x7f

/**
 * Reads the elements of DER from a stream, in order. Only `element` keeps bytes, at most as many as its caller allows. Throws
 * REQUEST_INVALID, and what the stream throws.
 */
export class DerStream {
  readonly #chunks: AsyncIterator<Uint8Array>
  #chunk: Uint8Array = NO_BYTES
  #at = 0
  #position = 0

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]()
  }

  /** Bytes that were read so far. */
  get position(): number {
    return this.#position
  }

  /** Reads the tag and the length of an element, and returns the length. */
  async header(tag: number, what: string): Promise<number> {
    return (await this.#header(tag, what)).length
  }

  /** Reads a whole element of at most `bytesMax` bytes, with its tag and length. */
  async element(tag: number | readonly number[], what: string, bytesMax: number): Promise<Buffer> {
    const { head, length } = await this.#header(tag, what)
    if (length > bytesMax) {
      throw invalidExec(`${what} has ${length} bytes, and may have at most ${bytesMax}`)
    }
    const parts: Uint8Array[] = [head]
    // Memory follows the bytes that arrive, not the length that somebody claims.
    for await (const part of this.content(length, what)) parts.push(Buffer.from(part))
    return Buffer.concat(parts)
  }

  /** Yields the next `length` bytes. */
  async *content(length: number, what: string): AsyncGenerator<Uint8Array> {
    let left = length
    while (left > 0) {
      if (!(await this.#fill())) throw invalidExec(`${what} is cut off`)
      const part = this.#chunk.subarray(this.#at, this.#at + left)
      this.#at += part.length
      this.#position += part.length
      left -= part.length
      yield part
    }
  }

  /** Throws when bytes follow. */
  async assertEnd(): Promise<void> {
    if (await this.#fill()) throw invalidExec('bytes follow its end')
  }

  /** Ends the stream, also when bytes are left. */
  async close(): Promise<void> {
    await this.#chunks.return?.()
  }

  async #header(
    tags: number | readonly number[],
    what: string,
  ): Promise<{ head: Buffer; length: number }> {
    const found = await this.#byte(what)
    const [tag = 0, ...others] = [tags].flat()
    if (found !== tag && !others.includes(found)) throw wrongTag(found, tag, what)
    const first = await this.#byte(what)
    if (first <= SHORT_LENGTH_MAX) return { head: Buffer.from([found, first]), length: first }
    const digits: number[] = []
    for (let count = lengthCount(first, what); count > 0; count -= 1) {
      digits.push(await this.#byte(what))
    }
    const length = parseLength(Uint8Array.from(digits), what)
    return { head: Buffer.from([found, first, ...digits]), length }
  }

  async #byte(what: string): Promise<number> {
    if (!(await this.#fill())) throw invalidExec(`${what} is cut off`)
    const byte = this.#chunk[this.#at] ?? 0
    this.#at += 1
    this.#position += 1
    return byte
  }

  /** Makes the current chunk have a byte. Returns false at the end of the stream. */
  async #fill(): Promise<boolean> {
    while (this.#at >= this.#chunk.length) {
      const next = await this.#chunks.next()
      if (next.done === true) return false
      this.#chunk = next.value
      this.#at = 0
    }
    return true
  }
}

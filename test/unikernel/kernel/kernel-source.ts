import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import {
  MalformedKernelError,
  READ_BYTES_MAX,
  READS_MAX,
} from '../../../src/unikernel/kernel/elf-bytes.ts'
import { findSolo5Kernel, type Solo5Kernel } from '../../../src/unikernel/kernel/solo5.ts'

const FIXTURES = new URL('../../fixtures/', import.meta.url)

/** A copy of a fixture that may be changed. */
export function fixture(path: string): Buffer {
  return readFileSync(fileURLToPath(new URL(path, FIXTURES)))
}

/** A kernel in a store that reuses its memory and enforces the limits of reads. */
export class Source {
  reads = 0
  bytesRead = 0
  readonly size: number
  readonly #bytes: Uint8Array
  #memory = Buffer.alloc(0)

  /** `size` may exceed the bytes: zeros follow. */
  constructor(bytes: Uint8Array, size: number = bytes.length) {
    this.#bytes = bytes
    this.size = size
  }

  read = async (start: number, end: number): Promise<Uint8Array> => {
    this.#memory.fill(0xa5)
    this.reads += 1
    this.bytesRead += end - start + 1
    const inside = start >= 0 && end >= start && end < this.size
    if (!inside || this.reads > READS_MAX || this.bytesRead > READ_BYTES_MAX) {
      throw new Error(`read ${this.reads}: ${start} to ${end} of ${this.size}`)
    }
    this.#memory = Buffer.alloc(end - start + 1)
    this.#memory.set(this.#bytes.subarray(start, end + 1))
    return this.#memory
  }
}

/** The properties in the notes of a kernel. */
export function factsOf(bytes: Uint8Array, size?: number): Promise<Solo5Kernel | undefined> {
  const source = new Source(bytes, size)
  return findSolo5Kernel(source.size, source.read)
}

/** The one-line error about malformed bytes. */
export async function complaintAbout(bytes: Uint8Array, size?: number): Promise<string> {
  const error = await factsOf(bytes, size).then(
    (facts) => expect.fail(`no complaint, but ${JSON.stringify(facts)}`),
    (reason: unknown) => reason,
  )
  if (!(error instanceof MalformedKernelError)) throw error
  expect(error.message).toMatch(/^malformed kernel: at byte \d+, [\x20-\x7e]+$/)
  expect(error.message).toMatch(/must|should/)
  expect(error.message.length).toBeLessThan(300)
  expect(error.message).toContain(`byte ${error.offset},`)
  return error.message
}

import type { Bits, Endianness } from '../../../src/unikernel/kernel/elf-bytes.ts'

/** Writes numbers in an ELF's class and byte order. */
class Pen {
  readonly bytes: Buffer
  readonly #bits: Bits
  readonly #endianness: Endianness

  constructor(size: number, bits: Bits, endianness: Endianness) {
    this.bytes = Buffer.alloc(size)
    this.#bits = bits
    this.#endianness = endianness
  }

  u16(at: number, value: number): void {
    if (this.#endianness === 'little') this.bytes.writeUInt16LE(value, at)
    else this.bytes.writeUInt16BE(value, at)
  }

  u32(at: number, value: number): void {
    if (this.#endianness === 'little') this.bytes.writeUInt32LE(value, at)
    else this.bytes.writeUInt32BE(value, at)
  }

  word(at: number, value: number | bigint): void {
    if (this.#bits === 32) this.u32(at, Number(value))
    else if (this.#endianness === 'little') this.bytes.writeBigUInt64LE(BigInt(value), at)
    else this.bytes.writeBigUInt64BE(BigInt(value), at)
  }
}

export const ABI1 = 0x31494241
export const MFT1 = 0x3154464d
export const RESERVED_FIRST = { type: 0x40000000, name: '' }

export type NotePlan = {
  readonly type: number
  readonly descriptor: Uint8Array
  readonly endianness?: Endianness
  /** With its NUL. */
  readonly name?: string
  /** A wrong value for the header. */
  readonly nameBytes?: number
  readonly descriptorBytes?: number
}

/** A note: its header, its name padded to 4, and its descriptor padded to 4. */
export function note(plan: NotePlan): Buffer {
  const { type, descriptor, endianness = 'little', name = 'Solo5\0' } = plan
  const nameRoom = Math.ceil(name.length / 4) * 4
  const pen = new Pen(12 + nameRoom + Math.ceil(descriptor.length / 4) * 4, 64, endianness)
  pen.u32(0, plan.nameBytes ?? name.length)
  pen.u32(4, plan.descriptorBytes ?? descriptor.length)
  pen.u32(8, type)
  pen.bytes.write(name, 12, 'latin1')
  pen.bytes.set(descriptor, 12 + nameRoom)
  return pen.bytes
}

/** The descriptor of an ABI1 note. */
export function abi(target: number, version: number, endianness: Endianness = 'little'): Buffer {
  const pen = new Pen(16, 64, endianness)
  pen.u32(0, target)
  pen.u32(4, version)
  return pen.bytes
}

export type Entry = { readonly type: number; readonly name: string | Uint8Array }

/** The descriptor of an MFT1 note. `entries` is a wrong number for it. */
export function manifest(
  list: readonly Entry[],
  {
    endianness = 'little',
    version = 1,
    entries = list.length,
  }: { endianness?: Endianness; version?: number; entries?: number } = {},
): Buffer {
  const pen = new Pen(12 + 104 * list.length, 64, endianness)
  pen.u32(4, version)
  pen.u32(8, entries)
  for (const [index, { type, name }] of list.entries()) {
    const at = 12 + 104 * index
    pen.bytes.set(typeof name === 'string' ? Buffer.from(name, 'latin1') : name, at)
    pen.u32(at + 68, type)
  }
  return pen.bytes
}

/** A part of the file, and a wrong declaration of it in its header. */
export type PartPlan = {
  readonly bytes: Uint8Array
  readonly type?: number
  readonly align?: number
  readonly offset?: number | bigint
  readonly length?: number | bigint
}

export type ElfPlan = {
  readonly bits?: Bits
  readonly endianness?: Endianness
  readonly machine?: number
  /** e_type; an executable by default. */
  readonly type?: number
  /** Described by segments, sections or both. */
  readonly parts: readonly PartPlan[]
  readonly through?: readonly ('segments' | 'sections')[]
}

const TEXT_BYTES = 256

/**
 * An ELF: header, program headers, parts each at a multiple of 8, some code in a loaded segment
 * that ends with the code, section headers.
 */
export function elf(plan: ElfPlan): Buffer {
  const { bits = 64, endianness = 'little', through = ['segments', 'sections'] } = plan
  const wide = bits === 64
  const [headerBytes, segmentBytes, sectionBytes] = wide ? [64, 56, 64] : [52, 32, 40]
  const segments = through.includes('segments') ? plan.parts : []
  const sections = through.includes('sections') ? plan.parts : []
  const segmentsAt = headerBytes
  let end = segmentsAt + segmentBytes * (segments.length + 1)
  const placed = plan.parts.map((part) => {
    const at = Math.ceil(end / 8) * 8
    end = at + part.bytes.length
    return { part, at }
  })
  const textEnd = end + TEXT_BYTES
  const sectionsAt = Math.ceil(textEnd / 8) * 8
  const sectionCount = sections.length === 0 ? 0 : sections.length + 1

  const size = sectionCount === 0 ? textEnd : sectionsAt + sectionBytes * sectionCount
  const pen = new Pen(size, bits, endianness)
  pen.bytes.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, endianness === 'little' ? 1 : 2, 1])
  pen.u16(16, plan.type ?? 2)
  pen.u16(18, plan.machine ?? 62)
  pen.u32(20, 1)
  pen.word(wide ? 32 : 28, segmentsAt)
  pen.word(wide ? 40 : 32, sectionCount === 0 ? 0 : sectionsAt)
  const counts = wide ? 52 : 40
  pen.u16(counts, headerBytes)
  pen.u16(counts + 2, segmentBytes)
  pen.u16(counts + 4, segments.length + 1)
  pen.u16(counts + 6, sectionBytes)
  pen.u16(counts + 8, sectionCount)

  const segment = (index: number, type: number, part: PartPlan, at: number) => {
    const row = segmentsAt + segmentBytes * index
    pen.u32(row, type)
    pen.word(row + (wide ? 8 : 4), part.offset ?? at)
    pen.word(row + (wide ? 32 : 16), part.length ?? part.bytes.length)
    pen.word(row + (wide ? 48 : 28), part.align ?? 4)
  }
  segment(0, 1, { bytes: pen.bytes.subarray(0, textEnd) }, 0)
  for (const [index, { part, at }] of placed.entries()) {
    pen.bytes.set(part.bytes, at)
    if (segments.length > 0) segment(index + 1, part.type ?? 4, part, at)
    if (sections.length === 0) continue
    const row = sectionsAt + sectionBytes * (index + 1)
    pen.u32(row + 4, part.type ?? 7)
    pen.word(row + (wide ? 24 : 16), part.offset ?? at)
    pen.word(row + (wide ? 32 : 20), part.length ?? part.bytes.length)
    pen.word(row + (wide ? 48 : 32), part.align ?? 4)
  }
  return pen.bytes
}

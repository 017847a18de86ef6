import { describe, expect, it } from 'vitest'
import { READ_BYTES_MAX, READS_MAX } from '../../../src/unikernel/kernel/elf-bytes.ts'
import { findSolo5Kernel } from '../../../src/unikernel/kernel/solo5.ts'
import {
  ABI1,
  abi,
  elf,
  MFT1,
  manifest,
  note,
  type PartPlan,
  RESERVED_FIRST,
} from './elf-writer.ts'
import { complaintAbout, factsOf, fixture, Source } from './kernel-source.ts'

// The headers of mini-net.hvt: five segments, the last three of notes, and seven sections.
const SEGMENTS = 64
const SEGMENT_BYTES = 56
const SECTIONS = 8616
const SECTION_BYTES = 64
const NOTES = 0x1018

const ABI_NOTE = note({ type: ABI1, descriptor: abi(1, 2) })
const MANIFEST_NOTE = note({ type: MFT1, descriptor: manifest([RESERVED_FIRST]) })
const PARTS: readonly PartPlan[] = [{ bytes: ABI_NOTE }, { bytes: MANIFEST_NOTE }]

/** mini-net.hvt with other bytes. */
function patched(patch: (bytes: Buffer) => unknown): Buffer {
  const bytes = fixture('elf/mini-net.hvt')
  patch(bytes)
  return bytes
}

const segmentField = (index: number, field: number) => SEGMENTS + SEGMENT_BYTES * index + field
const sectionField = (index: number, field: number) => SECTIONS + SECTION_BYTES * index + field

const HUGE = [
  0x10000n,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 8n,
  2n ** 64n - 1n,
]

describe('a truncated kernel is refused,', () => {
  it('at any length', async () => {
    const whole = fixture('elf/mini-net.hvt')
    for (let length = 0; length < whole.length; length += 1) {
      const cut = whole.subarray(0, length)
      if (length < 4) expect(await factsOf(cut)).toBeUndefined()
      else expect(await complaintAbout(cut)).toMatch(/should be .* but the kernel ends at/)
    }
  })

  it.each(
    ([32, 64] as const).flatMap((bits) =>
      (['segments', 'sections'] as const).map((through) => ({ bits, through })),
    ),
  )('also one of $bits bits that has only $through', async ({ bits, through }) => {
    const whole = elf({ bits, through: [through], parts: PARTS })
    expect(await factsOf(whole)).toBeDefined()
    for (let length = 4; length < whole.length; length += 1) {
      expect(await complaintAbout(whole.subarray(0, length))).toContain('but the kernel ends at')
    }
  })
})

describe('an ELF header is refused', () => {
  it.each([
    ['of class 0', 4, 0, 'class is 0'],
    ['of class 3', 4, 3, 'class is 3'],
    ['of class 32 while it has 64', 4, 1, 'size of the ELF header'],
    ['of byte order 0', 5, 0, 'byte order is 0'],
    ['of the other byte order', 5, 2, 'ELF version'],
    ['of version 0', 6, 0, 'ELF version is 0'],
    ['of version 2', 20, 2, 'ELF version is 2'],
    ['of another size', 52, 63, 'size of the ELF header is 63, but must be 64'],
    ['with segments of another size', 54, 55, 'header of a segment is 55, but must be 56'],
    ['with segments of no size', 54, 0, 'header of a segment is 0'],
    ['with sections of another size', 58, 40, 'header of a section is 40, but must be 64'],
    ['with 65 segments', 56, 65, 'number of segments is 65, but must be at most 64'],
    ['with sections, but none of them', 60, 0, 'number of sections is 0, but must be 1 to 512'],
  ])('%s', async (_what, at, value, problem) => {
    const bytes = patched((it) => {
      it[at] = value
    })
    expect(await complaintAbout(bytes)).toContain(problem)
  })

  it('with 65535 segments or sections, in a file of any size', async () => {
    const segments = patched((it) => it.writeUInt16LE(0xffff, 56))
    expect(await complaintAbout(segments, 2 ** 40)).toContain('number of segments is 65535')
    const sections = patched((it) => it.writeUInt16LE(0xffff, 60))
    expect(await complaintAbout(sections, 2 ** 40)).toContain('number of sections is 65535')
  })

  it.each(HUGE)('with its tables at byte %i', async (offset) => {
    const segments = patched((it) => it.writeBigUInt64LE(offset, 32))
    expect(await complaintAbout(segments)).toContain('the table of segments should be 280 bytes')
    const sections = patched((it) => it.writeBigUInt64LE(offset, 40))
    expect(await complaintAbout(sections)).toContain('the table of sections should be 448 bytes')
  })
})

describe('notes are refused', () => {
  it.each(HUGE)('at byte %i, or of so many bytes', async (value) => {
    for (const field of [8, 32]) {
      const bytes = patched((it) => it.writeBigUInt64LE(value, segmentField(3, field)))
      expect(await complaintAbout(bytes)).toContain('segment 3 should be')
    }
    for (const field of [24, 32]) {
      const bytes = patched((it) => it.writeBigUInt64LE(value, sectionField(3, field)))
      expect(await complaintAbout(bytes)).toContain('section 3 should be')
    }
  })

  it.each([0xfffffff0, 0x80000000, 0x7fffffff])('at byte %i of 32 bits', async (value) => {
    const offset = elf({ bits: 32, parts: [{ bytes: ABI_NOTE, offset: value }] })
    expect(await complaintAbout(offset)).toContain('should be 36 bytes')
    const length = elf({ bits: 32, parts: [{ bytes: ABI_NOTE, length: value }] })
    expect(await complaintAbout(length)).toContain(`should be ${value} bytes`)
  })

  it.each([1, 4, 20])('that overlap by %i bytes', async (bytes) => {
    const segments = patched((it) =>
      it.writeBigUInt64LE(0x1108n - BigInt(bytes), segmentField(3, 8)),
    )
    expect(await complaintAbout(segments)).toContain('segment 3 overlap those of segment 4')
    const sections = patched((it) =>
      it.writeBigUInt64LE(0x112cn - BigInt(bytes), sectionField(4, 24)),
    )
    expect(await complaintAbout(sections)).toContain('section 4 overlap those of section 3')
  })

  it('that two segments share', async () => {
    const bytes = patched((it) =>
      it.copy(it, segmentField(3, 0), segmentField(4, 0), segmentField(5, 0)),
    )
    expect(await complaintAbout(bytes)).toContain('overlap')
  })

  it.each([1, 11, 12, 35])('that end after %i bytes', async (length) => {
    const bytes = patched((it) => it.writeBigUInt64LE(BigInt(length), segmentField(3, 32)))
    expect(await complaintAbout(bytes)).toMatch(/must (have 12|end within)/)
  })

  it('that are larger than any', async () => {
    const large = Buffer.alloc(64 * 1024 + 4)
    expect(await complaintAbout(elf({ parts: [...PARTS, { bytes: large }] }))).toContain(
      'bytes in the notes of segment 3 is 65540, but must be at most 65536',
    )
    expect(await factsOf(elf({ parts: [...PARTS, { bytes: large.subarray(4) }] }))).toBeDefined()
  })

  it('that sections and segments have at different offsets', async () => {
    // Another note, wrapped into one that tenders skip: a section can lead into the middle of it.
    const inner = note({ type: ABI1, descriptor: abi(2, 2) })
    const outer = note({ type: 9, name: 'GNU\0', descriptor: inner })
    const whole = elf({ parts: [{ bytes: ABI_NOTE }, { bytes: MANIFEST_NOTE }, { bytes: outer }] })
    expect(await factsOf(whole)).toMatchObject({ abi: { target: 'hvt' } })
    const at = whole.indexOf(inner)
    const tail = whole.length - SECTION_BYTES
    whole.writeBigUInt64LE(BigInt(at), tail + 24)
    whole.writeBigUInt64LE(BigInt(inner.length), tail + 32)
    expect(await complaintAbout(whole)).toContain('there is another ABI1 note')
  })

  it('when a loaded segment is outside the file', async () => {
    const bytes = patched((it) => it.writeBigUInt64LE(0x10000n, segmentField(1, 32)))
    expect(await complaintAbout(bytes)).toContain('segment 1 should be 65536 bytes')
  })
})

describe('reading stays cheap:', () => {
  /** Notes without an owner, each far from the next. */
  const scattered = (count: number): PartPlan[] =>
    Array.from({ length: count }, (_, index) => ({
      bytes: Buffer.alloc(0),
      offset: (index + 1) * 2 ** 30,
      length: 12,
    }))

  it('notes in more places than the limit of reads', async () => {
    const few = elf({ parts: scattered(READS_MAX - 1), through: ['segments'] })
    expect(await factsOf(few, 2 ** 40)).toBeUndefined()
    const many = elf({ parts: scattered(READS_MAX), through: ['segments'] })
    expect(await complaintAbout(many, 2 ** 40)).toContain('must be readable in 16 reads')
  })

  it('large notes in several places', async () => {
    const bytes = (count: number) =>
      elf({ parts: scattered(count).map((it) => ({ ...it, length: 60 * 1024 })) })
    expect(await factsOf(bytes(8), 2 ** 40)).toBeUndefined()
    expect(await complaintAbout(bytes(9), 2 ** 40)).toContain(`${READ_BYTES_MAX} bytes`)
  })

  it('500 adjacent sections cost one read', async () => {
    const parts = Array.from({ length: 500 }, () => ({ bytes: Buffer.alloc(12) }))
    const bytes = elf({ parts: [...PARTS, ...parts], through: ['sections'] })
    expect(bytes.length).toBeGreaterThan(40_000)
    expect(await factsOf(bytes)).toBeDefined()
  })

  it('an object file is not read further, with any number of sections', async () => {
    const bytes = patched((it) => it.writeUInt16LE(1, 16) && it.writeUInt16LE(0xffff, 60))
    const source = new Source(bytes, 2 ** 40)
    expect(await findSolo5Kernel(source.size, source.read)).toBeUndefined()
    expect(source.reads).toBe(1)
  })

  it('empty segments and sections have no notes, at any offset', async () => {
    const empty = { bytes: Buffer.alloc(0), offset: 2n ** 64n - 1n, length: 0 }
    expect(await factsOf(elf({ parts: [...PARTS, empty] }))).toBeDefined()
  })

  it('the fixture has the layout that these tests expect', () => {
    expect(fixture('elf/mini-net.hvt').readBigUInt64LE(segmentField(4, 8))).toBe(BigInt(NOTES))
    expect(fixture('elf/mini-net.hvt').readBigUInt64LE(sectionField(2, 24))).toBe(BigInt(NOTES))
  })
})

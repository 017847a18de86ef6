import {
  type Area,
  ElfFields,
  type ElfFormat,
  type KernelBytes,
  MalformedKernelError,
} from './elf-bytes.ts'
import {
  BYTE_ORDERS,
  CLASSES,
  ELF_VERSION,
  EXECUTABLE,
  type HeaderLayout,
  IDENTIFICATION,
  LAYOUTS,
  MACHINE_AT,
  PT_LOAD,
  PT_NOTE,
  SHT_NOTE,
  type TableLayout,
  TYPE_AT,
  VERSION_AT,
} from './elf-layout.ts'

// All possible Solo5 notes take 7 KiB; a linker adds a few others.
export const NOTE_AREA_BYTES_MAX = 64 * 1024

/** A segment or section of an ELF. */
export type ElfPart = Area & {
  /** PT_NOTE and so on, or SHT_NOTE and so on. */
  readonly type: number
  /** The alignment of its notes, in bytes. */
  readonly align: number
}

/** The headers of an executable that locate its notes. */
export type Elf = ElfFormat & {
  /** e_machine: the number of the processor in the ELF specification. */
  readonly machine: number
  /** PT_NOTE segments in the order of the file. They are inside the file, and do not overlap. */
  readonly noteSegments: readonly ElfPart[]
  /** SHT_NOTE sections, likewise. */
  readonly noteSections: readonly ElfPart[]
  /** Segments to be loaded into memory (PT_LOAD), unchecked. */
  readonly loadedSegments: readonly ElfPart[]
}

/**
 * Reads the headers of an executable, in the layout of the ELF specification (System V ABI,
 * chapters 4 and 5). Undefined for a file that is not an ELF, and for an ELF that is not
 * executable: an object file, a core dump. Throws MalformedKernelError for an ELF that is truncated
 * or contradicts itself.
 */
export async function findElf(kernel: KernelBytes): Promise<Elf | undefined> {
  const found = await findHeader(kernel)
  if (found === undefined) return undefined
  const { format, layout, header } = found
  const segments = await listParts(kernel, header, format, layout.segments)
  const sections = await listParts(kernel, header, format, layout.sections)
  return {
    ...format,
    machine: header.u16(MACHINE_AT),
    noteSegments: notesOf(segments, PT_NOTE, kernel),
    noteSections: notesOf(sections, SHT_NOTE, kernel),
    loadedSegments: segments.filter((part) => part.type === PT_LOAD && part.length > 0),
  }
}

/** The header of an executable. */
type ElfHeader = {
  readonly format: ElfFormat
  readonly layout: HeaderLayout
  readonly header: ElfFields
}

/** Reads the ELF header, as `findElf`. */
export async function findHeader(kernel: KernelBytes): Promise<ElfHeader | undefined> {
  const { magic, classAt, byteOrderAt, versionAt } = IDENTIFICATION
  if (kernel.size < magic.length) return undefined
  const beginning = await kernel.bytesOf(headerOf(magic.length))
  if (!magic.every((byte, at) => beginning[at] === byte)) return undefined

  const identification = await kernel.bytesOf(headerOf(IDENTIFICATION.bytes))
  const bits = CLASSES[identification[classAt] ?? 0]
  if (!bits) throw malformedField(classAt, 'ELF class', identification[classAt], '1 or 2')
  const endianness = BYTE_ORDERS[identification[byteOrderAt] ?? 0]
  if (!endianness)
    throw malformedField(byteOrderAt, 'byte order', identification[byteOrderAt], '1 or 2')
  assertField(versionAt, 'ELF version', identification[versionAt], ELF_VERSION)

  const layout = LAYOUTS[bits]
  const format = { bits, endianness }
  const header = new ElfFields(await kernel.bytesOf(headerOf(layout.bytes)), format)
  assertField(VERSION_AT, 'ELF version', header.u32(VERSION_AT), ELF_VERSION)
  if (!EXECUTABLE.includes(header.u16(TYPE_AT))) return undefined
  assertField(layout.sizeAt, 'size of the ELF header', header.u16(layout.sizeAt), layout.bytes)
  return { format, layout, header }
}

function headerOf(length: number): Area {
  return { offset: 0, length, what: 'the ELF header', declaredAt: 0 }
}

/** Lists the segments or sections of a header table. Throws MalformedKernelError. */
export async function listParts(
  kernel: KernelBytes,
  header: ElfFields,
  format: ElfFormat,
  { what, max, offsetAt, rowSizeAt, countAt, rowBytes, row }: TableLayout,
): Promise<ElfPart[]> {
  const offset = header.word(offsetAt)
  const count = header.u16(countAt)
  if (count > max) throw malformedField(countAt, `number of ${what}s`, count, `at most ${max}`)
  if (count === 0) {
    // "Extended numbering": there are more sections than the field can hold, 65 280 at least.
    if (what === 'segment' || offset === 0) return []
    throw malformedField(
      countAt,
      'number of sections',
      count,
      `1 to ${max}, as there is a table of them`,
    )
  }
  assertField(rowSizeAt, `size of the header of a ${what}`, header.u16(rowSizeAt), rowBytes)
  const table = { offset, length: count * rowBytes, what: `the table of ${what}s` }
  const fields = new ElfFields(await kernel.bytesOf({ ...table, declaredAt: offsetAt }), format)
  return Array.from({ length: count }, (_, index) => {
    const at = index * rowBytes
    return {
      type: fields.u32(at + row.type),
      offset: fields.word(at + row.offset),
      length: fields.word(at + row.size),
      align: fields.word(at + row.align),
      what: `${what} ${index}`,
      declaredAt: offset + at,
    }
  })
}

/**
 * Returns the parts with notes, by their offsets. Empty parts are skipped: `objcopy` leaves such.
 */
function notesOf(parts: readonly ElfPart[], type: number, kernel: KernelBytes): ElfPart[] {
  const notes = parts
    .filter((part) => part.type === type && part.length > 0)
    .sort((a, b) => a.offset - b.offset)
  for (const [index, part] of notes.entries()) {
    kernel.assertInside(part)
    if (part.length > NOTE_AREA_BYTES_MAX) {
      const what = `number of bytes in the notes of ${part.what}`
      throw malformedField(part.declaredAt, what, part.length, `at most ${NOTE_AREA_BYTES_MAX}`)
    }
    const before = notes[index - 1]
    if (before && before.offset + before.length > part.offset) {
      throw new MalformedKernelError(
        part.declaredAt,
        `the notes of ${part.what} overlap those of ${before.what}; they must be disjoint`,
      )
    }
  }
  return notes
}

function assertField(at: number, what: string, found: number | undefined, right: number): void {
  if (found !== right) throw malformedField(at, what, found, String(right))
}

function malformedField(at: number, what: string, found: number | undefined, right: string) {
  return new MalformedKernelError(at, `the ${what} is ${found}, but must be ${right}`)
}

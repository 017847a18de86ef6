import type { Bits, Endianness } from './elf-bytes.ts'

// Solo5's linker scripts make about 10, Linux programs 15.
const SEGMENTS_MAX = 64
// A debug twin has about 40, a Linux kernel 100.
const SECTIONS_MAX = 512

/** ELF specification, "ELF Identification": bytes with the same layout in every ELF. */
export const IDENTIFICATION = {
  bytes: 16,
  magic: [0x7f, 0x45, 0x4c, 0x46],
  classAt: 4,
  byteOrderAt: 5,
  versionAt: 6,
} as const

/** ELFCLASS32 and ELFCLASS64. */
export const CLASSES: Readonly<Record<number, Bits>> = { 1: 32, 2: 64 }

/** ELFDATA2LSB and ELFDATA2MSB. */
export const BYTE_ORDERS: Readonly<Record<number, Endianness>> = { 1: 'little', 2: 'big' }

/** EV_CURRENT, the only version of ELF. */
export const ELF_VERSION = 1

/** ELF specification, "ELF Header": fields with the same offset in both classes. */
export const TYPE_AT = 16
export const MACHINE_AT = 18
export const VERSION_AT = 20

/** ET_EXEC and ET_DYN: executables. Object files and core dumps have other types. */
export const EXECUTABLE: readonly number[] = [2, 3]

export const PT_LOAD = 1
export const PT_NOTE = 4
export const SHT_NOTE = 7

/** The layout of the program or section header table. All numbers are in bytes. */
export type TableLayout = {
  /** The subject of a row. */
  readonly what: 'segment' | 'section'
  /** The most rows that are read; an ELF with more is refused. */
  readonly max: number
  /** Fields of the ELF header with the table's offset, row size and row count. */
  readonly offsetAt: number
  readonly rowSizeAt: number
  readonly countAt: number
  readonly rowBytes: number
  /** Offsets of the fields in a row. */
  readonly row: {
    readonly type: number
    readonly offset: number
    readonly size: number
    readonly align: number
  }
}

/** Offsets of the ELF header's fields that differ between the classes. */
export type HeaderLayout = {
  readonly bytes: number
  readonly sizeAt: number
  readonly segments: TableLayout
  readonly sections: TableLayout
}

/** ELF specification: Elf32_Ehdr, Elf32_Phdr, Elf32_Shdr, and their 64-bit counterparts. */
export const LAYOUTS: Readonly<Record<Bits, HeaderLayout>> = {
  32: {
    bytes: 52,
    sizeAt: 40,
    segments: {
      what: 'segment',
      max: SEGMENTS_MAX,
      offsetAt: 28,
      rowSizeAt: 42,
      countAt: 44,
      rowBytes: 32,
      row: { type: 0, offset: 4, size: 16, align: 28 },
    },
    sections: {
      what: 'section',
      max: SECTIONS_MAX,
      offsetAt: 32,
      rowSizeAt: 46,
      countAt: 48,
      rowBytes: 40,
      row: { type: 4, offset: 16, size: 20, align: 32 },
    },
  },
  64: {
    bytes: 64,
    sizeAt: 52,
    segments: {
      what: 'segment',
      max: SEGMENTS_MAX,
      offsetAt: 32,
      rowSizeAt: 54,
      countAt: 56,
      rowBytes: 56,
      row: { type: 0, offset: 8, size: 32, align: 48 },
    },
    sections: {
      what: 'section',
      max: SECTIONS_MAX,
      offsetAt: 40,
      rowSizeAt: 58,
      countAt: 60,
      rowBytes: 64,
      row: { type: 4, offset: 24, size: 32, align: 48 },
    },
  },
}

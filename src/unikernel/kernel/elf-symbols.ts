import { Buffer } from 'node:buffer'
import { findHeader, listParts } from './elf.ts'
import { type Bits, ElfFields, type ElfFormat, KernelBytes, type ReadRange } from './elf-bytes.ts'

// A unikernel of MirageOS has some 50 000 symbols, and names of 3 MiB.
export const SYMBOLS_MAX = 300_000
export const SYMBOL_NAMES_BYTES_MAX = 16 * 1024 * 1024
/** A longer name is cut. */
export const SYMBOL_NAME_BYTES_MAX = 255
const SECTION_NAMES_BYTES_MAX = 64 * 1024
const SECTION_NAME_BYTES_MAX = 64

const SHT_SYMTAB = 2
const SHT_NOBITS = 8
const SHF_ALLOC = 2
const SHF_EXECUTABLE = 4

/** A section that is loaded into memory. */
export type LoadedSection = {
  /** Its place in the table of sections, which symbols name. */
  readonly index: number
  readonly name: string
  readonly address: number
  /** In bytes. */
  readonly size: number
  readonly isCode: boolean
  /** False for memory that is zero at the start, which takes no room in the file. */
  readonly hasBytes: boolean
}

/** The sections of an executable and its table of symbols, which are not parsed yet. */
export type SymbolTable = {
  readonly format: ElfFormat
  readonly sections: readonly LoadedSection[]
  /** Rows of SYMBOL_LAYOUTS. Empty for an executable without symbols. */
  readonly symbols: Uint8Array
  /** The names, each with a NUL at its end. */
  readonly names: Uint8Array
  /** Why the symbols are not read. */
  readonly problem: string | undefined
}

/** ELF specification: Elf32_Shdr and Elf64_Shdr, beyond the fields that segments have as well. */
const SECTION_FIELDS: Readonly<Record<Bits, { flags: number; address: number; link: number }>> = {
  32: { flags: 8, address: 12, link: 24 },
  64: { flags: 8, address: 16, link: 40 },
}

/** ELF specification: Elf32_Sym and Elf64_Sym. */
export const SYMBOL_LAYOUTS = {
  32: { bytes: 16, value: 4, size: 8, info: 12, section: 14 },
  64: { bytes: 24, value: 8, size: 16, info: 4, section: 6 },
} as const satisfies Readonly<Record<Bits, Readonly<Record<string, number>>>>

const EMPTY = new Uint8Array()

/**
 * Reads the sections and the symbol table of an executable of `size` bytes: only its headers, its symbols and their names.
 * Undefined for a file that is no executable ELF. Throws MalformedKernelError, and the errors of `read`.
 */
export async function readSymbolTable(
  size: number,
  read: ReadRange,
): Promise<SymbolTable | undefined> {
  const kernel = new KernelBytes(size, read)
  const found = await findHeader(kernel)
  if (found === undefined) return undefined
  const { format, layout, header } = found
  const parts = await listParts(kernel, header, format, layout.sections)
  const fields = SECTION_FIELDS[format.bits]
  const rows = []
  for (const { declaredAt, type, offset, length, what } of parts) {
    const area = { offset: declaredAt, length: layout.sections.rowBytes, what, declaredAt }
    const row = new ElfFields(await kernel.bytesOf(area), format)
    rows.push({
      ...{ type, offset, length, what, declaredAt },
      name: row.u32(0),
      flags: row.word(fields.flags),
      address: row.word(fields.address),
      link: row.u32(fields.link),
    })
  }
  const nameSection = rows[header.u16(layout.bytes - 2)]
  const sectionNames =
    nameSection === undefined || nameSection.length > SECTION_NAMES_BYTES_MAX
      ? EMPTY
      : await kernel.bytesOf(nameSection)
  const sections = rows.flatMap(({ type, flags, name, address, length, ...area }, index) => {
    if ((flags & SHF_ALLOC) === 0 || length === 0) return []
    const hasBytes = type !== SHT_NOBITS
    if (hasBytes) kernel.assertInside({ ...area, length })
    return {
      index,
      name: nameAt(sectionNames, name, SECTION_NAME_BYTES_MAX) || `section ${index}`,
      address,
      size: length,
      isCode: (flags & SHF_EXECUTABLE) !== 0,
      hasBytes,
    }
  })
  const table = { format, sections, symbols: EMPTY, names: EMPTY, problem: undefined }
  const symbols = rows.find(({ type }) => type === SHT_SYMTAB)
  const names = symbols && rows[symbols.link]
  if (symbols === undefined || names === undefined) return table
  kernel.assertInside(symbols)
  kernel.assertInside(names)
  const count = Math.floor(symbols.length / SYMBOL_LAYOUTS[format.bits].bytes)
  if (count > SYMBOLS_MAX || names.length > SYMBOL_NAMES_BYTES_MAX) {
    const problem = `it has ${count} symbols with names of ${names.length} bytes; at most ${SYMBOLS_MAX} with ${SYMBOL_NAMES_BYTES_MAX} bytes are read`
    return { ...table, problem }
  }
  const bytesOf = async ({ offset, length }: { offset: number; length: number }) =>
    // The bytes are valid until the next read.
    length === 0 ? EMPTY : new Uint8Array(await read(offset, offset + length - 1))
  return { ...table, symbols: await bytesOf(symbols), names: await bytesOf(names) }
}

/** Returns the name that begins at `start` and ends before a NUL, cut to `bytesMax`. Each byte is one character. */
export function nameAt(names: Uint8Array, start: number, bytesMax: number): string {
  const cut = names.subarray(start, start + bytesMax)
  const end = cut.indexOf(0)
  return Buffer.from(cut.buffer, cut.byteOffset, end === -1 ? cut.length : end).toString('latin1')
}

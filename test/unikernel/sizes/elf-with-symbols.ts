import { Buffer } from 'node:buffer'

/** A section of a test program that is loaded, and its symbols by their offsets in it. */
export type TestSection = {
  readonly name: string
  readonly size: number
  /** SHT_NOBITS: it takes no room in the file. */
  readonly isZero?: boolean
  readonly symbols?: readonly {
    readonly name: string
    readonly at: number
    readonly size?: number
  }[]
}

const HEADER_BYTES = 64
const SECTION_BYTES = 64
const SYMBOL_BYTES = 24

/** Makes an ELF executable of 64 bits with these sections, all code, and a symbol table. */
export function elfWithSymbols(sections: readonly TestSection[]): Buffer {
  const strings = (texts: readonly string[]) => {
    const offsets: number[] = []
    let text = '\0'
    for (const one of texts) {
      offsets.push(Buffer.byteLength(text, 'latin1'))
      text += `${one}\0`
    }
    return { offsets, bytes: Buffer.from(text, 'latin1') }
  }
  const addresses = sections.map((_, index) => 0x100_000 * (index + 1))
  const listed = sections.flatMap(({ symbols = [] }, index) =>
    symbols.map(({ name, at, size = 0 }) => ({
      ...{ name, size, section: index + 1 },
      address: (addresses[index] ?? 0) + at,
    })),
  )
  const names = strings(listed.map(({ name }) => name))
  const table = Buffer.alloc(SYMBOL_BYTES * (listed.length + 1))
  for (const [index, { address, size, section }] of listed.entries()) {
    const at = SYMBOL_BYTES * (index + 1)
    table.writeUInt32LE(names.offsets[index] ?? 0, at)
    table.writeUInt16LE(section, at + 6)
    table.writeBigUInt64LE(BigInt(address), at + 8)
    table.writeBigUInt64LE(BigInt(size), at + 16)
  }
  const rowNames = strings([...sections.map(({ name }) => name), '.symtab', '.strtab', '.shstrtab'])
  const symtab = sections.length + 1
  const contents = [
    ...sections.map(({ size, isZero }, index) => ({
      ...{ bytes: Buffer.alloc(isZero ? 0 : size), size, type: isZero ? 8 : 1, flags: 6, link: 0 },
      address: addresses[index] ?? 0,
    })),
    { bytes: table, size: table.length, type: 2, flags: 0, link: symtab + 1, address: 0 },
    { bytes: names.bytes, size: names.bytes.length, type: 3, flags: 0, link: 0, address: 0 },
    { bytes: rowNames.bytes, size: rowNames.bytes.length, type: 3, flags: 0, link: 0, address: 0 },
  ]
  const rows = Buffer.alloc(SECTION_BYTES * (contents.length + 1))
  let offset = HEADER_BYTES
  for (const [index, { bytes, size, type, flags, link, address }] of contents.entries()) {
    const at = SECTION_BYTES * (index + 1)
    rows.writeUInt32LE(rowNames.offsets[index] ?? 0, at)
    rows.writeUInt32LE(type, at + 4)
    rows.writeBigUInt64LE(BigInt(flags), at + 8)
    rows.writeBigUInt64LE(BigInt(address), at + 16)
    rows.writeBigUInt64LE(BigInt(offset), at + 24)
    rows.writeBigUInt64LE(BigInt(size), at + 32)
    rows.writeUInt32LE(link, at + 40)
    offset += bytes.length
  }
  const header = Buffer.alloc(HEADER_BYTES)
  header.write('\x7fELF', 'latin1')
  header.set([2, 1, 1], 4)
  header.writeUInt16LE(2, 16)
  header.writeUInt16LE(62, 18)
  header.writeUInt32LE(1, 20)
  header.writeBigUInt64LE(BigInt(offset), 40)
  header.writeUInt16LE(HEADER_BYTES, 52)
  header.writeUInt16LE(SECTION_BYTES, 58)
  header.writeUInt16LE(contents.length + 1, 60)
  header.writeUInt16LE(contents.length, 62)
  return Buffer.concat([header, ...contents.map(({ bytes }) => bytes), rows])
}

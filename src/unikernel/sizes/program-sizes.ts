import { ElfFields } from '../kernel/elf-bytes.ts'
import {
  type LoadedSection,
  nameAt,
  SYMBOL_LAYOUTS,
  SYMBOL_NAME_BYTES_MAX,
  type SymbolTable,
} from '../kernel/elf-symbols.ts'
import { SizeSums, type SizeTree } from './size-tree.ts'
import { isEnd, libraryOf, moduleOf, type Owner, SymbolOwners } from './symbol-owners.ts'

/** The sizes of a program's parts: spec/openapi.yaml, Sizes. */
export type ProgramSizes = {
  /** The sections that are loaded from the file, in its order. */
  readonly sections: readonly { readonly name: string; readonly bytes: number }[]
  /** The same bytes by library, module and symbol. */
  readonly tree: SizeTree
  /** Why there are only sections. */
  readonly problem: string | undefined
}

// Real libraries have at most some hundreds of modules.
const CHILDREN_MAX = 400
// Linkers put up to 15 bytes between functions.
const PADDING_BYTES_MAX = 15

/** The names of parts that are no package, library or module. */
export const PARTS = {
  ocaml: 'OCaml',
  runtime: 'OCaml runtime',
  solo5: 'Solo5',
  c: 'C',
  unnamed: 'without a symbol',
} as const

type Symbol = { readonly address: number; readonly size: number; readonly name: string }

/**
 * Sums up the loaded bytes of a program by the compilation unit of OCaml, or the function in C, to which the symbol before them
 * belongs. Debug information and memory that is zero at the start take no room in a kernel, and are left out.
 */
export function programSizes(table: SymbolTable): ProgramSizes {
  const sections = storedSections(table.sections)
  const symbols = symbolsBySection(table)
  const owners = new SymbolOwners(namesOf(symbols))
  const sums = new SizeSums()
  for (const section of sections)
    addSection(sums, section, symbols.get(section.index) ?? [], owners)
  return {
    sections: sections.map(({ name, size }) => ({ name, bytes: size })),
    tree: sums.tree('program', CHILDREN_MAX),
    problem: table.problem,
  }
}

/** In a twin that has only debug information, no section has bytes: those of the kernel are the others than `.bss`. */
function storedSections(sections: readonly LoadedSection[]): readonly LoadedSection[] {
  const stored = sections.filter(({ hasBytes }) => hasBytes)
  if (stored.some(({ isCode }) => isCode)) return stored
  return sections.filter(({ hasBytes, name }) => hasBytes || !/^\.t?bss\b/.test(name))
}

function symbolsBySection(table: SymbolTable): ReadonlyMap<number, readonly Symbol[]> {
  const { format, symbols, names } = table
  const layout = SYMBOL_LAYOUTS[format.bits]
  const fields = new ElfFields(symbols, format)
  const found = new Map<number, Symbol[]>(table.sections.map(({ index }) => [index, []]))
  for (let at = 0; at + layout.bytes <= symbols.length; at += layout.bytes) {
    const list = found.get(fields.u16(at + layout.section))
    if (list === undefined) continue
    const name = nameAt(names, fields.u32(at), SYMBOL_NAME_BYTES_MAX)
    if (name === '') continue
    list.push({
      address: fields.word(at + layout.value),
      size: fields.word(at + layout.size),
      name,
    })
  }
  return found
}

function* namesOf(symbols: ReadonlyMap<number, readonly Symbol[]>): Generator<string> {
  for (const list of symbols.values()) for (const { name } of list) yield name
}

function addSection(
  sums: SizeSums,
  { name, address, size }: LoadedSection,
  symbols: readonly Symbol[],
  owners: SymbolOwners,
): void {
  const end = address + size
  const ordered = symbols
    .filter((one) => one.address >= address && one.address < end)
    .toSorted((a, b) => a.address - b.address || rank(b) - rank(a) || (a.name < b.name ? -1 : 1))
  // The first symbol at an address counts.
  const counted = ordered.filter((one, index) => ordered[index - 1]?.address !== one.address)
  const unnamed = [PARTS.unnamed, name]
  sums.add(unnamed, (counted[0]?.address ?? end) - address)
  for (const [index, symbol] of counted.entries()) {
    const room = (counted[index + 1]?.address ?? end) - symbol.address
    const owner = owners.ownerOf(symbol.name)
    const own = ownBytes(owner, symbol.size, room)
    sums.add(pathOf(owner), own)
    sums.add(unnamed, room - own)
  }
}

/** Symbols with a size show what is there; those at the ends of parts show only what was before. */
function rank({ name, size }: Symbol): number {
  return (isEnd(name) ? 0 : 2) + (size > 0 ? 1 : 0)
}

/** The data of OCaml has no sizes: it reaches to the next symbol. Bytes behind a symbol with a size are unknown. */
function ownBytes({ kind }: Owner, size: number, room: number): number {
  if (kind === 'unit' || size === 0 || size + PADDING_BYTES_MAX >= room) return room
  return size
}

function pathOf(owner: Owner): readonly string[] {
  if (owner.kind !== 'unit') return [PARTS[owner.kind], owner.symbol]
  const library = libraryOf(owner.unit)
  return [PARTS.ocaml, library, moduleOf(owner.unit, library)]
}

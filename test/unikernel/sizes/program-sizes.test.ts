import { describe, expect, it } from 'vitest'
import { readSymbolTable, SYMBOLS_MAX } from '../../../src/unikernel/kernel/elf-symbols.ts'
import { type ProgramSizes, programSizes } from '../../../src/unikernel/sizes/program-sizes.ts'
import type { SizeTree } from '../../../src/unikernel/sizes/size-tree.ts'
import { fixture } from '../../images/image-fixtures.ts'
import { elfWithSymbols, type TestSection } from './elf-with-symbols.ts'

async function sizesOf(elf: Buffer): Promise<ProgramSizes> {
  const table = await readSymbolTable(elf.length, async (start, end) =>
    elf.subarray(start, end + 1),
  )
  if (table === undefined) throw new Error('not an executable')
  return programSizes(table)
}

const sizesOfSections = (...sections: TestSection[]) => sizesOf(elfWithSymbols(sections))

/** The sizes of parts by their paths. */
function pathsOf(
  { name, bytes, children }: SizeTree,
  above: readonly string[] = [],
): [string, number][] {
  const path = [...above, name]
  if (children === undefined) return [[path.slice(1).join('/'), bytes]]
  return children.flatMap((child) => pathsOf(child, path))
}

function expectSums({ bytes, children }: SizeTree): void {
  if (children === undefined) return
  expect(children.reduce((sum, child) => sum + child.bytes, 0)).toBe(bytes)
  expect(new Set(children.map(({ name }) => name)).size).toBe(children.length)
  for (const child of children) expectSums(child)
}

describe('the sizes of a program', () => {
  it('are by library and module, as ocamlopt and dune name symbols', async () => {
    const { tree, sections, problem } = await sizesOfSections(
      {
        name: '.text',
        size: 400,
        symbols: [
          { name: 'camlDns__Packet__code_begin', at: 0 },
          { name: 'camlDns__Packet__decode_81', at: 0, size: 30 },
          { name: 'camlDns__Packet__code_end', at: 90 },
          { name: 'camlDns__Name__code_begin', at: 100 },
          { name: 'camlDns__Name__k$27_12', at: 120, size: 10 },
          { name: 'camlLwt__bind_3', at: 150, size: 20 },
          { name: 'camlDune__exe__Main__entry', at: 200, size: 40 },
          { name: 'caml_alloc_small', at: 250, size: 40 },
          { name: 'solo5_net_read', at: 300, size: 20 },
          { name: 'memcpy', at: 350, size: 30 },
        ],
      },
      {
        name: '.data',
        size: 50,
        symbols: [
          { name: 'camlDns__Packet__data_begin', at: 10 },
          { name: 'camlDns__Packet__frametable', at: 20 },
          { name: 'camlLwt__data_begin', at: 40 },
        ],
      },
    )
    expect(problem).toBeUndefined()
    expect(sections).toEqual([
      { name: '.text', bytes: 400 },
      { name: '.data', bytes: 50 },
    ])
    expect(tree.bytes).toBe(450)
    expectSums(tree)
    expect(Object.fromEntries(pathsOf(tree))).toEqual({
      'OCaml/Dns/Packet': 130,
      'OCaml/Dns/Name': 50,
      'OCaml/Lwt/Lwt': 60,
      'OCaml/Dune__exe/Main': 50,
      'OCaml runtime/caml_alloc_small': 50,
      'Solo5/solo5_net_read': 20,
      'C/memcpy': 30,
      'without a symbol/.text': 50,
      'without a symbol/.data': 10,
    })
  })

  it('are by module, as OCaml names symbols since 5.1', async () => {
    const { tree } = await sizesOfSections({
      name: '.text',
      size: 100,
      symbols: [
        { name: 'camlDns__Packet.code_begin', at: 0 },
        { name: 'camlDns__Packet.decode__all_81', at: 10, size: 20 },
        { name: 'camlStdlib__List.map_4', at: 50, size: 50 },
      ],
    })
    expect(Object.fromEntries(pathsOf(tree))).toEqual({
      'OCaml/Dns/Packet': 50,
      'OCaml/Stdlib/List': 50,
    })
  })

  it('have no memory that is zero at the start, except in a file of debug information alone', async () => {
    const text = { name: '.text', size: 100, symbols: [{ name: 'camlMain__entry', at: 0 }] }
    const bss = { name: '.bss', size: 5000, isZero: true }
    expect((await sizesOfSections(text, bss)).tree.bytes).toBe(100)
    const split = await sizesOfSections({ ...text, isZero: true }, bss)
    expect(Object.fromEntries(pathsOf(split.tree))).toEqual({ 'OCaml/Main/Main': 100 })
  })

  it.each(['elf/mini-net.hvt', 'elf/mini-arm.hvt', 'builds/hello-key-1/hello-key.hvt.debug'])(
    'are by section without symbols: %s',
    async (name) => {
      const { tree, sections } = await sizesOf(fixture(name))
      expect(tree.children?.map(({ name: part }) => part)).toEqual(['without a symbol'])
      expect(tree.bytes).toBe(sections.reduce((sum, { bytes }) => sum + bytes, 0))
      expect(sections.map(({ name: section }) => section)).toContain('.text')
    },
  )

  it('have the smallest of very many parts together', async () => {
    const symbols = Array.from({ length: 5000 }, (_, index) => ({
      ...{ name: `camlModule${index}__entry`, at: index * 16, size: 16 },
    }))
    const { tree } = await sizesOfSections({ name: '.text', size: 80_016, symbols })
    expectSums(tree)
    const [ocaml] = tree.children ?? []
    expect(ocaml?.children).toHaveLength(400)
    expect(ocaml?.children?.[0]?.name).toBe('4601 others')
  })

  it('survive hostile symbols', async () => {
    const long = `caml${'A__'.repeat(300)}`
    const symbols = Array.from({ length: 20_000 }, (_, index) => ({
      ...{ name: index % 2 === 0 ? long : `\x01${index}`, at: index * 1e6, size: 2 ** 52 },
    }))
    const { tree } = await sizesOfSections(
      { name: '.text', size: 64, symbols },
      { name: '\x1b[31m', size: 10 },
    )
    expect(tree.bytes).toBe(74)
    expectSums(tree)
  })

  it('are by section when there are too many symbols, with the reason', async () => {
    const elf = elfWithSymbols([{ name: '.text', size: 64, symbols: [{ name: 'main', at: 0 }] }])
    // The size of the symbol table, in the row after that of .text.
    const rows = Number(elf.readBigUInt64LE(40))
    const large = Buffer.concat([elf, Buffer.alloc(24 * (SYMBOLS_MAX + 1))])
    large.writeBigUInt64LE(BigInt(24 * (SYMBOLS_MAX + 1)), rows + 2 * 64 + 32)
    const { tree, problem } = await sizesOf(large)
    expect(problem).toContain(`at most ${SYMBOLS_MAX}`)
    expect(pathsOf(tree)).toEqual([['without a symbol/.text', 64]])
  })

  it('are those of no program for other files', async () => {
    for (const text of ['', '#!/bin/sh\n', '\x7fELF']) {
      const bytes = Buffer.from(text, 'latin1')
      const read = async (start: number, end: number) => bytes.subarray(start, end + 1)
      const found = readSymbolTable(bytes.length, read)
      if (text === '\x7fELF') await expect(found).rejects.toThrow('malformed kernel')
      else expect(await found).toBeUndefined()
    }
  })
})

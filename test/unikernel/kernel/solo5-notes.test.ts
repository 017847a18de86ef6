import { describe, expect, it } from 'vitest'
import {
  ABI1,
  abi,
  type Entry,
  elf,
  MFT1,
  manifest,
  type NotePlan,
  note,
  RESERVED_FIRST,
} from './elf-writer.ts'
import { complaintAbout, factsOf } from './kernel-source.ts'

const BLOCK = { type: 1, name: 'storage' }
const NETWORK = { type: 2, name: 'service' }

const abiNote = (plan: Partial<NotePlan> = {}) =>
  note({ type: ABI1, descriptor: abi(1, 2), ...plan })
const manifestNote = (descriptor: Uint8Array = manifest([RESERVED_FIRST]), plan = {}) =>
  note({ type: MFT1, descriptor, ...plan })

const kernel = (...notes: Uint8Array[]) => elf({ parts: notes.map((bytes) => ({ bytes })) })
const withAbi = (plan: Partial<NotePlan>) => kernel(abiNote(plan), manifestNote())
const withManifest = (descriptor: Uint8Array, plan = {}) =>
  kernel(abiNote(), manifestNote(descriptor, plan))
const withEntries = (...entries: Entry[]) => withManifest(manifest([RESERVED_FIRST, ...entries]))

const many = (count: number): Entry[] =>
  Array.from({ length: count }, (_, index) => ({ type: 2, name: `net${index}` }))

describe('notes are parsed', () => {
  const ways = [['segments'], ['sections'], ['segments', 'sections']] as const
  const cases = ([32, 64] as const).flatMap((bits) =>
    (['little', 'big'] as const).flatMap((endianness) =>
      ways.map((through) => ({ bits, endianness, through })),
    ),
  )

  it.each(cases)('in a $bits-bit, $endianness-endian ELF by $through', async (shape) => {
    const { bits, endianness, through } = shape
    const parts = [
      { bytes: note({ type: 1, name: 'OpenBSD\0', descriptor: Buffer.alloc(4), endianness }) },
      { bytes: note({ type: ABI1, descriptor: abi(5, 7, endianness), endianness }) },
      {
        bytes: note({
          type: MFT1,
          descriptor: manifest([RESERVED_FIRST, NETWORK, BLOCK], { endianness }),
          endianness,
        }),
      },
    ]
    const bytes = elf({ bits, endianness, through, parts, machine: 21 })
    expect(await factsOf(bytes)).toEqual({
      bits,
      endianness,
      machine: 21,
      architecture: bits === 64 && endianness === 'little' ? 'ppc64le' : undefined,
      abi: { target: 'genode', version: 7 },
      manifest: {
        version: 1,
        devices: [
          { kind: 'net', name: 'service' },
          { kind: 'block', name: 'storage' },
        ],
      },
    })
  })

  it.each([4, 8])('when all are in one segment, padded to %i', async (align) => {
    const gnu = note({ type: 5, name: 'GNU\0', descriptor: Buffer.alloc(16) })
    const other = note({ type: 1, name: 'Xen\0', descriptor: Buffer.alloc(align) })
    const notes = [gnu, other, abiNote(), manifestNote(manifest([RESERVED_FIRST, BLOCK]))]
    const padded = notes.map((it) =>
      Buffer.concat([it, Buffer.alloc((align - (it.length % align)) % align)]),
    )
    // Solo5's descriptors begin after 20 bytes: padding follows the descriptor, not the name.
    const bytes = elf({ parts: [{ bytes: Buffer.concat(padded), align }] })
    const devices = [{ kind: 'block', name: 'storage' }]
    expect(await factsOf(bytes)).toMatchObject({ abi: { target: 'hvt' }, manifest: { devices } })
  })

  it.each([
    [62, 'x86_64'],
    [183, 'aarch64'],
    [21, 'ppc64le'],
    [243, 'riscv64'],
    [40, undefined],
    [0xffff, undefined],
  ])('of machine %i: %s', async (machine, architecture) => {
    const parts = [{ bytes: abiNote() }, { bytes: manifestNote() }]
    expect(await factsOf(elf({ machine, parts }))).toMatchObject({ machine, architecture })
  })

  it('of an executable at any address, but not of an object file or a core dump', async () => {
    const parts = [{ bytes: abiNote() }, { bytes: manifestNote() }]
    expect(await factsOf(elf({ type: 3, parts }))).toBeDefined()
    for (const type of [0, 1, 4, 0xfe00]) {
      expect(await factsOf(elf({ type, parts }))).toBeUndefined()
    }
  })

  it('of Solo5 only: other notes may have any type', async () => {
    const alien = note({ type: ABI1, name: 'GNU\0', descriptor: Buffer.alloc(4) })
    const future = note({ type: 0x32494241, descriptor: Buffer.alloc(40) })
    expect(await factsOf(kernel(alien))).toBeUndefined()
    expect(await factsOf(kernel(future))).toBeUndefined()
    expect(await factsOf(kernel())).toBeUndefined()
    expect(await factsOf(kernel(alien, abiNote(), future, manifestNote()))).toBeDefined()
  })

  it('with a device name of 67 characters, which ends at a NUL', async () => {
    const longest = 'a'.repeat(67)
    const devices = (bytes: Buffer) => factsOf(bytes).then((it) => it?.manifest.devices)
    expect(await devices(withEntries({ type: 1, name: longest }))).toEqual([
      { kind: 'block', name: longest },
    ])
    expect(await devices(withEntries({ type: 1, name: 'a\0\xff\n' }))).toEqual([
      { kind: 'block', name: 'a' },
    ])
  })

  it.each([0, 1, 62, 63])('with %i devices', async (count) => {
    const facts = await factsOf(withEntries(...many(count)))
    expect(facts?.manifest.devices.map(({ name }) => name)).toEqual(
      many(count).map((it) => it.name),
    )
  })
})

describe('a kernel is refused', () => {
  it.each([
    ['ABI1', kernel(abiNote()), 'no MFT1'],
    ['MFT1', kernel(manifestNote()), 'no ABI1'],
  ])('that has an %s note alone', async (_which, bytes, problem) => {
    expect(await complaintAbout(bytes)).toContain(problem)
  })

  it('that has two of a kind, found by any header', async () => {
    expect(await complaintAbout(kernel(abiNote(), manifestNote(), abiNote()))).toContain(
      'another ABI1',
    )
    const twice = Buffer.concat([manifestNote(), manifestNote()])
    expect(await complaintAbout(kernel(abiNote(), twice))).toContain('another MFT1')
  })

  it.each([
    ['not terminated', { name: 'Solo5X' }],
    ['without a NUL', { name: 'Solo5', nameBytes: 5 }],
    ['longer by a NUL', { name: 'Solo5\0\0' }],
    ['longer by a word', { name: 'Solo5\0more' }],
  ])('whose notes have a name that is %s', async (_how, plan) => {
    const right = 'must have 6: Solo5 and a NUL'
    expect(await complaintAbout(withAbi(plan))).toContain(right)
    expect(await complaintAbout(withManifest(manifest([RESERVED_FIRST]), plan))).toContain(right)
  })

  it.each([0x100, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff])(
    'whose note declares a name or descriptor of %i bytes',
    async (size) => {
      const end = 'must end within the'
      expect(await complaintAbout(withAbi({ nameBytes: size }))).toContain(end)
      expect(await complaintAbout(withAbi({ descriptorBytes: size }))).toContain(end)
    },
  )

  it('whose notes end in the middle of a header', async () => {
    const cut = Buffer.concat([abiNote(), Buffer.of(0, 0, 0, 1)])
    expect(await complaintAbout(kernel(cut, manifestNote()))).toContain(
      'must have 12 bytes, but 4 are left',
    )
    const padded = Buffer.concat([abiNote(), Buffer.alloc(4)])
    expect(await factsOf(kernel(padded, manifestNote()))).toBeDefined()
  })

  it.each([0, 4, 15, 17, 20, 32])('whose ABI1 note has %i bytes', async (length) => {
    const descriptor = Buffer.alloc(length)
    descriptor.set(abi(1, 2).subarray(0, length))
    expect(await complaintAbout(withAbi({ descriptor }))).toContain('must have 16')
  })

  it.each([0, 7, 0x01000000, 0xffffffff])('whose target is %i', async (target) => {
    expect(await complaintAbout(withAbi({ descriptor: abi(target, 2) }))).toContain(
      `is ${target}, but must be one of 1 (hvt), 2 (spt), 3 (virtio), 4 (muen), 5 (genode), 6 (xen)`,
    )
  })

  it.each([0, 2, 0x01000000, 0xffffffff])('whose manifest has version %i', async (version) => {
    const bytes = withManifest(manifest([RESERVED_FIRST], { version }))
    expect(await complaintAbout(bytes)).toContain(`is ${version}, but must be 1`)
  })

  it.each([0, 11, 12])('whose manifest has %i bytes', async (length) => {
    const bytes = withManifest(manifest([RESERVED_FIRST]).subarray(0, length))
    expect(await complaintAbout(bytes)).toContain(`has ${length} bytes, but must have`)
  })

  it.each([
    [0, []],
    [65, [RESERVED_FIRST, ...many(64)]],
    [100, [RESERVED_FIRST, ...many(99)]],
    [0x80000000, [RESERVED_FIRST]],
    [0xffffffff, [RESERVED_FIRST]],
  ] as const)('whose manifest has %i entries', async (entries, list) => {
    expect(await complaintAbout(withManifest(manifest(list, { entries })))).toContain(
      `is ${entries}, but must be 1 to 64`,
    )
  })

  it.each([
    [1, 2],
    [3, 2],
    [64, 2],
    [2, 64],
  ])('whose manifest declares %i entries and has room for %i', async (entries, room) => {
    const bytes = withManifest(manifest([RESERVED_FIRST, ...many(room - 1)], { entries }))
    expect(await complaintAbout(bytes)).toContain(`must have ${12 + 104 * entries}`)
  })

  it.each([
    ['a device', NETWORK],
    ['of type 0', { type: 0, name: '' }],
    ['named', { ...RESERVED_FIRST, name: 'first' }],
  ])('whose first entry is %s', async (_what, first) => {
    expect(await complaintAbout(withManifest(manifest([first, BLOCK])))).toContain('reserved one')
  })

  it.each([0, 3, 0x40000000, 0x01000000, 0xffffffff])(
    'that needs a device of type %i',
    async (type) => {
      expect(await complaintAbout(withEntries(BLOCK, { type, name: 'x' }))).toContain(
        `entry 2 is ${type}, but must be one of 1 (block), 2 (net)`,
      )
    },
  )

  it.each([
    ['not terminated', 'a'.repeat(68), 'must be 0'],
    ['empty', '', 'is empty'],
    ['a space', ' ', 'visible ASCII'],
    ['an escape', 'a\x1b[2J', 'visible ASCII'],
    ['a line', 'a\nb', 'visible ASCII'],
    ['no ASCII', 'caf\xe9', 'visible ASCII'],
  ])('whose device has a name that is %s', async (_how, name, problem) => {
    expect(await complaintAbout(withEntries({ type: 2, name }))).toContain(problem)
  })

  it.each([0, 1, 2])('whose entry %i is already attached', async (entry) => {
    const descriptor = manifest([RESERVED_FIRST, BLOCK, NETWORK])
    descriptor[12 + 104 * entry + 96] = 1
    expect(await complaintAbout(withManifest(descriptor))).toContain('only a host attaches')
  })
})

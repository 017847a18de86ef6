import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MalformedKernelError } from '../../../src/unikernel/kernel/elf-bytes.ts'
import { findSolo5Kernel } from '../../../src/unikernel/kernel/solo5.ts'
import { DEVICE_KINDS, TARGETS } from '../../../src/unikernel/kernel/solo5-notes.ts'
import { ABI1, abi, elf, MFT1, manifest, note, RESERVED_FIRST } from './elf-writer.ts'
import { factsOf, fixture, Source } from './kernel-source.ts'

const FIXTURES = ['mini-net.hvt', 'mini-blk-net2.spt', 'mini-max63.hvt', 'mini-arm.hvt', 'mini.xen']
  .map((name) => `elf/${name}`)
  .concat('builds/hello-key-1/bin/hello-key.hvt')

/**
 * Any bytes have valid properties, none, or a malformed-kernel error in one line, within the
 * limits.
 */
async function expectSound(bytes: Uint8Array, size: number = bytes.length): Promise<void> {
  const source = new Source(bytes, size)
  const facts = await findSolo5Kernel(source.size, source.read).catch((error: unknown) => {
    if (!(error instanceof MalformedKernelError)) throw error
    expect(error.message).toMatch(/^malformed kernel: at byte \d+, [\x20-\x7e]{1,280}$/)
    expect(Number.isSafeInteger(error.offset)).toBe(true)
    return undefined
  })
  if (!facts) return
  expect(TARGETS).toContain(facts.abi.target)
  expect(facts.manifest.devices.length).toBeLessThanOrEqual(63)
  for (const { kind, name } of facts.manifest.devices) {
    expect(DEVICE_KINDS).toContain(kind)
    expect(name).toMatch(/^[!-~]{1,67}$/)
  }
}

const check = <T>(arbitrary: fc.Arbitrary<T>, holds: (value: T) => Promise<void>, runs: number) =>
  fc.assert(fc.asyncProperty(arbitrary, holds), { numRuns: runs, interruptAfterTimeLimit: 20_000 })

// Numbers that overflow, wrap or are at a boundary, beside arbitrary ones.
const number = fc.oneof(
  fc.constantFrom(0n, 1n, 4n, 7n, 12n, 64n, 0x7fffffffn, 0x80000000n, 0xffffffffn),
  fc.constantFrom(2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n),
  fc.bigInt(0n, 20_000n),
)

/** Offsets where a change matters: headers, notes, the last kilobyte. */
const place = fc.oneof(
  fc.nat(63),
  fc.nat(360),
  fc.integer({ min: 0x1000, max: 0x1150 }),
  fc.integer({ min: -1024, max: -1 }),
  fc.nat(16_000),
)

const change = fc.record({ place, width: fc.constantFrom(1, 2, 4, 8), value: number })

describe('hostile bytes never break the parser:', () => {
  it('any bytes', () => check(fc.uint8Array({ maxLength: 4096 }), expectSound, 500))

  it('any bytes after a valid header', () =>
    check(
      fc.tuple(fc.nat(360), fc.uint8Array({ minLength: 400, maxLength: 4096 })),
      ([kept, bytes]) => {
        bytes.set(fixture('elf/mini-net.hvt').subarray(0, kept))
        return expectSound(bytes)
      },
      1000,
    ))

  it('changed fixtures of another size', () =>
    check(
      fc.record({
        name: fc.constantFrom(...FIXTURES),
        changes: fc.array(change, { minLength: 1, maxLength: 6 }),
        end: fc.option(fc.nat(16_000), { freq: 3, nil: undefined }),
        more: fc.constantFrom(0, 0, 2 ** 20, 2 ** 52),
      }),
      async ({ name, changes, end, more }) => {
        const bytes = fixture(name)
        for (const { place, width, value } of changes) {
          const at = (bytes.length + place) % bytes.length
          const raw = Buffer.alloc(8)
          raw.writeBigUInt64LE(value)
          bytes.set(raw.subarray(0, Math.min(width, bytes.length - at)), at)
        }
        const cut = bytes.subarray(0, end)
        await expectSound(cut, cut.length + more)
      },
      3000,
    ))

  it('headers with any values', () =>
    check(
      fc.record({
        bits: fc.constantFrom(32, 64),
        endianness: fc.constantFrom('little', 'big'),
        parts: fc.array(
          fc.record(
            {
              bytes: fc.uint8Array({ maxLength: 64 }),
              type: fc.constantFrom(4, 7, 1),
              offset: number,
              length: number,
              align: fc.constantFrom(0, 1, 4, 8, 4096),
            },
            { requiredKeys: ['bytes'] },
          ),
          { maxLength: 30 },
        ),
      }),
      async ({ parts, ...shape }) => {
        const narrow = (value: number | bigint | undefined) =>
          shape.bits === 32 && value !== undefined ? BigInt(value) & 0xffffffffn : value
        const said = parts.map(({ offset, length, ...part }) => ({
          ...part,
          ...(offset === undefined ? {} : { offset: narrow(offset) ?? 0n }),
          ...(length === undefined ? {} : { length: narrow(length) ?? 0n }),
        }))
        await expectSound(elf({ ...shape, parts: said }))
      },
      1000,
    ))
})

describe('a written kernel is parsed to the same properties:', () => {
  it('any target, version and devices, in any ELF', () =>
    check(
      fc.record({
        bits: fc.constantFrom(32, 64),
        endianness: fc.constantFrom('little', 'big'),
        machine: fc.integer({ min: 0, max: 0xffff }),
        through: fc.subarray(['segments', 'sections'] as const, { minLength: 1 }),
        target: fc.integer({ min: 1, max: 6 }),
        version: fc.integer({ min: 0, max: 0xffffffff }),
        list: fc.array(
          fc.record({
            type: fc.constantFrom(1, 2),
            name: fc.stringMatching(/^[!-~]{1,67}$/),
          }),
          { maxLength: 63 },
        ),
      }),
      async ({ bits, endianness, machine, through, target, version, list }) => {
        const abiNote = note({
          type: ABI1,
          descriptor: abi(target, version, endianness),
          endianness,
        })
        const manifestNote = note({
          type: MFT1,
          descriptor: manifest([RESERVED_FIRST, ...list], { endianness }),
          endianness,
        })
        const parts = [{ bytes: manifestNote }, { bytes: abiNote }]
        expect(await factsOf(elf({ bits, endianness, machine, through, parts }))).toMatchObject({
          bits,
          endianness,
          machine,
          abi: { target: TARGETS[target - 1], version },
          manifest: {
            devices: list.map(({ type, name }) => ({ kind: DEVICE_KINDS[type - 1], name })),
          },
        })
      },
      500,
    ))
})

import { readdirSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { findSolo5Kernel } from '../../../src/unikernel/kernel/solo5.ts'
import { factsOf, fixture, Source } from './kernel-source.ts'

const SERVICE = { kind: 'net', name: 'service' }

const X86 = { bits: 64, endianness: 'little', machine: 62, architecture: 'x86_64' }

const facts = (target: string, version: number, devices: readonly unknown[] = []) => ({
  ...X86,
  abi: { target, version },
  manifest: { version: 1, devices },
})

const KERNELS = {
  'elf/mini-none.hvt': facts('hvt', 2),
  'elf/mini-net.hvt': facts('hvt', 2, [SERVICE]),
  'elf/mini-blk-net2.spt': facts('spt', 2, [
    { kind: 'block', name: 'storage' },
    SERVICE,
    { kind: 'net', name: 'private' },
  ]),
  'elf/mini-max63.hvt': facts(
    'hvt',
    2,
    Array.from({ length: 63 }, (_, index) => ({ kind: 'block', name: `storage${index}` })),
  ),
  'elf/mini.virtio': facts('virtio', 1, [SERVICE]),
  'elf/mini.muen': facts('muen', 4),
  'elf/mini.genode': facts('genode', 1),
  'elf/mini.xen': facts('xen', 1, [SERVICE]),
  'elf/mini-arm.hvt': { ...facts('hvt', 2, [SERVICE]), machine: 183, architecture: 'aarch64' },
  'builds/hello-key-1/bin/hello-key.hvt': facts('hvt', 2),
  'builds/hello-key-1/hello-key.hvt.debug': facts('hvt', 2),
}

describe('a fixture kernel has the properties in its name:', () => {
  it.each(Object.entries(KERNELS))('%s', async (path, right) => {
    expect(await factsOf(fixture(path))).toEqual(right)
  })

  it('and every fixture is covered', () => {
    const folder = new URL('../../fixtures/elf/', import.meta.url)
    for (const name of readdirSync(folder)) expect(KERNELS).toHaveProperty([`elf/${name}`])
  })
})

describe('few bytes of a kernel are read:', () => {
  it('its beginning and its end, once each', async () => {
    const source = new Source(fixture('builds/hello-key-1/bin/hello-key.hvt'))
    await findSolo5Kernel(source.size, source.read)
    expect(source.reads).toBe(2)
    expect(source.bytesRead).toBeLessThan(20_000)
  })

  it('as few of a pebibyte', async () => {
    const source = new Source(fixture('elf/mini-max63.hvt'), 2 ** 50)
    expect(await findSolo5Kernel(source.size, source.read)).toEqual(KERNELS['elf/mini-max63.hvt'])
    expect(source.reads).toBe(1)
  })

  it('none of an empty file', async () => {
    const source = new Source(Buffer.alloc(0))
    expect(await findSolo5Kernel(source.size, source.read)).toBeUndefined()
    expect(source.reads).toBe(0)
  })
})

describe('not a Solo5 kernel:', () => {
  it.each([
    ['nothing', Buffer.alloc(0)],
    ['a byte', Buffer.from([0x7f])],
    ['text', Buffer.from('#!/bin/sh\necho Solo5\n')],
    ['zeros', Buffer.alloc(10_000)],
    ['a kernel that begins a byte later', Buffer.concat([Buffer.of(0), fixture('elf/mini.xen')])],
    ['a package list', fixture('builds/hello-key-1/system-packages')],
  ])('%s', async (_what, bytes) => {
    expect(await factsOf(bytes)).toBeUndefined()
  })

  it('an ordinary program, such as Node', async () => {
    const file = await open(process.execPath)
    const { size } = await file.stat()
    const read = async (start: number, end: number) => {
      const { buffer } = await file.read(Buffer.alloc(end - start + 1), { position: start })
      return buffer
    }
    expect(await findSolo5Kernel(size, read)).toBeUndefined()
    await file.close()
  })
})

describe('an error of the store is not a malformed kernel:', () => {
  it('the read throws', async () => {
    const gone = new Error('the disk is gone')
    const read = () => Promise.reject(gone)
    await expect(findSolo5Kernel(100, read)).rejects.toBe(gone)
  })

  it.each([-1, 1])('the read returns %i bytes more than requested', async (more) => {
    const read = async (start: number, end: number) => Buffer.alloc(end - start + 1 + more)
    await expect(findSolo5Kernel(100, read)).rejects.toMatchObject({ name: 'Error' })
  })
})

import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { eventsOf } from '../support/events.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  ask,
  expectRefusal,
  fixture,
  formOf,
  KERNEL,
  kernel,
  messageOf,
  net,
  PLAIN,
  postImage,
  pushLayers,
  UNIKERNEL,
} from './image-fixtures.ts'

/** A small ELF executable without notes, for a processor by its number. */
function elf(machine = 62): Buffer {
  const bytes = Buffer.alloc(128)
  bytes.write('\x7fELF\x02\x01\x01', 0, 'latin1')
  bytes.writeUInt16LE(2, 16)
  bytes.writeUInt16LE(machine, 18)
  bytes.writeUInt32LE(1, 20)
  bytes.writeUInt16LE(64, 52)
  return bytes
}
const MACH_O = Buffer.concat([
  Buffer.from([0xcf, 0xfa, 0xed, 0xfe, 0x0c, 0, 0, 1]),
  Buffer.alloc(120),
])
const TAR = Buffer.alloc(1024)
TAR.write('www.hvt')
TAR.write('ustar', 257)

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

/** Sends a form of hello-key-1 whose kernel has other bytes. */
function send(bytes: Buffer, name: string, values: Record<string, string> = {}, parts = {}) {
  const repository = newRepository()
  const without = { kernel: null, debug: null, 'build-hashes': null }
  const form = formOf('hello-key-1', { ...without, 'opam-switch': null, ...parts })
  form.append('kernel', new Blob([new Uint8Array(bytes)]), name)
  for (const [key, value] of Object.entries(values)) form.append(key, value)
  return { repository, answer: postImage(registry, repository, '?tag=live', form) }
}

const configuredFor = (target: string) =>
  Buffer.from(
    `opam-version: "2.0"\nroots: ["a.1"]\ninstalled: ["a.1"]\npackage "a" {\n  version: "1"\n  x-mirage-configure: ["sh" "-exc" "mirage configure ${target} --no-depext"]\n}\n`,
  )
const config = (target: string) => Buffer.from(JSON.stringify({ target, memory: 32 }))

describe('a declared unikernel without Solo5 notes is an image', () => {
  it.each([
    ['by the ending of its name', 'unikraft-firecracker', elf(), 'hello.fc', {}, {}],
    ['by another ending', 'unikraft-qemu', elf(), 'hello.qemu', {}, {}],
    ['by a field of the form', 'unix', elf(), 'hello', { target: 'unix' }, {}],
    ['by another name of its target', 'macosx', MACH_O, 'hello', { target: 'macos' }, {}],
    ['by its config', 'unix', elf(), 'hello', {}, { config: config('unix') }],
    ['by the opam switch', 'unix', elf(), 'hello', {}, { 'opam-switch': configuredFor('-t unix') }],
    [
      'by the opam switch, with a long option',
      'unikraft-qemu',
      elf(),
      'hello',
      {},
      { 'opam-switch': configuredFor('--target=unikraft-qemu') },
    ],
    ['also a raw boot image', 'unikraft-qemu', Buffer.alloc(4096, 7), 'hello.qemu', {}, {}],
  ])('%s: %s', async (_how, target, bytes, name, values, parts) => {
    const { repository, answer } = send(bytes, name, values, parts)
    expect(await (await answer).json()).toMatchObject({ digest: expect.any(String) })
    const image = await ask(registry, `repositories/${repository}/images/live`)
    expect(image).toMatchObject({
      target,
      abiVersion: null,
      devices: null,
      bits: null,
      endianness: null,
      kernel: { digest: digestOf(bytes), title: name },
      systemPackages: { manager: 'dpkg' },
      buildEnvironment: { variables: expect.any(Array) },
    })
    const { images } = await ask(registry, `repositories/${repository}/images?target=${target}`)
    expect(images).toMatchObject([{ target, abiVersion: null, devices: null }])
    const got = await registry.anonymous(
      `/api/v1/repositories/${repository}/images/live/kernel?target=${target}`,
    )
    expect(Buffer.from(await got.arrayBuffer()).equals(bytes)).toBe(true)
    const wrong = await registry.anonymous(
      `/api/v1/repositories/${repository}/images/live/kernel?target=hvt`,
    )
    expect(wrong.status).toBe(404)
    expect(await messageOf(wrong)).toContain(`${target}, no Solo5 kernel`)
  })

  it('pushed again, from a switch that was read before', async () => {
    const parts = { 'opam-switch': configuredFor('-t unix') }
    for (const machine of [62, 183]) {
      const { answer } = send(elf(machine), 'hello', {}, parts)
      expect((await answer).status).toBe(201)
    }
  })

  it('whose processor is that of its header', async () => {
    for (const [machine, architecture] of [
      [183, 'aarch64'],
      [243, 'riscv64'],
    ] as const) {
      const { repository, answer } = send(elf(machine), 'hello.fc')
      expect((await answer).status).toBe(201)
      const { images } = await ask(
        registry,
        `repositories/${repository}/images?arch=${architecture}`,
      )
      expect(images).toMatchObject([{ architecture }])
    }
  })

  it('of single requests, with a role or by the artifact type alone', async () => {
    for (const mediaType of [KERNEL, PLAIN]) {
      const repository = newRepository()
      const readme = { mediaType: PLAIN, bytes: Buffer.from('# Hello'), title: 'README.md' }
      const files = [readme, { mediaType, bytes: elf(), title: 'hello.fc' }]
      expect((await pushLayers(registry, repository, 'v1', files, UNIKERNEL)).status).toBe(201)
      const image = await ask(registry, `repositories/${repository}/images/v1`)
      expect(image).toMatchObject({ target: 'unikraft-firecracker' })
    }
  })

  it('has documents and comparisons without ABI and devices', async () => {
    const { repository, answer } = send(elf(), 'hello.fc')
    expect((await answer).status).toBe(201)
    const path = `repositories/${repository}/images`
    for (const format of ['cyclonedx', 'spdx', 'slsa']) {
      const text = JSON.stringify(await ask(registry, `${path}/live/documents/${format}`))
      expect(text).toContain('unikraft-firecracker')
      expect(text).not.toMatch(/abi-version|ABI /)
    }
    const solo5 = await postImage(registry, repository, '?tag=solo5', formOf('hello-key-1'))
    expect(solo5.status).toBe(201)
    expect(await ask(registry, `${path}/live/compare/solo5`)).toMatchObject({
      devices: null,
      kernel: { from: { abiVersion: null }, to: { abiVersion: 2 } },
    })
  })

  it('moves a tag with an event that states no ABI', async () => {
    const { repository, answer } = send(elf(), 'hello.fc')
    expect((await answer).status).toBe(201)
    const solo5 = await postImage(registry, repository, '?tag=live', formOf('hello-key-1'))
    expect(solo5.status).toBe(201)
    const events = await eventsOf(registry, repository, 4)
    const moves = events.filter(({ type }) => type === 'image.tag.updated')
    expect(moves).toMatchObject([
      { data: { unikernels: [{ abiVersion: null, devices: null, changes: null }] } },
      { data: { unikernels: [{ abiVersion: 2, changes: { kernel: true, devices: null } }] } },
    ])
  })
})

describe('bytes that are no kernel for the declared target are refused, and named', () => {
  it.each([
    [gzipSync(net), 'www.hvt', {}, /it is not an ELF .* Solo5 notes; it is compressed with gzip$/],
    [TAR, 'www.hvt', {}, /Solo5 notes; it is a tar archive$/],
    [Buffer.from('PK\x03\x04'), 'www.hvt', {}, /; it is a zip archive$/],
    [Buffer.from('!<arch>\ndebian-binary'), 'www.deb', {}, /; it is an ar archive, such as/],
    [Buffer.alloc(0), 'www.hvt', {}, /the kernel is empty/],
    [
      MACH_O,
      'www.hvt',
      {},
      /which the target hvt needs \(the ending of the file name\); it is a Mach-O executable/,
    ],
    [MACH_O, 'www', { target: 'hvt' }, /target hvt needs \(annotation .*\); it is a Mach-O exec/],
    [elf(), 'www', {}, /it is an ELF executable; .* declares its target: unikraft-firecracker/],
    [
      elf(),
      'www',
      { target: 'macosx' },
      /it is an ELF executable, which is no kernel for .*macosx/,
    ],
    [
      MACH_O,
      'www.fc',
      {},
      /it is a Mach-O executable \(macOS\), which is no kernel for the target/,
    ],
    [elf(), 'www', { target: 'hvtt' }, /target must be one of hvt, spt/],
  ])('case %#', async (bytes, name, values, message) => {
    await expectRefusal(await send(bytes, name, values).answer, message)
  })

  it.each([
    ['www.fc', { target: 'unikraft-qemu' }, {}, /the ending of the file name says unikraft-fire/],
    [
      'www',
      { target: 'unix' },
      { config: config('qemu') },
      /config.target says unikraft-qemu, but/,
    ],
    [
      'www',
      { target: 'unix' },
      { 'opam-switch': configuredFor('-t hvt') },
      /x-mirage-configure of the opam switch says hvt, but annotation .* says unix/,
    ],
  ])(
    'and so are declarations that contradict each other: %s %j',
    async (name, values, parts, message) => {
      await expectRefusal(await send(elf(), name, values, parts).answer, message)
    },
  )

  it.each([
    [{ 'vnd.unikernel.abi': '2' }, /says 2, but the image has none/],
    [{ 'vnd.unikernel.devices': 'net:service' }, /known of Solo5 kernels alone/],
    [{ 'vnd.unikernel.architecture': 'arm64' }, /says aarch64, but the image has x86_64/],
    [{ 'vnd.unikernel.target': 'wasm' }, /must be one of hvt, .*, unikraft-firecracker/],
  ])('and so are claims that nothing shows: %j', async (annotations, message) => {
    const title = 'vnd.unikernel.target' in annotations ? 'hello' : 'hello.fc'
    const files = [{ mediaType: KERNEL, bytes: elf(), title }]
    const more = { ...UNIKERNEL, annotations }
    await expectRefusal(await pushLayers(registry, newRepository(), 'v1', files, more), message)
  })

  it('in single requests as well', async () => {
    const files = [kernel(gzipSync(net), 'www.hvt')]
    const answer = await pushLayers(registry, newRepository(), 'v1', files, UNIKERNEL)
    await expectRefusal(answer, /layer www.hvt is not a kernel: .*it is compressed with gzip$/)
  })
})

it('a layer without notes that declares nothing is no image', async () => {
  const repository = newRepository()
  const files = [{ mediaType: PLAIN, bytes: elf(), title: 'hello.fc' }]
  expect((await pushLayers(registry, repository, 'v1', files)).status).toBe(201)
  await ask(registry, `repositories/${repository}/images/v1`, 404)
})

it('a Solo5 kernel is known by its notes, also when its name ends with another target', async () => {
  const { repository, answer } = send(fixture('elf/mini.xen'), 'hello.fc')
  expect((await answer).status).toBe(201)
  const image = await ask(registry, `repositories/${repository}/images/live`)
  expect(image).toMatchObject({ target: 'xen', devices: expect.any(Array) })
})

it('a list of RPM packages is kept with its problem, and no package of it is found', async () => {
  const list = Buffer.from('bash-5.2.26-1.fc39.x86_64\nzlib-1.2.13-4.fc39.x86_64\n')
  const { repository, answer } = send(net, 'www.hvt', {}, { 'system-packages': list })
  expect((await answer).status).toBe(201)
  const image = await ask(registry, `repositories/${repository}/images/live`)
  expect(image.systemPackages).toBeNull()
  const layer = image.layers.find(({ role }: { role: string }) => role === 'system-packages')
  expect(layer.problem).toMatch(/^the list is of RPM; lists of Debian/)
  for (const name of ['bash-5.2.26', 'zlib-1.2.13', 'bash']) {
    const { images } = await ask(registry, `packages/freebsd/${name}`)
    expect(images).toEqual([])
  }
})

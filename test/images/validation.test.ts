import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { newRepository, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  ask,
  EMPTY,
  expectRefusal,
  type FileRole,
  fixture,
  fixtureOf,
  formOf,
  KERNEL,
  kernel,
  type LayerFile,
  messageOf,
  net,
  PLAIN,
  postImage,
  pushLayers,
  UNIKERNEL,
} from './image-fixtures.ts'

const CONFIG = 'application/vnd.unikernel.config.v1+json'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

const layer = (role: FileRole, bytes = fixtureOf('hello-key-1', role), title?: string) => ({
  mediaType: `application/vnd.unikernel.${role}.v1`,
  bytes,
  title,
})

const push = (files: LayerFile[], more: Record<string, unknown> = {}, repository?: string) =>
  pushLayers(registry, repository ?? newRepository(), 'v1', files, more)

const RIGHT = `sha256=${digestOf(net).slice(7)}`
const WRONG = `sha256=${'0'.repeat(64)}`
const hashes = (files: Record<string, string>) => {
  const added = Object.entries(files).map(([path, hash]) => `"${path}" {"F:${hash}"}`)
  return Buffer.from(`opam-version: "2.0"\nadded: [${added.join('\n')}]\n`)
}

describe('a claim about the kernel', () => {
  const claim = (name: string, value: string) => ({
    annotations: { [`vnd.unikernel.${name}`]: value },
  })
  const right: [string, string][] = [
    ['target', 'hvt'],
    ['abi', '2'],
    ['architecture', 'x86_64'],
    ['architecture', 'amd64'],
    ['devices', 'net:service'],
    ['kernel.digest', digestOf(net)],
  ]
  it.each(right)('%s %s is accepted when it is true', async (name, value) => {
    expect((await push([kernel()], { ...UNIKERNEL, ...claim(name, value) })).status).toBe(201)
    // Also without a declared role: a claim must be true.
    const plain = { mediaType: PLAIN, bytes: net, title: 'mini-net.hvt' }
    expect((await push([plain], claim(name, value))).status).toBe(201)
  })

  const wrong: [string, string, RegExp][] = [
    ['target', 'spt', /vnd\.unikernel\.target says spt, but the image has hvt/],
    ['target', 'HVT', /says HVT, but the image has hvt/],
    ['abi', '1', /vnd\.unikernel\.abi says 1, but the image has 2/],
    ['architecture', 'arm64', /says arm64, but|says aarch64, but the image has x86_64/],
    ['devices', '', /says none, but the kernel has net:service/],
    [
      'devices',
      'net:service,block:storage',
      /says block:storage, net:service, but the kernel has net:service/,
    ],
    ['kernel.digest', digestOf('x'), /says sha256:2d7.*, but the image has sha256:/],
    ['input-id', '0'.repeat(64), /input-id says 000.*, but the image has none/],
  ]
  it.each(wrong)('%s "%s" is refused with both sides', async (name, value, message) => {
    await expectRefusal(await push([kernel()], { ...UNIKERNEL, ...claim(name, value) }), message)
    const plain = { mediaType: PLAIN, bytes: net, title: 'mini-net.hvt' }
    await expectRefusal(await push([plain], claim(name, value)), message)
  })

  it('of an input id must match the inputs', async () => {
    const files = [
      kernel(),
      ...(['opam-switch', 'system-packages', 'build-environment'] as const).map((role) =>
        layer(role),
      ),
    ]
    const id = 'd9f3ed4f3b71237666fc6b1285d9fed7d7a2eead9df0e78262ab32ff1e4f0474'
    expect((await push(files, claim('input-id', id))).status).toBe(201)
    await expectRefusal(
      await push(files, claim('input-id', id.replace('d9', 'd8'))),
      /input-id says d8f3.*, but the image has d9f3/,
    )
  })
})

describe('a config', () => {
  const withConfig = async (config: unknown) => {
    const repository = newRepository()
    const bytes = Buffer.from(typeof config === 'string' ? config : JSON.stringify(config))
    const answer = await postImage(
      registry,
      repository,
      '?tag=v1',
      formOf('hello-key-1', { config: bytes }),
    )
    return { answer, repository }
  }
  it('is accepted when it is true, with unknown fields', async () => {
    const config = {
      name: 'hello',
      target: 'hvt',
      abi: { target: 'hvt', version: 2 },
      architecture: 'amd64',
      devices: [],
      memory: 32,
      argv: ['-l', '*:debug'],
      created: '2026-05-20T18:07:42+02:00',
      more: { of: 'it' },
    }
    const { answer, repository } = await withConfig(config)
    expect(answer.status).toBe(201)
    const image = await ask(registry, `repositories/${repository}/images/v1`)
    const { more: _more, ...facts } = config
    expect(image.config).toEqual(facts)
  })
  it.each([
    [{ target: 'spt' }, /config\.target says spt, but the image has hvt/],
    [{ abi: { version: 3 } }, /config\.abi\.version says 3, but the image has 2/],
    [{ abi: { target: 'xen' } }, /config\.abi\.target says xen, but/],
    [{ architecture: 'riscv64' }, /config\.architecture says riscv64, but the image has x86_64/],
    [{ devices: [{ name: 'x', kind: 'block' }] }, /says block:x, but the kernel has none/],
    [{ target: 'kvm' }, /config\.target must be one of hvt, spt, .*, not "kvm"/],
    [
      { devices: [{ name: 'x', kind: 'usb' }] },
      /config\.devices\[0\]\.kind must be one of block, net/,
    ],
    [{ devices: 'net' }, /config\.devices must be a list of at most 63/],
    [{ memory: -1 }, /config\.memory must be a whole number, not -1/],
    [{ memory: 1.5 }, /config\.memory must be a whole number/],
    [{ argv: 'x' }, /config\.argv must be a list/],
    [{ created: 'now' }, /config\.created must be a time such as/],
    [{ name: 'a\0b' }, /config\.name must be text .* without NUL/],
    ['{', /config must be JSON in UTF-8/],
    ['[]', /config must be a JSON object/],
    [`"${'x'.repeat(70_000)}"`, /it has 70002 bytes; at most 65536 are read/],
  ])('%j is refused', async (config, message) => {
    await expectRefusal((await withConfig(config)).answer, message)
  })
})

describe('a declared unikernel', () => {
  it.each([
    [
      'with two kernels',
      [kernel(), kernel(fixture('elf/mini.xen'))],
      /must have at most one kernel/,
    ],
    [
      'with two switches',
      [kernel(), layer('opam-switch'), layer('opam-switch', Buffer.from('opam-version: "2.0"'))],
      /at most one opam-switch/,
    ],
    [
      'whose kernel is text',
      [kernel(Buffer.from('a kernel'))],
      /mini-net\.hvt is not a kernel: it is not an ELF/,
    ],
    ['whose kernel is empty', [kernel(Buffer.alloc(0))], /is not a kernel: it is not an ELF/],
    [
      'whose kernel is cut off',
      [kernel(net.subarray(0, 200))],
      /is not a kernel: malformed kernel: at byte \d+/,
    ],
    [
      'whose twin is of another target',
      [kernel(), layer('debug', fixture('elf/mini.xen'))],
      /debug twin: target says xen, but the image has hvt/,
    ],
    [
      'whose twin has other devices',
      [kernel(), layer('debug', fixture('elf/mini-none.hvt'))],
      /debug twin: devices says none, but/,
    ],
    [
      'whose build hashes have another hash for the installed file',
      [
        kernel(),
        layer('build-hashes', hashes({ 'a/mini-net.hvt': RIGHT, 'bin/mini-net.hvt': WRONG })),
      ],
      /build-hashes says that the sha256 of the kernel is 0{64}, but it is/,
    ],
    [
      'whose build hashes are of another file',
      [kernel(net, 'hello-key.hvt'), layer('build-hashes')],
      /build-hashes says that the md5 of the kernel is 9b2b9d51.*, but it is/,
    ],
  ])('%s is refused', async (_what, files, message) => {
    await expectRefusal(await push(files, UNIKERNEL), message)
  })

  it.each([
    ['is installed', { 'a/mini-net.hvt': WRONG, 'bin/mini-net.hvt': RIGHT }],
    ['is not known', { 'a/mini-net.hvt': WRONG, 'b/mini-net.hvt': RIGHT }],
  ])(
    'with build hashes of several files of its name is taken when one %s',
    async (_what, files) => {
      expect((await push([kernel(), layer('build-hashes', hashes(files))], UNIKERNEL)).status).toBe(
        201,
      )
    },
  )

  it.each([
    ['artifact type', UNIKERNEL, []],
    ['config', { config: { ...EMPTY, mediaType: CONFIG } }, []],
  ])('by its %s alone must have a kernel', async (_what, more, files) => {
    await expectRefusal(await push(files, more), /layers must have a kernel/)
    const text = { mediaType: PLAIN, bytes: Buffer.from('text'), title: 'notes.txt' }
    await expectRefusal(await push([text], more), /layers must have a kernel/)
    const plain = { mediaType: PLAIN, bytes: net, title: 'mini-net.hvt' }
    expect((await push([plain], more)).status).toBe(201)
  })

  it('with a missing blob is refused for the blob', async () => {
    const repository = newRepository()
    const image = {
      schemaVersion: 2,
      ...UNIKERNEL,
      config: EMPTY,
      layers: [{ mediaType: KERNEL, digest: digestOf('nobody pushed it'), size: 16 }],
    }
    const answer = await putManifest(registry, repository, 'v1', image)
    expect(await messageOf(answer)).toMatch(/^MANIFEST_BLOB_UNKNOWN/)
  })
})

describe('a malformed layer is stored, and listed with its problem', () => {
  it.each([
    ['opam-switch', 'opam-version: "2.0', /malformed opam file: line 1, column 15/],
    ['opam-switch', '\0\xff\xfe', /malformed opam file/],
    ['build-hashes', 'added: [', /malformed opam file/],
  ] as [FileRole, string, RegExp][])('%s: %j', async (role, text, problem) => {
    const repository = newRepository()
    const bytes = Buffer.from(text, 'latin1')
    expect((await push([kernel(), layer(role, bytes)], UNIKERNEL, repository)).status).toBe(201)
    const { layers } = await ask(registry, `repositories/${repository}/images/v1`)
    expect(layers[1]).toMatchObject({ role, problem: expect.stringMatching(problem) })
    const blob = await registry.request(`/v2/${repository}/blobs/${digestOf(bytes)}`)
    expect(Buffer.from(await blob.arrayBuffer()).equals(bytes)).toBe(true)
  })

  it('a debug twin without notes, and layers without a role', async () => {
    const repository = newRepository()
    const files = [
      kernel(),
      layer('debug', Buffer.from('stripped')),
      { mediaType: 'text/plain', bytes: Buffer.from('read me'), title: 'docs/NOTES.md' },
    ]
    expect((await push(files, UNIKERNEL, repository)).status).toBe(201)
    const { layers } = await ask(registry, `repositories/${repository}/images/v1`)
    expect(layers[1]).toMatchObject({ role: 'debug', problem: 'it has no Solo5 notes' })
    expect(layers[2]).toMatchObject({
      role: null,
      problem: expect.stringMatching(/^NOTES\.md is none/),
    })
  })

  it('a malformed ELF without a role', async () => {
    const repository = newRepository()
    const cut = { mediaType: PLAIN, bytes: net.subarray(0, 200), title: 'core.1234' }
    expect((await push([cut], {}, repository)).status).toBe(201)
    await ask(registry, `repositories/${repository}/images/v1`, 404)
  })
})

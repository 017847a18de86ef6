import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type LayerEntry, layerOf, link, pushContainer } from '../support/container-images.ts'
import { digestOf } from '../support/digest.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { fixture, messageOf } from './image-fixtures.ts'

const HVT = fixture('builds/hello-key-1/bin/hello-key.hvt')
const OTHER = fixture('builds/hello-key-4-same-input-different-output/bin/hello-key.hvt')

let registry: TestRegistry
let folder: string

beforeAll(async () => {
  registry = await startRegistry()
  folder = await mkdtemp(join(tmpdir(), 'rookery-layers-'))
})
afterAll(async () => {
  await registry.close()
  await rm(folder, { recursive: true, force: true })
})

/** Pushes a container image, and returns the digest of its kernel; without a kernel, the reason. */
async function kernelOf(layers: readonly Buffer[], options = {}): Promise<string> {
  const name = newRepository()
  const pushed = await pushContainer(registry, name, 'live', layers, options)
  expect({ status: pushed.status, text: await pushed.text() }).toMatchObject({ status: 201 })
  const answer = await registry.request(`/api/v1/repositories/${name}/images/live/kernel`)
  if (answer.status !== 200) return messageOf(answer)
  return digestOf(Buffer.from(await answer.arrayBuffer()))
}

describe('a symbolic link with the name of a kernel', () => {
  const KERNEL: LayerEntry = ['build/dist/x.hvt', HVT]
  it.each<[string, LayerEntry[][]]>([
    ['to an absolute path', [[KERNEL, link('unikernel.hvt', '/build/dist/x.hvt')]]],
    ['to a relative path', [[KERNEL, link('unikernel.hvt', 'build/dist/x.hvt')]]],
    ['before its target', [[link('unikernel.hvt', './build//dist/x.hvt'), KERNEL]]],
    ['above its target', [[KERNEL], [link('unikernel.hvt', '/build/dist/x.hvt')]]],
    ['below its target', [[link('unikernel.hvt', '/build/dist/x.hvt')], [KERNEL]]],
    [
      'of a chain over layers',
      [
        [KERNEL],
        [link('build/latest', 'dist'), link('srv', 'build')],
        [link('unikernel.hvt', 'srv/www'), link('build/www', '/srv/latest/../latest/x.hvt')],
      ],
    ],
    ['that would leave the root', [[KERNEL, link('unikernel.hvt', '../../../build/dist/x.hvt')]]],
    [
      'that a later layer replaces',
      [
        [KERNEL, ['old.bin', OTHER], link('unikernel.hvt', 'old.bin')],
        [link('unikernel.hvt', 'build/dist/x.hvt')],
      ],
    ],
    [
      'whose target a later layer replaces',
      [[['build/dist/x.hvt', OTHER], link('unikernel.hvt', 'build/dist/x.hvt')], [KERNEL]],
    ],
  ])('%s is the kernel to which it leads', async (_title, layers) => {
    // Without the link, this one would be the kernel.
    const first: LayerEntry[] = [['other.hvt', OTHER]]
    const made = [await layerOf(...first)]
    for (const entries of layers) made.push(await layerOf(...entries))
    expect(await kernelOf(made)).toBe(digestOf(HVT))
  })

  it.each<[string, LayerEntry[][], RegExp]>([
    [
      'a loop',
      [[link('unikernel.hvt', 'b'), link('b', 'unikernel.hvt')]],
      /\/unikernel.hvt is a sym/,
    ],
    ['itself', [[link('unikernel.hvt', 'unikernel.hvt')]], /leads to no kernel/],
    [
      'a folder',
      [[['b/', { type: 'directory' }], link('unikernel.hvt', 'b')]],
      /leads to no kernel/,
    ],
    ['a file of the server', [[link('unikernel.hvt', '../../etc/passwd')]], /leads to no kernel/],
    ['nothing', [[link('unikernel.hvt', '')]], /no Solo5 kernel|leads to no kernel/],
    [
      'a kernel that a later layer removes',
      [[KERNEL, link('unikernel.hvt', 'build/dist/x.hvt')], [['build/.wh.dist', '']]],
      /leads to no kernel/,
    ],
    [
      'a folder that a later layer empties',
      [
        [KERNEL, link('b', 'build/dist'), link('unikernel.hvt', 'b/x.hvt')],
        [['build/dist/.wh..wh..opq', '']],
      ],
      /leads to no kernel/,
    ],
  ])('that leads to %s is said to lead to no kernel', async (_title, layers, reason) => {
    const made = []
    for (const entries of layers) made.push(await layerOf(...entries))
    expect(await kernelOf(made)).toMatch(reason)
  })

  it('that a later layer removes or replaces is none', async () => {
    const lower = await layerOf(KERNEL, ['y.hvt', OTHER], link('unikernel.hvt', 'build/dist/x.hvt'))
    for (const upper of [
      [['.wh.unikernel.hvt', '']],
      [['unikernel.hvt', 'a text']],
      [['unikernel.hvt/', { type: 'directory' }]],
    ] as LayerEntry[][]) {
      expect(await kernelOf([lower, await layerOf(...upper)])).toBe(digestOf(OTHER))
    }
  })

  it('on the way to the file that a label names is followed', async () => {
    const layers = [
      await layerOf(KERNEL, ['a.hvt', OTHER]),
      await layerOf(link('app', 'build/dist')),
    ]
    const labels = { 'com.urunc.unikernel.binary': '/app/x.hvt' }
    expect(await kernelOf(layers, { labels })).toBe(digestOf(HVT))
  })

  it('ends after 40 links', async () => {
    const chain = (length: number) =>
      Array.from({ length }, (_, n) => link(n === 0 ? 'unikernel.hvt' : `l${n}`, `l${n + 1}`))
    const ends = (length: number): LayerEntry => [`l${length}`, HVT]
    expect(await kernelOf([await layerOf(...chain(40), ends(40))])).toBe(digestOf(HVT))
    const name = await kernelOf([await layerOf(...chain(41), ends(41), ['z.hvt', OTHER])])
    expect(name).toBe(digestOf(OTHER))
  })
})

describe('a layer that tar makes', () => {
  it.each([
    ['gnu', 'build/dist/x.hvt'],
    ['pax', '/build/dist/x.hvt'],
    ['ustar', './build/../build/dist/x.hvt'],
  ])('of the format %s has its links', async (format, target) => {
    const root = join(folder, format)
    await mkdir(join(root, 'build/dist'), { recursive: true })
    await writeFile(join(root, 'build/dist/x.hvt'), HVT)
    await writeFile(join(root, 'a.hvt'), OTHER)
    await symlink(target, join(root, 'unikernel.hvt'))
    const layer = execFileSync('tar', [`--format=${format}`, '-cz', '-C', root, '.'], {
      maxBuffer: 64 * 2 ** 20,
    })
    expect(await kernelOf([layer])).toBe(digestOf(HVT))
  })
})

import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { layerOf, link, pushContainer, tarOf } from '../support/container-images.ts'
import { digestOf } from '../support/digest.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { fixture, messageOf } from './image-fixtures.ts'

const HVT = fixture('builds/hello-key-1/bin/hello-key.hvt')

let registry: TestRegistry
beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

/** Returns the digest of the kernel of a container image, once its layers are read; without a kernel, the reason. */
async function kernelOf(layers: readonly Buffer[], options = {}): Promise<string> {
  const name = newRepository()
  const pushed = await pushContainer(registry, name, 'live', layers, options)
  expect({ status: pushed.status, text: await pushed.text() }).toMatchObject({ status: 201 })
  let found = ''
  await expect
    .poll(
      async () => {
        const answer = await registry.request(`/api/v1/repositories/${name}/images/live/kernel`)
        found =
          answer.status === 200
            ? digestOf(Buffer.from(await answer.arrayBuffer()))
            : await messageOf(answer)
        return found
      },
      { timeout: 60_000 },
    )
    .not.toContain('are still read')
  return found
}

describe('a large layer', () => {
  /** Makes the blocks of empty files. tar-stream takes minutes for so many. */
  async function manyFiles(count: number): Promise<Buffer> {
    const header = (await tarOf([['usr/share/doc/000000', '']])).subarray(0, 512)
    const blocks = Buffer.alloc(count * 512)
    const digits = 'usr/share/doc/'.length
    for (let n = 0; n < count; n += 1) {
      const block = blocks.subarray(n * 512, (n + 1) * 512)
      header.copy(block)
      block.write(String(n).padStart(6, '0'), digits)
      block.fill(' ', 148, 156)
      const sum = block.reduce((total, byte) => total + byte, 0)
      block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
    }
    return blocks
  }

  it('of 200 000 entries has the kernel that is its last', async () => {
    const layer = Buffer.concat([await manyFiles(200_000), await tarOf([['unikernel.hvt', HVT]])])
    expect(await kernelOf([gzipSync(layer)])).toBe(digestOf(HVT))
  }, 120_000)

  it('with thousands of links before it has the link that is its last', async () => {
    const links = Array.from({ length: 5_000 }, (_, n) => link(`etc/alternatives/l${n}`, '/bin/x'))
    const layer = await layerOf(...links, ['x/k.bin', HVT], link('unikernel.hvt', 'x/k.bin'))
    expect(await kernelOf([layer])).toBe(digestOf(HVT))
    const hidden = await layerOf(...links, ['x/k.bin', HVT], link('y', 'x'))
    const labels = { 'com.urunc.unikernel.binary': 'y/k.bin' }
    // The link is not known; the kernel is found at its own path.
    expect(await kernelOf([hidden], { labels })).toBe(digestOf(HVT))
    const lost = await layerOf(...links, link('y', 'x'), link('unikernel.hvt', 'y/k.bin'))
    expect(await kernelOf([lost])).toMatch(/leads to no kernel/)
  }, 60_000)
})

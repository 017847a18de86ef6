import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { withSize } from '../archives/tar-fixtures.ts'
import { pushContainer, tarOf } from '../support/container-images.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { ask, fixture, messageOf } from './image-fixtures.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

it('a layer that cannot be read is stored, and the reason is said', async () => {
  const kernel = await tarOf([['unikernel.hvt', fixture('builds/hello-key-1/bin/hello-key.hvt')]])
  const cases: [Buffer, string][] = [
    [Buffer.from('no tar at all, '.repeat(100)), 'is no tar file'],
    [withSize(await tarOf([['a', 'x']]), '\xe3'), 'the size of an entry is no number'],
    [gzipSync(kernel).subarray(0, 5000), 'is damaged'],
    [gzipSync(Buffer.alloc(64 * 1024 * 1024)), 'more than 200 times its size'],
  ]
  if (Number(process.versions.node.split('.')[0]) < 22) {
    cases.push([Buffer.from('28b52ffd20010d0000', 'hex'), 'is compressed with zstd'])
  }
  for (const [layer, problem] of cases) {
    const name = newRepository()
    await pushContainer(registry, name, 'live', [layer])
    const answer = await registry.request(`/api/v1/repositories/${name}/images/live/kernel`)
    expect(answer.status).toBe(404)
    expect(await messageOf(answer)).toContain(problem)
    // Another layer has a kernel: the image of the kernel says what was not read.
    const beside = newRepository()
    await pushContainer(registry, beside, 'live', [kernel, layer])
    const image = await ask(registry, `repositories/${beside}/images/live`)
    expect(image.containerProblem).toContain(problem)
  }
})

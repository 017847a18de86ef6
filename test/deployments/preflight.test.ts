import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { listImageKernels } from '../../src/db/deployments/kernels.ts'
import {
  type ImageKernels,
  type KernelFacts,
  type KernelNeeds,
  preflight,
} from '../../src/deployments/preflight.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { fixture, pushBuild } from '../images/image-fixtures.ts'
import { layerOf, pushContainer } from '../support/container-images.ts'
import { digestOf } from '../support/digest.ts'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import { newRepository, pushImage, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const x86 = { architecture: 'x86_64' }
const hvt = kernel('hvt', { devices: ['net:service'] })
const spt = kernel('spt', { abi: 1 })
const arm = kernel('hvt', { architecture: 'aarch64' })
const unix = kernel('unix', { abi: null, architecture: null, devices: null })

const anything: KernelNeeds = { target: null, devices: null, tenders: [] }
const hvt2 = { target: 'hvt', abi: 2, ...x86 }

function kernel(target: string, more: Partial<KernelFacts> = {}): KernelFacts {
  const name = `${target}-${JSON.stringify(more)}`
  const digest = digestOf(name) as Digest
  return { kernel: digest, size: 1, target, abi: 2, ...x86, devices: [], ...more }
}

function image(...kernels: KernelFacts[]): ImageKernels {
  return { kernels, isPending: false, problem: null }
}

describe('the kernel for a host', () => {
  it.each<[string, ImageKernels, Partial<KernelNeeds>, KernelFacts]>([
    ['the only one, for a host that says nothing of itself', image(hvt), {}, hvt],
    ['the one for the target of the unit file', image(hvt, spt), { target: 'spt' }, spt],
    ['the one for the tender of the host', image(hvt, spt), { tenders: [hvt2] }, hvt],
    [
      'the one for the tender that the host names first',
      image(hvt, spt),
      { tenders: [{ target: 'spt', abi: 1, ...x86 }, hvt2] },
      spt,
    ],
    [
      'the one for the processor of the host',
      image(hvt, arm),
      { tenders: [{ ...hvt2, architecture: 'aarch64' }] },
      arm,
    ],
    [
      'the one whose devices are given, when another needs more',
      image(hvt, kernel('hvt')),
      { tenders: [hvt2], devices: [] },
      kernel('hvt'),
    ],
    ['one that uses fewer devices than are given', image(spt), { devices: ['net:service'] }, spt],
    [
      'one without notes, of which neither ABI nor devices are known',
      image(unix),
      { tenders: [{ target: 'unix', abi: 7, ...x86 }], devices: [] },
      unix,
    ],
    [
      'one for a tender whose version is not known',
      image(hvt),
      { tenders: [{ target: 'hvt', abi: null, architecture: null }] },
      hvt,
    ],
    ['the same kernel of two manifests of an index', image(hvt, hvt), {}, hvt],
  ])('is %s', (_, found, needs, expected) => {
    expect(preflight(found, { ...anything, ...needs })).toEqual({ kernel: expected })
  })

  it.each<[string, ImageKernels, Partial<KernelNeeds>, string, string]>([
    ['an image without kernels', image(), {}, 'no-kernel', 'no kernel'],
    [
      'a container image without kernels',
      { ...image(), problem: 'it has no Solo5 kernel' },
      {},
      'no-kernel',
      'it has no Solo5 kernel',
    ],
    [
      'a container image that is still read',
      { ...image(), isPending: true },
      {},
      'pending',
      'still read',
    ],
    ['another target than the unit names', image(hvt), { target: 'xen' }, 'target', 'hvt (x86_64)'],
    [
      'a target without a tender',
      image(hvt),
      { tenders: [{ target: 'xen', abi: 1, ...x86 }] },
      'target',
      'the host runs xen',
    ],
    [
      'another processor',
      image(hvt),
      { tenders: [{ ...hvt2, architecture: 'aarch64' }] },
      'architecture',
      'the host is aarch64',
    ],
    ['an older tender', image(hvt), { tenders: [{ ...hvt2, abi: 1 }] }, 'abi', 'hvt ABI 1'],
    ['a newer tender', image(spt), { tenders: [{ ...hvt2, target: 'spt' }] }, 'abi', 'spt ABI 2'],
    [
      'a device that is not given',
      image(hvt),
      { devices: ['block:data'] },
      'devices',
      'net:service',
    ],
    ['several kernels for a host that prefers none', image(hvt, spt), {}, 'ambiguous', 'unit file'],
  ])('is refused for %s', (_, found, needs, reason, word) => {
    const result = preflight(found, { ...anything, ...needs })
    expect(result).toMatchObject({ kernel: null, reason })
    expect(result).toMatchObject({ message: expect.stringContaining(word) })
  })
})

describe('the kernels of a pushed', () => {
  const HVT = fixture('builds/hello-key-1/bin/hello-key.hvt')
  let registry: TestRegistry
  let db: Database

  beforeAll(async () => {
    registry = await startRegistry()
    db = new Database({
      connection: registry.databaseUrl,
      connectionsMax: 1,
      onIdleError: () => {},
    })
  })
  afterAll(async () => {
    await db.close()
    await registry.close()
  })

  it('image, index and container image are found', async () => {
    const repository = newRepository()
    const build = await pushBuild(registry, repository, 'live')
    const other = await pushBuild(registry, repository, 'other', 'hello-key-2')
    const manifests = await Promise.all(
      [build, other].map(async (digest) => {
        const answer = await registry.request(`/v2/${repository}/manifests/${digest}`)
        return { mediaType: IMAGE_MANIFEST, digest, size: (await answer.arrayBuffer()).byteLength }
      }),
    )
    const index = { schemaVersion: 2, mediaType: IMAGE_INDEX, manifests }
    const pushed = await putManifest(registry, repository, 'all', index)
    expect({ status: pushed.status, text: await pushed.text() }).toMatchObject({ status: 201 })
    const container = await pushContainer(registry, repository, 'docker', [
      await layerOf(['unikernel.hvt', HVT]),
    ])
    const plain = await pushImage(registry, repository, 'plain')
    const digests = {
      build,
      index: pushed.headers.get('docker-content-digest') ?? '',
      container: container.headers.get('docker-content-digest') ?? '',
      plain: plain.digest,
      missing: digestOf('nothing'),
    }
    const rows = await listImageKernels(
      db,
      Object.values(digests).map((digest) => ({ repository, digest })),
    )
    const found = Object.fromEntries(
      Object.entries(digests).map(([name, digest]) => [
        name,
        rows.find((row) => row.digest === digest)?.kernels.map((one) => one.kernel),
      ]),
    )
    const kernelOf = digestOf(HVT)
    expect(found).toMatchObject({ build: [kernelOf], container: [kernelOf], plain: [] })
    expect(found.index).toHaveLength(2)
    expect(found.missing).toBeUndefined()
    expect(rows.find((row) => row.digest === build)).toMatchObject({
      isPending: false,
      kernels: [{ size: HVT.length, target: 'hvt', abi: 2, architecture: 'x86_64', devices: [] }],
    })
  })
})

import { randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openSweeper } from '../garbage/sweeper.ts'
import {
  containerManifest,
  DOCKER_LAYER,
  type LayerEntry,
  layerOf,
  OCI_LAYER,
  pushContainer,
  tarOf,
} from '../support/container-images.ts'
import { digestOf } from '../support/digest.ts'
import { newRepository, pushBlob, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { ask, fixture, messageOf } from './image-fixtures.ts'

const HVT = fixture('builds/hello-key-1/bin/hello-key.hvt')
const OTHER = fixture('builds/hello-key-4-same-input-different-output/bin/hello-key.hvt')
const SPT = fixture('elf/mini-blk-net2.spt')

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

const BASE: LayerEntry[] = [
  ['etc/', { type: 'directory' }],
  ['etc/passwd', 'root:x:0:0'],
  ['bin/sh', Buffer.concat([Buffer.from('\x7fELF'), Buffer.alloc(4000, 7)])],
]

/** Fetches the kernel of a tag as a host does. */
async function fetchKernel(repository: string, reference = 'live', query = '') {
  return registry.request(`/api/v1/repositories/${repository}/images/${reference}/kernel${query}`)
}

async function expectKernel(repository: string, bytes: Buffer, query = ''): Promise<void> {
  const answer = await fetchKernel(repository, 'live', query)
  expect(answer.status).toBe(200)
  expect(digestOf(Buffer.from(await answer.arrayBuffer()))).toBe(digestOf(bytes))
}

async function push(repository: string, layers: Buffer[], options = {}): Promise<void> {
  const answer = await pushContainer(registry, repository, 'live', layers, options)
  expect({ status: answer.status, text: await answer.text() }).toMatchObject({ status: 201 })
}

it.each([
  ['docker', { kind: 'docker' }],
  ['oci', { kind: 'oci' }],
] as const)(
  'the kernel in the last layer of an image of %s is fetched after the push',
  async (_, options) => {
    const name = newRepository()
    await push(name, [await layerOf(...BASE), await layerOf(['unikernel.hvt', HVT])], options)
    await expectKernel(name, HVT)
    const [image] = (await ask(registry, `repositories/${name}/images`)).images
    const pushed = await registry.request(`/v2/${name}/manifests/live`)
    expect(image).toMatchObject({
      tags: ['live'],
      container: pushed.headers.get('docker-content-digest'),
      kernel: { digest: digestOf(HVT), title: 'unikernel.hvt' },
      target: 'hvt',
      builder: 'admin',
    })
  },
)

it('a layer that is no gzip, and one of several gzip members, are read', async () => {
  const plain = newRepository()
  await push(plain, [await tarOf([['unikernel.hvt', HVT]])], { kind: 'oci', layerType: OCI_LAYER })
  await expectKernel(plain, HVT)
  const members = newRepository()
  const tar = await tarOf([['./unikernel.hvt', HVT]])
  const parts = [tar.subarray(0, 100), tar.subarray(100, 9000), tar.subarray(9000)]
  await push(members, [Buffer.concat(parts.map((part) => gzipSync(part)))])
  await expectKernel(members, HVT)
})

it('a later layer replaces, removes and hides the files of earlier ones', async () => {
  const kernel = await layerOf(['unikernel.hvt', HVT])
  const replaced = newRepository()
  await push(replaced, [kernel, await layerOf(['unikernel.hvt', OTHER])])
  await expectKernel(replaced, OTHER)
  const gone: [string, LayerEntry[]][] = [
    ['whiteout', [['.wh.unikernel.hvt', '']]],
    ['opaque', [['.wh..wh..opq', '']]],
    ['file', [['unikernel.hvt', 'no kernel']]],
    ['directory', [['unikernel.hvt/', { type: 'directory' }]]],
  ]
  for (const [_how, entries] of gone) {
    const name = newRepository()
    await push(name, [kernel, await layerOf(...entries)])
    expect((await fetchKernel(name)).status).toBe(404)
    expect((await ask(registry, `repositories/${name}/images`)).images).toEqual([])
  }
  const folder = newRepository()
  await push(folder, [
    await layerOf(['app/x.hvt', HVT]),
    await layerOf(['.wh.app', '']),
    await layerOf(['app/y.hvt', OTHER]),
  ])
  await expectKernel(folder, OTHER)
})

it('a hard link is the file that it links to, also in a lower layer', async () => {
  const within = newRepository()
  await push(within, [
    await layerOf(
      ['home/opam/dist/www.hvt', HVT],
      ['unikernel.hvt', { type: 'link', linkname: '/home/opam/dist/www.hvt' }],
    ),
  ])
  await expectKernel(within, HVT)
  const across = newRepository()
  await push(across, [
    await layerOf(['dist/a.hvt', HVT], ['dist/b.hvt', OTHER]),
    await layerOf(
      ['unikernel.hvt', { type: 'link', linkname: 'dist/b.hvt' }],
      ['dist/.wh.b.hvt', ''],
    ),
  ])
  await expectKernel(across, OTHER)
})

it.each([
  ['a label', { labels: { 'com.urunc.unikernel.binary': '/unikernel/b.hvt' } }],
  [
    'a label in base64',
    {
      labels: { 'com.urunc.unikernel.binary': Buffer.from('/unikernel/b.hvt').toString('base64') },
    },
  ],
  [
    'an annotation',
    { kind: 'oci', annotations: { 'com.urunc.unikernel.binary': 'unikernel/b.hvt' } },
  ],
  [
    'an annotation of a layer',
    { kind: 'oci', layerAnnotations: { 'com.urunc.unikernel.binary': '/unikernel/b.hvt' } },
  ],
] as const)('the kernel that %s of urunc names is the one', async (_, options) => {
  const name = newRepository()
  const layer = await layerOf(['unikernel/a.hvt', HVT], ['unikernel/b.hvt', OTHER])
  await push(name, [layer], options)
  await expectKernel(name, OTHER)
})

it('an image with kernels of two targets has both, and a kernel anywhere is found', async () => {
  const both = newRepository()
  await push(both, [
    await layerOf(...BASE),
    await layerOf(['unikernel.hvt', HVT], ['unikernel.debug', OTHER]),
    await layerOf(['unikernel.spt', SPT]),
  ])
  await expectKernel(both, HVT, '?target=hvt')
  await expectKernel(both, SPT, '?target=spt')
  const anywhere = newRepository()
  await push(anywhere, [await layerOf(['.boot/kernel', HVT])])
  await expectKernel(anywhere, HVT)
})

it('an index of container images has their kernels', async () => {
  const name = newRepository()
  const children = []
  for (const [architecture, bytes] of [
    ['amd64', HVT],
    ['arm64', SPT],
  ] as const) {
    const manifest = await containerManifest(registry, name, [await layerOf(['unikernel', bytes])])
    const body = JSON.stringify(manifest)
    const digest = digestOf(body)
    expect((await putManifest(registry, name, digest, manifest)).status).toBe(201)
    const { mediaType } = manifest
    children.push({
      ...{ mediaType, digest, size: body.length },
      platform: { os: 'linux', architecture },
    })
  }
  const mediaType = 'application/vnd.docker.distribution.manifest.list.v2+json'
  const index = { schemaVersion: 2, mediaType, manifests: children }
  expect((await putManifest(registry, name, 'live', index)).status).toBe(201)
  await expectKernel(name, SPT, '?target=spt')
  await expectKernel(name, HVT, '?target=hvt')
})

it('an index whose platforms have the same kernel has that kernel', async () => {
  const name = newRepository()
  const manifests = []
  for (const salt of ['one', 'two']) {
    const layers = [await layerOf(['unikernel.hvt', HVT], ['salt', salt])]
    const manifest = await containerManifest(registry, name, layers)
    const body = JSON.stringify(manifest)
    const { mediaType } = manifest
    manifests.push({ mediaType, digest: digestOf(body), size: body.length })
    expect((await putManifest(registry, name, digestOf(body), manifest)).status).toBe(201)
  }
  const mediaType = 'application/vnd.oci.image.index.v1+json'
  const index = { schemaVersion: 2, mediaType, manifests }
  expect((await putManifest(registry, name, 'live', index)).status).toBe(201)
  await expectKernel(name, HVT)
})

it('the kernel is listed, searched, a build and a referrer, and the pushed image keeps its bytes', async () => {
  const name = newRepository()
  const manifest = await containerManifest(registry, name, [await layerOf(['unikernel.hvt', HVT])])
  const body = `${JSON.stringify(manifest, null, 3)}\n`
  const headers = { 'content-type': manifest.mediaType }
  const put = () => putManifest(registry, name, 'live', body, headers)
  const first = await put()
  expect(first.status).toBe(201)
  const build = first.headers.get('rookery-build')
  expect(build).toMatch(/^[0-9a-f-]{36}$/)
  expect((await put()).headers.get('rookery-build')).toBe(build)
  const read = await registry.request(`/v2/${name}/manifests/live`)
  expect(await read.text()).toBe(body)
  const pushed = digestOf(body)

  const { images } = await ask(registry, `kernels/${digestOf(HVT)}`)
  const [mine, ...more] = images.filter((one: { repository: string }) => one.repository === name)
  expect(more).toEqual([])
  expect(mine).toMatchObject({ container: pushed, tags: ['live'] })
  const { builds } = await ask(registry, `repositories/${name}/builds`)
  expect(builds).toMatchObject([
    { id: build, digest: mine.digest, kernel: { digest: digestOf(HVT) }, builder: 'admin' },
  ])
  const referrers = await (await registry.request(`/v2/${name}/referrers/${pushed}`)).json()
  expect(referrers).toMatchObject({
    manifests: [
      {
        digest: mine.digest,
        artifactType: 'application/vnd.unikernel.v1',
        annotations: { 'vnd.unikernel.unwrapped.path': '/unikernel.hvt' },
      },
    ],
  })
  const detail = await ask(registry, `repositories/${name}/images/live`)
  expect(detail).toMatchObject({ digest: mine.digest, container: pushed, tags: ['live'] })
  expect(await ask(registry, `repositories/${name}/images/live/compare/live`)).toMatchObject({})
  const derived = await registry.request(`/v2/${name}/manifests/${mine.digest}`)
  expect(digestOf(await derived.text())).toBe(mine.digest)
})

it('the image of the kernel goes with the container image', async () => {
  const name = newRepository()
  await push(name, [await layerOf(['unikernel.hvt', HVT])])
  const [image] = (await ask(registry, `repositories/${name}/images`)).images
  const remove = (digest: string) =>
    registry.request(`/v2/${name}/manifests/${digest}`, { method: 'DELETE' })
  // As a part of the image of a tag.
  expect((await remove(image.digest)).status).toBe(403)
  expect((await remove(image.container)).status).toBe(202)
  expect((await ask(registry, `repositories/${name}/images`)).images).toEqual([])
  expect((await registry.request(`/v2/${name}/manifests/${image.digest}`)).status).toBe(404)
})

it('a layer of another repository is read once, and a stranger learns nothing of it', async () => {
  const layer = await layerOf(['unikernel.hvt', HVT], ['salt', String(Math.random())])
  const [one, two] = [newRepository(), newRepository()]
  await push(one, [layer])
  await push(two, [layer])
  await expectKernel(two, HVT)
  const stranger = newRepository()
  const manifest = await containerManifest(registry, stranger, [])
  const [stolen] = (await containerManifest(registry, one, [layer])).layers
  const answer = await putManifest(registry, stranger, 'live', { ...manifest, layers: [stolen] })
  expect(await messageOf(answer)).toContain('MANIFEST_BLOB_UNKNOWN')
})

it.each([DOCKER_LAYER, OCI_LAYER])('a layer %s of any bytes is stored', async (layerType) => {
  const bytes = randomBytes(1_500_000)
  for (const layer of [bytes, gzipSync(bytes), Buffer.concat([gzipSync(bytes), bytes])]) {
    const answer = await pushContainer(registry, newRepository(), 'v1', [layer], { layerType })
    expect(answer.status).toBe(201)
  }
})

it('an image of a container image that was read whole has no problem', async () => {
  const name = newRepository()
  await push(name, [await tarOf([['unikernel.hvt', HVT]])])
  const image = await ask(registry, `repositories/${name}/images/live`)
  expect(image).toMatchObject({ container: expect.any(String), containerProblem: null })
})

it('a copy of a container image is no build, and one that its builder makes elsewhere is', async () => {
  const name = newRepository()
  await push(name, [await layerOf(['unikernel.hvt', HVT])])
  const body = await (await registry.request(`/v2/${name}/manifests/live`)).text()
  const { mediaType } = JSON.parse(body)
  const copied = newRepository()
  for (const { digest } of [JSON.parse(body).config, ...JSON.parse(body).layers]) {
    const path = `/v2/${copied}/blobs/uploads/?mount=${digest}&from=${name}`
    expect((await registry.request(path, { method: 'POST' })).status).toBe(201)
  }
  const put = await putManifest(registry, copied, 'live', body, { 'content-type': mediaType })
  expect(put.status).toBe(201)
  await expectKernel(copied, HVT)
  expect((await ask(registry, `repositories/${copied}/builds`)).builds).toEqual([])
})

it('a repository that requires provenance says that a container image has none', async () => {
  const name = newRepository()
  const settings = { method: 'PUT', body: JSON.stringify({ provenance: 'required' }) }
  const path = `/api/v1/repositories/${name}/settings`
  const headers = { 'content-type': 'application/json' }
  expect((await registry.request(path, { ...settings, headers })).status).toBe(200)
  const layer = await layerOf(['unikernel.hvt', HVT])
  expect(await messageOf(await pushContainer(registry, name, 'live', [layer]))).toContain(
    'the image is missing opam-switch',
  )
})

it('the kernel stays until the container image goes, and its bytes then go as well', async () => {
  const name = newRepository()
  const kernel = Buffer.concat([HVT, Buffer.from('only here')])
  await push(name, [await layerOf(['unikernel.hvt', kernel])])
  const sweeper = await openSweeper(registry)
  try {
    await sweeper.sweepAll()
    await expectKernel(name, kernel)
    const [image] = (await ask(registry, `repositories/${name}/images`)).images
    const path = `/v2/${name}/manifests/${image.container}`
    expect((await registry.request(path, { method: 'DELETE' })).status).toBe(202)
    await sweeper.sweepAll()
    const gone = await registry.request(`/v2/${name}/blobs/${digestOf(kernel)}`)
    expect(gone.status).toBe(404)
    const rows = 'select 1 from blobs where digest = $1'
    expect((await sweeper.client.query(rows, [digestOf(kernel)])).rows).toEqual([])
  } finally {
    await sweeper.close()
  }
})

it('a tag that moves to another container image has the changes of the kernel in its event', async () => {
  const name = newRepository()
  const feed = `/api/v1/events?repository=${name}&wait=0`
  const before = (await (await registry.request(feed)).json()) as { cursor: string }
  await push(name, [await layerOf(['unikernel.hvt', HVT])])
  await push(name, [await layerOf(['unikernel.hvt', OTHER])])
  const last = async () => {
    const page = await registry.request(`${feed}&type=image.tag.updated&after=${before.cursor}`)
    const { events } = (await page.json()) as { events: { data: object }[] }
    return events.at(-1)?.data
  }
  await expect.poll(last).toMatchObject({
    unikernels: [{ kernelDigest: digestOf(OTHER), changes: { kernel: true } }],
  })
  const snapshot = await registry.request(`${feed}&snapshot=1`)
  expect(JSON.stringify(await snapshot.json())).toContain(digestOf(OTHER))
})

it('nothing is unwrapped when the setting is off', async () => {
  const plain = await startRegistry({ ROOKERY_UNWRAP: 'off' })
  try {
    const layers = [await layerOf(['unikernel.hvt', HVT])]
    expect((await pushContainer(plain, 'plain/www', 'live', layers)).status).toBe(201)
    const { images } = await ask(plain, 'repositories/plain/www/images')
    expect(images).toEqual([])
  } finally {
    await plain.close()
  }
})

it('other artifacts with layers of the same types are not unwrapped', async () => {
  const name = newRepository()
  const manifest = await containerManifest(registry, name, [await layerOf(['unikernel.hvt', HVT])])
  const { bytes: _, ...config } = await pushBlob(registry, name, Buffer.from('{}'))
  const chart = { ...config, mediaType: 'application/vnd.cncf.helm.config.v1+json' }
  expect((await putManifest(registry, name, 'live', { ...manifest, config: chart })).status).toBe(
    201,
  )
  expect((await fetchKernel(name)).status).toBe(404)
})

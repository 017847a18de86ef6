import { randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { createLog } from '../../src/server/log.ts'
import { startServer } from '../../src/server/server.ts'
import { containerManifest, pushContainer, tarOf } from '../support/container-images.ts'
import { digestOf } from '../support/digest.ts'
import { newRepository, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { ask, fixture, messageOf } from './image-fixtures.ts'

const HVT = fixture('builds/hello-key-1/bin/hello-key.hvt')
/** More than a push reads. */
const LARGE_BYTES = 33 * 1024 * 1024
const FOUND = { timeout: 30_000, interval: 50 }

let registry: TestRegistry
let client: pg.Client

beforeAll(async () => {
  registry = await startRegistry()
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
})
afterAll(async () => {
  await client.end()
  await registry.close()
})

const kernelOf = (name: string) =>
  registry.request(`/api/v1/repositories/${name}/images/live/kernel`)
const statusOf = async (name: string) => (await kernelOf(name)).status
const largeLayers = async () => [
  await tarOf([['unikernel.hvt', HVT]]),
  await tarOf([['salt', randomBytes(LARGE_BYTES)]]),
]

it('a kernel below large layers is found after the push, with an event for the tag and one build', async () => {
  const name = newRepository()
  const { cursor } = (await (
    await registry.request(`/api/v1/events?repository=${name}&wait=0`)
  ).json()) as { cursor: string }
  const pushed = await pushContainer(registry, name, 'live', await largeLayers())
  expect(pushed.status).toBe(201)
  await expect.poll(() => statusOf(name), FOUND).toBe(200)
  const digest = pushed.headers.get('docker-content-digest')
  const page = await registry.request(
    `/api/v1/events?repository=${name}&tag=live&wait=10&after=${cursor}&type=image.unwrapped`,
  )
  const { events } = (await page.json()) as { events: { type: string; data: unknown }[] }
  expect(events).toMatchObject([
    {
      type: 'image.unwrapped',
      subject: `${name}:live`,
      data: { tag: 'live', digest, unikernels: [{ kernelDigest: digestOf(HVT), target: 'hvt' }] },
    },
  ])
  expect((await ask(registry, `repositories/${name}/builds`)).builds).toHaveLength(1)
})

it('layers that no process has read yet are read by another one', async () => {
  const name = newRepository()
  const pushed = await pushContainer(registry, name, 'live', await largeLayers())
  expect(pushed.status).toBe(201)
  await expect.poll(() => statusOf(name), FOUND).toBe(200)
  // As a process leaves it that is killed before it records what it read.
  await client.query(
    `with undone as (
       delete from manifests where unwrapped_from = (select id from manifests where digest = $1)
     )
     insert into unwraps (manifest_id, is_pending)
     select id, true from manifests where digest = $1`,
    [pushed.headers.get('docker-content-digest')],
  )
  const answer = await kernelOf(name)
  if (answer.status === 404) expect(await messageOf(answer)).toContain('image.unwrapped announces')
  const later = await startServer(
    parseConfig({ ...registry.settings, ROOKERY_LISTEN: '127.0.0.1:0' }),
    createLog('fatal'),
    (error) => {
      throw error
    },
  )
  try {
    await expect.poll(() => statusOf(name), FOUND).toBe(200)
  } finally {
    await later.close()
  }
})

it('replicas that push the same image at once make one image of its kernel, and one build', async () => {
  const other = await startServer(
    parseConfig({ ...registry.settings, ROOKERY_LISTEN: '127.0.0.1:0' }),
    createLog('fatal'),
    (error) => {
      throw error
    },
  )
  try {
    const name = newRepository()
    const layer = gzipSync(
      await tarOf([
        ['unikernel.hvt', HVT],
        ['salt', randomBytes(50_000)],
      ]),
    )
    const manifest = await containerManifest(registry, name, [layer])
    const authorization = `Basic ${Buffer.from(`admin:${registry.password}`).toString('base64')}`
    const pushes = Array.from({ length: 8 }, (_, index) => {
      if (index % 2 === 0) return putManifest(registry, name, 'live', manifest)
      return fetch(new URL(`/v2/${name}/manifests/live`, other.url), {
        method: 'PUT',
        headers: { authorization, 'content-type': manifest.mediaType },
        body: JSON.stringify(manifest),
      })
    })
    expect((await Promise.all(pushes)).map(({ status }) => status)).toEqual(pushes.map(() => 201))
    expect((await ask(registry, `repositories/${name}/images`)).images).toHaveLength(1)
    expect((await ask(registry, `repositories/${name}/builds`)).builds).toHaveLength(1)
    expect(await statusOf(name)).toBe(200)
  } finally {
    await other.close()
  }
})

it('a tag never has an image without its kernel while it moves', async () => {
  const name = newRepository()
  const push = async () => {
    const layer = gzipSync(
      await tarOf([
        ['unikernel.hvt', HVT],
        ['salt', randomBytes(64)],
      ]),
    )
    expect((await pushContainer(registry, name, 'live', [layer])).status).toBe(201)
  }
  await push()
  let isPushing = true
  const pushing = (async () => {
    for (let count = 0; count < 15; count += 1) await push()
    isPushing = false
  })()
  const seen = new Set<number>()
  while (isPushing) seen.add(await statusOf(name))
  await pushing
  expect([...seen]).toEqual([200])
})

it('an image of a thousand layers is unwrapped', async () => {
  const name = newRepository()
  const kernel = gzipSync(await tarOf([['unikernel.hvt', HVT]]))
  const manifest = await containerManifest(registry, name, [
    kernel,
    ...(await Promise.all(
      Array.from({ length: 20 }, async (_, n) => gzipSync(await tarOf([[`file-${n}`, 'x']]))),
    )),
  ])
  const [first, ...others] = manifest.layers
  const layers = [first, ...Array.from({ length: 999 }, (_, n) => others[n % others.length])]
  expect((await putManifest(registry, name, 'live', { ...manifest, layers })).status).toBe(201)
  expect(await statusOf(name)).toBe(200)
})

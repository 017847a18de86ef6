import { randomBytes, randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { createLog } from '../../src/server/log.ts'
import { type RunningServer, startServer } from '../../src/server/server.ts'
import { digestOf } from '../support/digest.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { openSweeper, type Sweeper } from './sweeper.ts'

const WORKERS = 6
/** A cycle takes longer on S3. The races are in the database, which is the same there. */
const CYCLES = Number(
  process.env.SOAK_CYCLES ?? (process.env.TEST_STORE === undefined ? 1000 : 500),
)
const SECONDS_MAX = 240
const GRACE_MILLISECONDS_MAX = 5
/** Few blobs, so that all workers push the same ones. */
const LAYERS = Array.from({ length: 5 }, (_, index) =>
  Buffer.from(`layer ${index} ${'x'.repeat(500)}`),
)
const ATTEMPTS_MAX = 200
/** After this many refusals of one push the grace period doubles: otherwise no push succeeds with a slow store. */
const REFUSALS_A_DOUBLING = 10

let registry: TestRegistry
let second: RunningServer
let sweeper: Sweeper

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_GC_GRACE_SECONDS: '0',
    ROOKERY_GC_INTERVAL_SECONDS: '1',
  })
  second = await startServer(parseConfig({ ...registry.settings }), createLog('silent'), () => {})
  sweeper = await openSweeper(registry)
})

afterAll(async () => {
  const errors = registry.log.filter((line) => line.includes('"level":"error"'))
  await sweeper.close()
  await second.close()
  await registry.close()
  expect(errors).toEqual([])
})

const pick = <T>(values: readonly T[]): T => values[randomInt(values.length)] as T

/** Sends a request to one of the two replicas as the administrator. */
async function ask(
  path: string,
  init: RequestInit = {},
): Promise<{ status: number; body: Buffer }> {
  const url = new URL(path, pick([registry.url, second.url]))
  const authorization = `Basic ${Buffer.from(`admin:${registry.password}`).toString('base64')}`
  const answer = await fetch(url, {
    ...init,
    headers: { authorization, ...(init.headers as object) },
  })
  return { status: answer.status, body: Buffer.from(await answer.arrayBuffer()) }
}

/** Refusals of each repository's current push. */
const refused = new Map<string, number>()

/** The grace period of the sweeper. */
function graceSeconds(): number {
  const doublings = Math.floor(Math.max(0, ...refused.values()) / REFUSALS_A_DOUBLING)
  return (randomInt(GRACE_MILLISECONDS_MAX) * 2 ** doublings) / 1000
}

const counts = { pushed: 0, mounted: 0, found: 0, sweptUnderPush: 0, manifests: 0, deleted: 0 }

/** Checks, mounts or pushes a blob, as clients do. Returns when the registry has it. */
async function ensureBlob(repository: string, bytes: Buffer): Promise<void> {
  const digest = digestOf(bytes)
  if (randomInt(3) > 0) {
    const { status } = await ask(`/v2/${repository}/blobs/${digest}`, { method: 'HEAD' })
    if (status === 200) counts.found += 1
    if (status === 200) return
    expect(status).toBe(404)
  }
  const uploads = `/v2/${repository}/blobs/uploads/`
  if (randomInt(3) === 0) {
    const from = `soak/worker-${randomInt(WORKERS)}`
    const mount = `${uploads}?mount=${digest}&from=${from}`
    const { status } = await ask(mount, { method: 'POST' })
    if (status === 201) counts.mounted += 1
    if (status === 201) return
    expect(status).toBe(202)
  }
  const headers = { 'content-type': 'application/octet-stream' }
  const body = new Uint8Array(bytes)
  const { status } = await ask(`${uploads}?digest=${digest}`, { method: 'POST', headers, body })
  expect(status).toBe(201)
  counts.pushed += 1
}

/** Pushes until the manifest is acknowledged: a blob may be swept before the manifest references it. */
async function pushImage(repository: string): Promise<{ digest: string; layers: Buffer[] }> {
  const layers = [...new Set([pick(LAYERS), pick(LAYERS)])]
  const [config = Buffer.alloc(0)] = layers
  const descriptor = (bytes: Buffer) => ({
    mediaType: 'application/octet-stream',
    digest: digestOf(bytes),
    size: bytes.length,
  })
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: IMAGE_MANIFEST,
    config: descriptor(config),
    layers: layers.map(descriptor),
    annotations: { unique: randomBytes(8).toString('hex') },
  })
  for (let attempts = 0; attempts < ATTEMPTS_MAX; attempts += 1) {
    refused.set(repository, attempts)
    for (const layer of layers) await ensureBlob(repository, layer)
    const tag = `v${randomInt(3)}`
    const answer = await ask(`/v2/${repository}/manifests/${tag}`, {
      method: 'PUT',
      headers: { 'content-type': IMAGE_MANIFEST },
      body: manifest,
    })
    if (answer.status === 201) {
      counts.manifests += 1
      return { digest: digestOf(Buffer.from(manifest)), layers }
    }
    expect({ status: answer.status, body: String(answer.body) }).toMatchObject({
      status: 400,
      body: expect.stringContaining('MANIFEST_BLOB_UNKNOWN'),
    })
    counts.sweptUnderPush += 1
  }
  throw new Error('a push was never acknowledged')
}

/** Every byte of an acknowledged image can be pulled. */
async function expectWhole(repository: string, layers: readonly Buffer[]): Promise<void> {
  for (const layer of layers) {
    const { status, body } = await ask(`/v2/${repository}/blobs/${digestOf(layer)}`)
    expect({ status, digest: digestOf(body) }).toEqual({ status: 200, digest: digestOf(layer) })
  }
}

it(
  `${CYCLES} pushes and deletes of the same blobs race a sweeper with a short grace period`,
  async () => {
    const end = Date.now() + SECONDS_MAX * 1000
    let cycles = 0
    let working = true
    const sweeping = (async () => {
      while (working) {
        const { failures } = await sweeper.garbage(graceSeconds()).sweep()
        if (failures.length > 0) throw failures[0]
        await delay(randomInt(3))
      }
    })()
    const work = async (_: unknown, index: number): Promise<void> => {
      const repository = `soak/worker-${index}`
      const live: { digest: string; layers: Buffer[] }[] = []
      while (cycles < CYCLES && Date.now() < end) {
        cycles += 1
        live.push(await pushImage(repository))
        for (const image of live)
          if (randomInt(3) === 0) await expectWhole(repository, image.layers)
        while (live.length > randomInt(4)) {
          const image = live.shift()
          const path = `/v2/${repository}/manifests/${image?.digest}`
          expect((await ask(path, { method: 'DELETE' })).status).toBe(202)
          counts.deleted += 1
        }
      }
      for (const image of live) {
        await expectWhole(repository, image.layers)
        const path = `/v2/${repository}/manifests/${image.digest}`
        expect((await ask(path, { method: 'DELETE' })).status).toBe(202)
      }
    }
    try {
      await Promise.all(Array.from({ length: WORKERS }, work))
    } finally {
      working = false
      await sweeping
    }
    process.stdout.write(`${cycles} cycles: ${JSON.stringify(counts)}\n`)
    expect(cycles).toBeGreaterThanOrEqual(CYCLES)
    // The race took place.
    expect(counts.sweptUnderPush).toBeGreaterThan(0)
    expect(counts.mounted).toBeGreaterThan(0)
    // A mount without a source began an upload.
    await sweeper.client.query(`update uploads set expires_at = now() - interval '1 second'`)
    await sweeper.sweepAll()
    for (const table of ['blobs', 'deletion_queue', 'uploads', 'repository_blobs']) {
      // When the run is as long as the interval, the registry's own sweeper may still work on some of them.
      const left = async () =>
        (await sweeper.client.query(`select count(*)::int as left from ${table}`)).rows[0].left
      await expect.poll(left, { message: table, timeout: 30_000 }).toBe(0)
    }
    expect(await registry.storedObjects()).toEqual([])
  },
  (SECONDS_MAX + 60) * 1000,
)

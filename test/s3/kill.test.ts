import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openSweeper, type Sweeper } from '../garbage/sweeper.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { registryAt } from '../support/process-registry.ts'
import { newRepository, pushBlob, pushImageBlobs, putManifest } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { createBucket, s3Server, s3Settings } from '../support/s3.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'
import { type Fault, FaultProxy, type Operation } from './fault-proxy.ts'
import {
  beginPush,
  expectPulled,
  expireAll,
  finishPush,
  look,
  type Push,
  pushAgain,
  type Size,
  unnamed,
  type Way,
} from './faulty-store.ts'

type Stage = {
  /** The progress when the process died. */
  readonly when: string
  readonly fault: Fault
  readonly on: Operation
  readonly part?: number
  readonly size: Size
  readonly way: Way
}

const BY_PUT = { size: 'large', way: 'PUT' } as const
const BY_PATCH = { size: 'large', way: 'PATCH' } as const
const ASKED = { fault: 'hang' } as const
const DONE = { fault: 'hold the answer' } as const

const STAGES: readonly Stage[] = [
  { when: 'PutObject was asked for', ...ASKED, on: 'PutObject', size: 'small', way: 'PUT' },
  { when: 'PutObject was done', ...DONE, on: 'PutObject', ...BY_PUT, size: 'small' },
  { when: 'CreateMultipartUpload was done', ...DONE, on: 'CreateMultipartUpload', ...BY_PUT },
  { when: 'CreateMultipartUpload was answered', ...ASKED, on: 'UploadPart', part: 1, ...BY_PUT },
  { when: 'the first part was there', ...DONE, on: 'UploadPart', part: 1, ...BY_PUT },
  { when: "a later chunk's part was there", ...DONE, on: 'UploadPart', part: 2, ...BY_PATCH },
  { when: 'Complete was asked for', ...ASKED, on: 'CompleteMultipartUpload', ...BY_PUT },
  {
    when: 'Complete was asked for of chunks',
    ...ASKED,
    on: 'CompleteMultipartUpload',
    ...BY_PATCH,
  },
  { when: 'Complete was done', ...DONE, on: 'CompleteMultipartUpload', ...BY_PUT },
  { when: 'Complete was done of chunks', ...DONE, on: 'CompleteMultipartUpload', ...BY_PATCH },
]

type Acknowledged = {
  readonly repository: string
  readonly manifest: string
  readonly layer: { digest: string; bytes: Buffer }
}

type Killed = {
  readonly acknowledged: Acknowledged
  /** The pushes by their progress when the process died. */
  readonly pushes: ReadonlyMap<string, Push>
}

let database: TestDatabase
let folder: string
let proxy: FaultProxy
let shared: Record<string, string>
let survivor: ServerProcess
let registry: TestRegistry
let sweeper: Sweeper

/** Another process on the same Postgres and bucket. It is never killed. */
beforeAll(async () => {
  database = await createTestDatabase()
  folder = await mkdtemp(join(tmpdir(), 'rookery-kill-'))
  proxy = await FaultProxy.start(s3Server().endpoint)
  shared = {
    ...s3Settings(await createBucket()),
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_ADMIN_PASSWORD: 'to be killed by the tests',
    ROOKERY_GC_INTERVAL_SECONDS: '3600',
    ROOKERY_DATA_DIR: join(folder, 'survivor'),
    ROOKERY_MASTER_KEY_FILE: join(folder, 'master-key'),
  }
  survivor = await startProcess(shared)
  registry = registryAt(survivor.url, folder, shared)
  sweeper = await openSweeper(registry)
})

afterAll(async () => {
  await sweeper.close()
  const status = await stopProcess(survivor)
  await proxy.close()
  await database.drop()
  await rm(folder, { recursive: true, force: true })
  expect(status).toBe(0)
})

const idOf = ({ location }: Push) => location.split('/').at(-1) ?? ''

/** A process that is killed while its pushes are at different stages. */
async function killAtEveryStage(name: string): Promise<Killed> {
  const victim = await startProcess({
    ...shared,
    ROOKERY_S3_ENDPOINT: proxy.url,
    ROOKERY_DATA_DIR: join(folder, name),
  })
  const dying = registryAt(victim.url, folder, shared)
  const acknowledged = await pushAcknowledged(dying)
  const pushes = new Map<string, Push>()
  const ended: Promise<unknown>[] = []
  for (const { when, fault, on, part, size, way } of STAGES) {
    const push = await beginPush(dying, size, way)
    pushes.set(when, push)
    // The name of an object has the id of the upload that wrote it.
    const query = part === undefined ? '' : `.*partNumber=${part}&`
    const injected = proxy.inject(fault, new RegExp(`^${on} .*/${idOf(push)}-${query}`))
    ended.push(finishPush(dying, push).catch(() => 'no answer'))
    await injected.reached()
  }
  await stopProcess(victim, 'SIGKILL')
  expect(await Promise.all(ended)).toEqual(STAGES.map(() => 'no answer'))
  proxy.clear()
  return { acknowledged, pushes }
}

async function pushAcknowledged(dying: TestRegistry): Promise<Acknowledged> {
  const repository = newRepository()
  const layer = await pushBlob(dying, repository, randomBytes(9_000_000))
  const { bytes: _bytes, ...descriptor } = layer
  const manifest = JSON.stringify(await pushImageBlobs(dying, repository, { layers: [descriptor] }))
  expect((await putManifest(dying, repository, 'live', manifest)).status).toBe(201)
  return { repository, manifest, layer }
}

async function expectAcknowledged({ repository, manifest, layer }: Acknowledged): Promise<void> {
  const found = await registry.request(`/v2/${repository}/manifests/live`)
  expect(await found.text()).toBe(manifest)
  for (const { digest, size } of [JSON.parse(manifest).config, ...JSON.parse(manifest).layers]) {
    const blob = await registry.request(`/v2/${repository}/blobs/${digest}`)
    expect(blob.status).toBe(200)
    const bytes = Buffer.from(await blob.arrayBuffer())
    expect(bytes.length).toBe(size)
    if (digest === layer.digest) expect(bytes.equals(layer.bytes)).toBe(true)
  }
}

/** Lists the bucket's objects of uploads without a row, after all uploads expired and were swept. */
async function leftOf(push: Push, id = idOf(push)): Promise<string[]> {
  await expireAll(sweeper.client)
  await sweeper.sweepAll()
  return (await unnamed(registry, sweeper.client)).filter((name) => name.includes(id))
}

describe('after a process was killed in the middle of pushes, another one', () => {
  let killed: Killed
  const ids: Record<string, string> = {}
  const pushOf = (when: string) => killed.pushes.get(when) as Push

  beforeAll(async () => {
    killed = await killAtEveryStage('victim')
    for (const [when, push] of killed.pushes) ids[when] = idOf(push)
  })

  it('has everything that was acknowledged', () => expectAcknowledged(killed.acknowledged))

  it.each(STAGES)(
    'lets the client continue at once when $when ($size by $way)',
    async ({ when }) => {
      const push = pushOf(when)
      expect(await look(registry, push)).toBe(404)
      await pushAgain(registry, push)
      await expectPulled(registry, push)
    },
  )

  it.each(STAGES)('has nothing in the bucket that no row names when $when', async ({ when }) => {
    expect(await leftOf(pushOf(when), ids[when])).toEqual([])
  })

  it('still has everything that was acknowledged', () => expectAcknowledged(killed.acknowledged))
})

describe('after a process was killed in the middle of pushes that no client continues', () => {
  let killed: Killed

  beforeAll(async () => {
    killed = await killAtEveryStage('another victim')
  })

  it.each(STAGES)('nothing of them is left when they expired: $when', async ({ when }) => {
    const push = killed.pushes.get(when) as Push
    expect(await leftOf(push)).toEqual([])
    expect((await registry.request(push.location)).status).toBe(404)
  })

  it('everything that was acknowledged exists', () => expectAcknowledged(killed.acknowledged))
})

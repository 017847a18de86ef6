import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { expectError, newRepository, pushBlob, send, startUpload } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { mountSmallDisk } from '../support/small-disk.ts'

const ON_DISK = {
  ROOKERY_S3_BUCKET: '',
  ROOKERY_S3_ENDPOINT: '',
  ROOKERY_GC_INTERVAL_SECONDS: '3600',
  ROOKERY_DISK_RESERVE_BYTES: '0',
}

let registry: TestRegistry
let repository: string
let blob: Awaited<ReturnType<typeof pushBlob>>

const pull = () => registry.anonymous(`/v2/${repository}/blobs/${blob.digest}`)
const ready = () => registry.anonymous('/readyz')

beforeEach(async () => {
  repository = newRepository()
  blob = await pushBlob(registry, repository)
})

async function expectNotNow(): Promise<void> {
  await expectError(await pull(), 503, 'UNAVAILABLE')
  await expectPushesWait()
}

async function expectPushesWait(): Promise<void> {
  await expectError(await ready(), 503, 'UNAVAILABLE')
  const started = `/v2/${repository}/blobs/uploads/?digest=${blob.digest}`
  for (const bytes of [blob.bytes, randomBytes(10)]) {
    const push = await send(registry, 'POST', started, bytes)
    expect(push.status).toBe(503)
    expect(Number(push.headers.get('retry-after'))).toBeGreaterThan(0)
  }
}

async function expectWhole(): Promise<void> {
  expect((await ready()).status).toBe(200)
  const answer = await pull()
  expect(answer.status).toBe(200)
  expect(Buffer.from(await answer.arrayBuffer()).equals(blob.bytes)).toBe(true)
  await pushBlob(registry, repository)
}

describe('while the server runs', () => {
  const blobs = () => join(registry.folder, 'blobs')

  beforeAll(async () => {
    registry = await startRegistry(ON_DISK)
  })
  afterAll(() => registry.close())

  it('an empty folder in place of the blobs makes it wait, and no blob is lost', async () => {
    await rename(blobs(), `${blobs()}.away`)
    await mkdir(blobs())
    try {
      // Before anything else noticed it.
      const location = await startUpload(registry, repository).catch(() => undefined)
      if (location !== undefined) {
        const push = await send(registry, 'PUT', `${location}?digest=${blob.digest}`, blob.bytes)
        await expectError(push, 503, 'UNAVAILABLE')
      }
      await expectNotNow()
    } finally {
      await rm(blobs(), { recursive: true })
      await rename(`${blobs()}.away`, blobs())
    }
    await expectWhole()
  })

  it('a missing data folder makes it wait, and an upload goes on when it is back', async () => {
    const location = await startUpload(registry, repository)
    expect((await send(registry, 'PATCH', location, blob.bytes.subarray(0, 10))).status).toBe(202)
    for (const name of ['blobs', 'uploads']) {
      await rename(join(registry.folder, name), join(registry.folder, `${name}.away`))
    }
    try {
      await expectNotNow()
      const more = await send(registry, 'PATCH', location, blob.bytes.subarray(10))
      await expectError(more, 503, 'UNAVAILABLE')
    } finally {
      for (const name of ['blobs', 'uploads']) {
        await rename(join(registry.folder, `${name}.away`), join(registry.folder, name))
      }
    }
    await expectWhole()
    expect((await send(registry, 'PATCH', location, blob.bytes.subarray(10))).status).toBe(202)
    const end = await send(registry, 'PUT', `${location}?digest=${blob.digest}`)
    expect(end.status).toBe(201)
  })

  it('folders of digests that somebody removed are made again by a push', async () => {
    await rm(join(blobs(), 'sha256'), { recursive: true })
    await expectError(await pull(), 404, 'BLOB_UNKNOWN')
    await pushBlob(registry, repository, blob.bytes)
    await expectWhole()
  })

  it('a folder in place of the mark makes pushes wait; blobs that are there can be pulled', async () => {
    const mark = join(blobs(), 'installation')
    await rename(mark, `${mark}.away`)
    await mkdir(mark)
    try {
      expect((await pull()).status).toBe(200)
      await expectPushesWait()
    } finally {
      await rm(mark, { recursive: true })
      await rename(`${mark}.away`, mark)
    }
    await expectWhole()
  })
})

const disk = await mountSmallDisk(16)

describe.skipIf(disk === undefined)('a disk that is unmounted', () => {
  const folder = disk ?? ''

  beforeAll(async () => {
    registry = await startRegistry({ ...ON_DISK, ROOKERY_DATA_DIR: folder })
  })
  afterAll(async () => {
    await registry.close()
    execFileSync('umount', ['-l', folder])
    await rm(folder, { recursive: true })
  })

  it('makes the server wait, and it goes on when the disk is back', async () => {
    // An earlier start without the disk left these folders below it.
    const copy = `${folder}.copy`
    await mkdir(copy)
    execFileSync('mount', ['--move', folder, copy])
    try {
      await expectNotNow()
      await mkdir(join(folder, 'blobs'))
      await mkdir(join(folder, 'uploads'))
      await expectNotNow()
    } finally {
      execFileSync('mount', ['--move', copy, folder])
      await rm(copy, { recursive: true })
    }
    await expectWhole()
  })
})

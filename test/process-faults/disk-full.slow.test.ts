import { randomBytes } from 'node:crypto'
import { statfs } from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { openSweeper, type Sweeper } from '../garbage/sweeper.ts'
import { digestOf } from '../support/digest.ts'
import { newRepository, pushBlob, send, startUpload } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { mountSmallDisk, unmountSmallDisk } from '../support/small-disk.ts'

const MIB = 1024 * 1024
const DISK_MIB = 16
const TOO_LARGE = 24 * MIB
const SMALL = 256 * 1024
/** Space for folders and rounding. */
const SLACK_BYTES = 64 * 1024

const disk = await mountSmallDisk(DISK_MIB)

describe.skipIf(disk === undefined)('on a disk that is full', () => {
  const folder = disk ?? ''
  let registry: TestRegistry
  let sweeper: Sweeper
  let free: number

  const freeBytes = async () => {
    const { bavail, bsize } = await statfs(folder)
    return bavail * bsize
  }

  beforeAll(async () => {
    // Files, in every project: the test is about files.
    registry = await startRegistry({
      ROOKERY_DATA_DIR: folder,
      ROOKERY_S3_BUCKET: '',
      ROOKERY_S3_ENDPOINT: '',
      ROOKERY_GC_INTERVAL_SECONDS: '3600',
      ROOKERY_DISK_RESERVE_BYTES: '0',
    })
    sweeper = await openSweeper({ ...registry, folder })
  })

  afterAll(async () => {
    await sweeper.close()
    await registry.close()
    await unmountSmallDisk(folder)
  })

  beforeEach(async () => {
    await expire()
    free = await freeBytes()
    expect(free).toBeGreaterThan(DISK_MIB * MIB - MIB)
  })

  /** Lets uploads expire, and sweeps every unreferenced blob. */
  async function expire(): Promise<void> {
    await sweeper.client.query(`update uploads set expires_at = now() - interval '1 second'`)
    await sweeper.sweepAll()
  }

  async function expectFull(answer: Response): Promise<void> {
    const text = await answer.text()
    expect({ status: answer.status, text }).toMatchObject({ status: 503 })
    expect(answer.headers.get('retry-after')).toMatch(/^[1-9]\d*$/)
    expect(JSON.parse(text).errors).toMatchObject([{ code: 'UNAVAILABLE' }])
    expect(JSON.parse(text).errors[0].message).toContain('no space')
  }

  async function expectSmallPushesAndPulls(): Promise<void> {
    const repository = newRepository()
    const { digest, bytes } = await pushBlob(registry, repository, randomBytes(SMALL))
    const pulled = await registry.request(`/v2/${repository}/blobs/${digest}`)
    expect(Buffer.from(await pulled.arrayBuffer()).equals(bytes)).toBe(true)
  }

  it('a push in one request is refused, and its space is free again at once', async () => {
    const kept = await pushBlob(registry, newRepository(), randomBytes(SMALL))
    const before = await freeBytes()
    const bytes = randomBytes(TOO_LARGE)
    const path = `/v2/${newRepository()}/blobs/uploads/?digest=${digestOf(bytes)}`
    await expectFull(await send(registry, 'POST', path, bytes))
    expect(await freeBytes()).toBeGreaterThan(before - SLACK_BYTES)
    await expectSmallPushesAndPulls()
    expect(kept.size).toBe(SMALL)
  })

  it.each(['PUT', 'PATCH'])('a %s that does not fit is refused', async (method) => {
    const repository = newRepository()
    const location = await startUpload(registry, repository)
    const chunk = randomBytes(SMALL)
    expect((await send(registry, 'PATCH', location, chunk)).status).toBe(202)
    const rest = randomBytes(TOO_LARGE)
    const whole = Buffer.concat([chunk, rest])
    const target = method === 'PUT' ? `${location}?digest=${digestOf(whole)}` : location
    await expectFull(await send(registry, method, target, rest))
    const path = `/v2/${repository}/blobs/${digestOf(whole)}`
    expect((await registry.request(path, { method: 'HEAD' })).status).toBe(404)
    const status = await registry.request(location)
    expect(status.headers.get('range')).toBe(`0-${SMALL - 1}`)
    // The client may find that it has already sent all that fits.
    const closing = `${location}?digest=${digestOf(chunk)}`
    expect((await send(registry, 'PUT', closing)).status).toBe(201)
    await expectSmallPushesAndPulls()
  })

  it('others can push while an upload that did not fit is still open', async () => {
    const location = await startUpload(registry, newRepository())
    await expectFull(await send(registry, 'PATCH', location, randomBytes(TOO_LARGE)))
    await expectSmallPushesAndPulls()
  })

  it('pulls continue while an upload that did not fit is still open', async () => {
    const repository = newRepository()
    const { digest, bytes } = await pushBlob(registry, repository, randomBytes(SMALL))
    const location = await startUpload(registry, newRepository())
    await expectFull(await send(registry, 'PATCH', location, randomBytes(TOO_LARGE)))
    const pulled = await registry.request(`/v2/${repository}/blobs/${digest}`)
    expect(Buffer.from(await pulled.arrayBuffer()).equals(bytes)).toBe(true)
  })

  it('an upload that is cancelled frees its space', async () => {
    const location = await startUpload(registry, newRepository())
    await expectFull(await send(registry, 'PATCH', location, randomBytes(TOO_LARGE)))
    expect((await send(registry, 'DELETE', location)).status).toBe(204)
    expect(await freeBytes()).toBeGreaterThan(free - SLACK_BYTES)
    await expectSmallPushesAndPulls()
  })

  it('an upload that expires frees its space', async () => {
    const location = await startUpload(registry, newRepository())
    await expectFull(await send(registry, 'PATCH', location, randomBytes(TOO_LARGE)))
    await expire()
    expect(await freeBytes()).toBeGreaterThan(free - SLACK_BYTES)
    await expectSmallPushesAndPulls()
  })

  it('several uploads that do not fit at the same time all end, and the next ones fit', async () => {
    const answers = await Promise.all(
      Array.from({ length: 4 }, () => {
        const bytes = randomBytes(6 * MIB)
        const path = `/v2/${newRepository()}/blobs/uploads/?digest=${digestOf(bytes)}`
        return send(registry, 'POST', path, bytes)
      }),
    )
    expect(answers.map(({ status }) => status)).toContain(503)
    for (const answer of answers) if (answer.status !== 201) await expectFull(answer)
    await expire()
    expect(await freeBytes()).toBeGreaterThan(free - SLACK_BYTES)
    await pushBlob(registry, newRepository(), randomBytes(6 * MIB))
  })
})

import { randomBytes } from 'node:crypto'
import { rm, statfs, writeFile } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { newRepository, pushBlob, pushImage, send, startUpload } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { mountSmallDisk, unmountSmallDisk } from '../support/small-disk.ts'

const MIB = 1024 * 1024
const DISK_MIB = 32
const RESERVE_MIB = 12
/** Space for folders and rounding, and for the chunks of a body in memory. */
const SLACK_BYTES = 2 * MIB

const disk = await mountSmallDisk(DISK_MIB)

describe.skipIf(disk === undefined)('on a disk with a reserve', () => {
  const folder = disk ?? ''
  const repository = newRepository()
  let registry: TestRegistry

  beforeAll(async () => {
    // Files, in every project: the test is about files.
    registry = await startRegistry({
      ROOKERY_DATA_DIR: folder,
      ROOKERY_S3_BUCKET: '',
      ROOKERY_S3_ENDPOINT: '',
      ROOKERY_DISK_RESERVE_BYTES: String(RESERVE_MIB * MIB),
    })
    await pushImage(registry, repository, 'v1')
  })

  afterAll(async () => {
    await registry.close()
    await unmountSmallDisk(folder)
  })

  const freeBytes = async () => {
    const { bavail, bsize } = await statfs(folder)
    return bavail * bsize
  }

  const linesOf = (text: string) => registry.log.filter((line) => line.includes(text))

  /** Starts an upload, and returns the status of the answer. */
  const start = async () =>
    (await send(registry, 'POST', `/v2/${repository}/blobs/uploads/`)).status

  async function expectRefused(answer: Response): Promise<void> {
    const text = await answer.text()
    expect({ status: answer.status, text }).toMatchObject({ status: 503 })
    expect(answer.headers.get('retry-after')).toBe('60')
    expect(text).toContain('no space')
  }

  it('a body that would use the reserve is refused before it is sent', async () => {
    const bytes = randomBytes(24 * MIB)
    const path = `/v2/${newRepository()}/blobs/uploads/?digest=${digestOf(bytes)}`
    const free = await freeBytes()
    await expectRefused(await send(registry, 'POST', path, bytes))
    expect(await freeBytes()).toBeGreaterThan(free - MIB)
  })

  it('a body of unknown length ends at the reserve, and its space is free again', async () => {
    const location = await startUpload(registry, newRepository())
    const free = await freeBytes()
    let least = free
    async function* chunks() {
      for (let sent = 0; sent < 28; sent += 1) {
        yield randomBytes(MIB)
        least = Math.min(least, await freeBytes())
        // The free space is read once a second.
        await new Promise((resolve) => setTimeout(resolve, 150))
      }
    }
    const answer = await registry.request(location, {
      method: 'PATCH',
      headers: { 'content-type': 'application/octet-stream' },
      body: Readable.toWeb(Readable.from(chunks())),
      duplex: 'half',
    } as RequestInit)
    await expectRefused(answer)
    expect(least).toBeLessThan(free - 4 * MIB)
    expect(await freeBytes()).toBeGreaterThan(free - SLACK_BYTES)
  })

  it('pushes are refused when only the reserve is left, and pulls, deletes and /readyz continue', async () => {
    await expect.poll(start).toBe(202)
    registry.log.length = 0
    const large = await pushBlob(registry, repository, randomBytes(7 * MIB))
    const filler = await pushBlob(registry, repository, randomBytes(7 * MIB))
    await writeFile(`${folder}/other-program`, randomBytes(8 * MIB))
    await expect.poll(start).toBe(503)
    await expectRefused(await send(registry, 'POST', `/v2/${repository}/blobs/uploads/`))
    const manifest = await registry.request(`/v2/${repository}/manifests/v1`)
    const body = await manifest.text()
    const headers = { 'content-type': manifest.headers.get('content-type') ?? '' }
    const path = `/v2/${repository}/manifests/v2`
    await expectRefused(await registry.request(path, { method: 'PUT', headers, body }))
    expect((await registry.anonymous('/readyz')).status).toBe(200)
    const pulled = await registry.request(`/v2/${repository}/blobs/${large.digest}`)
    expect(Buffer.from(await pulled.arrayBuffer()).equals(large.bytes)).toBe(true)
    const blob = `/v2/${repository}/blobs/${filler.digest}`
    expect((await registry.request(blob, { method: 'DELETE' })).status).toBe(202)
    expect(linesOf('the disk has only its reserve left')).toHaveLength(1)
    await rm(`${folder}/other-program`)
    await expect
      .poll(async () => (await registry.request(path, { method: 'PUT', headers, body })).status)
      .toBe(201)
  })
})

import { randomBytes } from 'node:crypto'
import { afterAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { newRepository, pushBlob, startUpload } from '../support/push.ts'
import { basic, RawConnection, requestBytes } from '../support/raw-client.ts'
import { mountSmallDisk, unmountSmallDisk } from '../support/small-disk.ts'
import {
  beginPush,
  expectPulled,
  expectUnavailable,
  type Faulty,
  finishPush,
  pushAgain,
  startFaulty,
} from './faulty-store.ts'

/** Smaller than a part. */
const DISK_MIB = 4
/** Clients that stop in the middle of a chunk. Each holds a buffer, and there are fewer buffers. */
const SLOW_CLIENTS = 14
const CHUNK_BYTES = 1024 * 1024
/** Requests after which this process has also read what the slow clients have sent. */
const ROUND_TRIPS = 20
const LEASED_MILLISECONDS_MAX = 10_000

/** The disk for parts that do not fit into memory; undefined without the right to mount. */
const disk = await mountSmallDisk(DISK_MIB)

describe.skipIf(disk === undefined)('when memory and the disk beside it are full', () => {
  const folder = disk ?? ''
  let faulty: Faulty
  let refused: Response

  afterAll(async () => {
    await faulty.close()
    await unmountSmallDisk(folder)
  })

  it('a large push is refused, small pushes succeed, and afterwards all succeed', async () => {
    faulty = await startFaulty({ ROOKERY_DATA_DIR: folder })
    const { registry, sweeper } = faulty
    const slow: RawConnection[] = []
    for (let count = 0; count < SLOW_CLIENTS; count += 1) {
      const target = await startUpload(registry, newRepository())
      const headers = { Authorization: basic(registry.password) }
      const body = randomBytes(CHUNK_BYTES)
      const connection = await RawConnection.open(registry.url)
      slow.push(connection)
      const bytes = requestBytes({ method: 'PATCH', target, headers, body })
      await connection.send(bytes.subarray(0, bytes.length - CHUNK_BYTES / 4))
    }
    const leases = async () =>
      (await sweeper.client.query('select id from uploads where lease is not null')).rows.length
    const within = { interval: 10, timeout: LEASED_MILLISECONDS_MAX }
    await expect.poll(leases, within).toBe(SLOW_CLIENTS)
    for (let trip = 0; trip < ROUND_TRIPS; trip += 1) await registry.anonymous('/healthz')
    const push = await beginPush(registry, 'large', 'PUT')
    refused = await finishPush(registry, push)
    expect(refused.status).toBeGreaterThanOrEqual(500)
    const small = await pushBlob(registry, newRepository(), randomBytes(64 * 1024))
    for (const connection of slow) connection.close()
    await expect.poll(leases, within).toBe(0)
    expect(small.digest).toBe(digestOf(small.bytes))
    await pushAgain(registry, push)
    await expectPulled(registry, push)
    expect(await faulty.leftBehind()).toEqual([])
  })
  it('the refusal is 503 with the time to retry', async () => {
    await expectUnavailable(refused)
  })
})

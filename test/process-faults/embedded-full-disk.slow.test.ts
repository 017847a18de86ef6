import { writeSync } from 'node:fs'
import { chmod, open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { DATABASE, USER } from '../../src/embedded-postgres/settings.ts'
import { registryAt } from '../support/process-registry.ts'
import { newRepository, pushBlob, pushImage } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import {
  runUntilExit,
  type ServerProcess,
  startProcess,
  stopProcess,
} from '../support/server-process.ts'
import { mountSmallDisk, unmountSmallDisk } from '../support/small-disk.ts'

const DISK_MIB = 400
/** Longer than the attempts after which a Postgres that only an operator can mend is given up. */
const FULL_MILLISECONDS = 20_000
const BACK_MILLISECONDS_MAX = 30_000

const disk = await mountSmallDisk(DISK_MIB)

describe.skipIf(disk === undefined)('on a full disk, the embedded Postgres', () => {
  const folder = disk ?? ''
  const filler = join(folder, 'filler')
  const settings = {
    ROOKERY_DATA_DIR: folder,
    ROOKERY_ADMIN_PASSWORD: 'full disks of the tests',
    ROOKERY_LOG_LEVEL: 'warn',
    ROOKERY_DISK_RESERVE_BYTES: '0',
  }
  let server: ServerProcess
  let registry: TestRegistry

  const postmaster = async () =>
    (await readFile(join(folder, 'postgres', 'cluster', 'postmaster.pid'), 'utf8')).split('\n')
  const statusOf = async (path: string) => (await registry.anonymous(path)).status

  async function start(): Promise<void> {
    server = await startProcess(settings)
    registry = registryAt(server.url, folder, settings)
  }

  async function fill(): Promise<void> {
    const file = await open(filler, 'a')
    const chunk = Buffer.alloc(1024 * 1024)
    for (const bytes of [chunk, chunk.subarray(0, 4096)]) {
      try {
        for (;;) writeSync(file.fd, bytes)
      } catch (error) {
        expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC')
      }
    }
    await file.close()
  }

  /** Writes into the log of Postgres until it has no room for the next segment, and ends. */
  async function exhaustLog(): Promise<void> {
    const [, , , port, host = ''] = await postmaster()
    const client = new pg.Client({ host, port: Number(port), user: USER, database: DATABASE })
    client.on('error', () => {})
    await client.connect()
    const write = `select pg_logical_emit_message(false, 'test', repeat('x', 4000000))`
    await expect(
      (async () => {
        for (let count = 0; count < 200; count += 1) await client.query(write)
      })(),
    ).rejects.toThrow()
    await client.end().catch(() => {})
  }

  async function expectUnavailable(): Promise<void> {
    const answer = await registry.request(`/v2/${newRepository()}/tags/list`)
    expect(answer.status).toBe(503)
    expect(answer.headers.get('retry-after')).toMatch(/^[1-9]\d*$/)
    expect(await statusOf('/readyz')).toBe(503)
    expect(await statusOf('/healthz')).toBe(200)
  }

  beforeAll(async () => {
    // Postgres runs as another user.
    await chmod(folder, 0o755)
    await start()
  })

  afterEach(() => rm(filler, { force: true }))

  afterAll(async () => {
    await stopProcess(server)
    await unmountSmallDisk(folder)
  })

  it('that ended starts again by itself when there is room, and nothing is lost', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'v1')
    await fill()
    await exhaustLog()
    await expect.poll(() => statusOf('/readyz'), { timeout: 10_000 }).toBe(503)
    const until = performance.now() + FULL_MILLISECONDS
    while (performance.now() < until) {
      await expectUnavailable()
      await delay(1000)
    }
    expect(server.child.exitCode).toBe(null)
    await rm(filler)
    const ready = { timeout: BACK_MILLISECONDS_MAX, interval: 100 }
    await expect.poll(() => statusOf('/readyz'), ready).toBe(200)
    expect(await statusOf(`/v2/${repository}/manifests/v1`)).toBe(200)
    await pushBlob(registry, newRepository())
  })

  it('that was killed starts again, then or when there is room', async () => {
    await fill()
    process.kill(Number((await postmaster())[0]), 'SIGKILL')
    await delay(3000)
    expect(server.child.exitCode).toBe(null)
    await rm(filler)
    const ready = { timeout: BACK_MILLISECONDS_MAX, interval: 100 }
    await expect.poll(() => statusOf('/readyz'), ready).toBe(200)
  })

  it('that was killed six times within a minute starts again', async () => {
    const ready = { timeout: BACK_MILLISECONDS_MAX, interval: 50 }
    for (let count = 0; count < 6; count += 1) {
      const [pid] = await postmaster()
      process.kill(Number(pid), 'SIGKILL')
      const next = async () => (await postmaster().catch(() => []))[0] ?? pid
      await expect.poll(next, ready).not.toBe(pid)
      await expect.poll(() => statusOf('/readyz'), ready).toBe(200)
    }
    expect(server.child.exitCode).toBe(null)
  })

  it('that cannot start ends the start with one line that says why', async () => {
    await fill()
    await exhaustLog()
    await stopProcess(server, 'SIGKILL')
    const { status, stderr } = await runUntilExit(settings)
    expect(status).toBe(1)
    const lines = stderr
      .trim()
      .split('\n')
      .filter((line) => !line.startsWith('{'))
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatch(/No space left on device|ENOSPC/)
    await rm(filler)
    await start()
    expect(await statusOf('/readyz')).toBe(200)
  })
})

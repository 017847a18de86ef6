import { randomBytes, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { openBlobStore } from '../../src/server/blob-store.ts'
import type { BlobStore } from '../../src/storage/blob-store.ts'
import { type Ran, rookery } from '../cli/rookery.ts'
import { newRepository, pushBlob, send, startUpload } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { waitUntil } from '../support/wait-until.ts'
import { openSweeper, type Sweeper } from './sweeper.ts'

let registry: TestRegistry
let sweeper: Sweeper
let store: BlobStore
let closeStore: () => void

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_GC_INTERVAL_SECONDS: '3600' })
  sweeper = await openSweeper(registry)
  const opened = await openBlobStore(parseConfig({ ...registry.settings }), registry.folder)
  store = opened.store
  closeStore = opened.close
})

afterAll(async () => {
  closeStore()
  await sweeper.close()
  await registry.close()
})

beforeEach(async () => {
  await sweeper.client.query(`update uploads set expires_at = now() - interval '1 second'`)
  await sweeper.sweepAll()
  for await (const held of store.list('')) await store.removeObject(held)
})

async function* one(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes
}

async function keyOf(digest: string): Promise<string> {
  const statement = 'select storage_key as key from blobs where digest = $1'
  return (await sweeper.client.query(statement, [digest])).rows[0].key
}

async function scrubbed(...options: string[]) {
  const ran = await rookery(registry, ['scrub', '--json', '--older-than', '0', ...options])
  expect(ran.stderr.replace(/^\(.*Warning[\s\S]*?created\)\n/, '')).not.toContain('rookery:')
  return { status: ran.status, report: JSON.parse(ran.stdout) }
}

it('an intact registry is clean, even while uploads are in progress', async () => {
  const repository = newRepository()
  await pushBlob(registry, repository, Buffer.alloc(0))
  await pushBlob(registry, repository, randomBytes(100))
  await pushBlob(registry, repository, randomBytes(9_000_000), 'sha512')
  const location = await startUpload(registry, repository)
  expect((await send(registry, 'PATCH', location, randomBytes(9_000_000))).status).toBe(202)
  const { status, report } = await scrubbed()
  expect(report).toMatchObject({ blobs: 3, bytes: 9_000_100, missing: 0, corrupt: 0, orphans: 0 })
  expect(report.findings).toEqual([])
  expect(status).toBe(0)
})

it('missing, corrupt and orphaned blobs are reported, and not changed', async () => {
  const repository = newRepository()
  const [missing, shorter, changed, right] = [
    await pushBlob(registry, repository),
    await pushBlob(registry, repository),
    await pushBlob(registry, repository),
    await pushBlob(registry, repository),
  ]
  await store.remove(await keyOf(missing.digest))
  await store.put(await keyOf(shorter.digest), one(shorter.bytes.subarray(1)))
  await store.put(await keyOf(changed.digest), one(randomBytes(changed.size)))
  const orphan = `written/ab/${randomUUID()}-01234567`
  await store.put(orphan, one(randomBytes(77)))
  const { status, report } = await scrubbed()
  expect(status).toBe(1)
  expect(report).toMatchObject({ blobs: 4, missing: 1, corrupt: 2, orphans: 1, orphanBytes: 77 })
  const found = (kind: string) =>
    report.findings.filter((finding: { kind: string }) => finding.kind === kind)
  expect(found('missing')).toMatchObject([{ digest: missing.digest }])
  const corrupt = found('corrupt').map(({ digest }: { digest: string }) => digest)
  expect(corrupt.sort()).toEqual([shorter.digest, changed.digest].sort())
  expect(found('orphan')).toMatchObject([{ name: expect.stringContaining(orphan) }])
  expect(await store.stat(orphan)).toBe(77)
  expect(await store.stat(await keyOf(right.digest))).toBe(right.size)
  expect((await scrubbed()).report).toMatchObject({ missing: 1, corrupt: 2, orphans: 1 })
})

it('orphans are deleted on request, unless they are young', async () => {
  const blob = await pushBlob(registry, newRepository())
  const orphan = `written/ab/${randomUUID()}-01234567`
  await store.put(orphan, one(randomBytes(77)))
  // Leftovers of an append that was never recorded, or whose upload has ended.
  const empty = await store.stage(randomUUID())
  await store.append(empty, 0, one(randomBytes(9_000_000)), false)
  const young = await rookery(registry, ['scrub', '--delete-orphans'])
  expect(young).toMatchObject({ status: 0 })
  expect(await store.stat(orphan)).toBe(77)
  const { status, report } = await scrubbed('--delete-orphans')
  expect(report.orphans).toBeGreaterThanOrEqual(2)
  expect(report.deletedOrphans).toBe(report.orphans)
  expect(status).toBe(0)
  expect(await registry.storedObjects()).toMatchObject([{ key: await keyOf(blob.digest) }])
})

it('a stopped scrub resumes at the same place, and keeps its findings', async () => {
  const repository = newRepository()
  const blobs = []
  for (let count = 0; count < 260; count += 1) blobs.push(await pushBlob(registry, repository))
  await store.remove(await keyOf(blobs[0]?.digest ?? ''))
  // 64 bytes a blob, 100 blobs a page: a page takes two seconds at this rate.
  const saved = async () => {
    const statement = `select progress ->> 'after' as after from maintenance where name = 'scrub'`
    return (await sweeper.client.query(statement)).rows[0]?.after
  }
  const slow = await rookery(registry, ['scrub', '--rate', '0.003'], (kill) => {
    void waitUntil(async () => (await saved()) !== undefined).then(() => kill('SIGTERM'))
  })
  expect(slow.status).toBe(130)
  expect(slow.stderr).toContain('stopped; run the command again to continue')
  const { status, report } = await scrubbed()
  expect(report).toMatchObject({ blobs: 260, missing: 1, corrupt: 0, orphans: 0 })
  expect(status).toBe(1)
  expect(await saved()).toBeUndefined()
})

it('two scrubs do not run at once', async () => {
  await pushBlob(registry, newRepository(), randomBytes(200_000))
  const locked = async () => {
    // `pg_locks` also has the locks of other databases.
    const statement = `select 1
                         from pg_locks
                        where locktype = 'advisory'
                          and classid = $1
                          and database = (select oid from pg_database where datname = current_database())`
    return (await sweeper.client.query(statement, [SCRUB_LOCK_CLASS])).rows.length > 0
  }
  // At this rate it takes a minute, unless it is stopped.
  let second: Ran | undefined
  const first = await rookery(registry, ['scrub', '--rate', '0.003'], (kill) => {
    void waitUntil(locked).then(async () => {
      second = await rookery(registry, ['scrub'])
      kill('SIGTERM')
    })
  })
  expect(first.status).toBe(130)
  expect(second).toMatchObject({ status: 2, stdout: '' })
  expect(second?.stderr).toContain('another process is running scrub')
})

const SCRUB_LOCK_CLASS = 0x6d61696e

import { randomBytes } from 'node:crypto'
import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { createLog } from '../../src/server/log.ts'
import { type RunningServer, startServer } from '../../src/server/server.ts'
import { rookery } from '../cli/rookery.ts'
import { pushBlob, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { countObjects, createBucket, s3Client, s3Server, s3Settings } from '../support/s3.ts'
import { waitUntil } from '../support/wait-until.ts'

const ON_DISK = { ROOKERY_S3_BUCKET: '', ROOKERY_S3_ENDPOINT: '' }
const COPY = ['storage', 'copy', '--from', 'filesystem', '--to', 's3', '--json']

let registry: TestRegistry
let bucket: string
let settings: Record<string, string>
let client: pg.Client

/** A registry on files, and its settings after the move. */
beforeAll(async () => {
  registry = await startRegistry(ON_DISK)
  bucket = await createBucket()
  settings = { ...registry.settings, ...s3Settings(bucket) }
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
})

afterAll(async () => {
  await client.end()
  await registry.close()
})

async function copied() {
  const ran = await rookery({ settings }, COPY)
  return { status: ran.status, report: JSON.parse(ran.stdout), stderr: ran.stderr }
}

async function keyOf(digest: string): Promise<string> {
  const { rows } = await client.query('select storage_key as key from blobs where digest = $1', [
    digest,
  ])
  return rows[0].key
}

it('a registry on files moves to a bucket while it runs, and has everything', async () => {
  const repository = 'moving/house'
  const blobs = [
    await pushBlob(registry, repository, Buffer.alloc(0)),
    await pushBlob(registry, repository, randomBytes(20_000_000)),
    await pushBlob(registry, repository, randomBytes(1000), 'sha512'),
  ]
  for (let count = 0; count < 120; count += 1) blobs.push(await pushBlob(registry, repository))
  await pushImage(registry, repository, 'live')
  const first = await copied()
  expect(first).toMatchObject({ status: 0, report: { blobs: 125, present: 0, failures: [] } })
  // The registry runs meanwhile; the next run only copies new blobs.
  const late = await pushBlob(registry, repository)
  const second = await copied()
  expect(second).toMatchObject({ status: 0, report: { blobs: 1, present: 0 } })
  const all = await rookery({ settings }, [...COPY, '--restart'])
  expect(JSON.parse(all.stdout)).toMatchObject({ blobs: 126, present: 126, failures: [] })

  const moved = await startServer(parseConfig(settings), createLog('silent'), () => {})
  try {
    for (const blob of [...blobs, late]) {
      const bytes = await read(moved, repository, blob.digest)
      expect(bytes.equals(blob.bytes)).toBe(true)
    }
  } finally {
    await moved.close()
  }
  const scrub = await rookery({ settings }, ['scrub', '--json', '--older-than', '0'])
  expect(JSON.parse(scrub.stdout)).toMatchObject({ blobs: 126, missing: 0, corrupt: 0, orphans: 0 })
  expect(scrub.status).toBe(0)
})

async function read(server: RunningServer, repository: string, digest: string): Promise<Buffer> {
  const answer = await fetch(`${server.url}/v2/${repository}/blobs/${digest}`)
  expect(answer.status).toBe(200)
  return Buffer.from(await answer.arrayBuffer())
}

it('missing and corrupt blobs of the source are reported and not copied; the next run repeats them', async () => {
  const repository = 'moving/broken'
  const [missing, corrupt] = [
    await pushBlob(registry, repository),
    await pushBlob(registry, repository),
  ]
  const pathOf = async (digest: string) => join(registry.folder, 'blobs', await keyOf(digest))
  await writeFile(await pathOf(corrupt.digest), randomBytes(corrupt.size))
  const away = `${await pathOf(missing.digest)}.away`
  await rename(await pathOf(missing.digest), away)
  const broken = await copied()
  expect(broken.status).toBe(1)
  const failures = [
    { digest: missing.digest, reason: 'missing', lost: false },
    { digest: corrupt.digest, reason: 'corrupt', lost: false },
  ]
  expect(broken.report.failures).toHaveLength(failures.length)
  expect(broken.report.failures).toEqual(
    expect.arrayContaining(failures.map((failure) => expect.objectContaining(failure))),
  )
  await rename(away, await pathOf(missing.digest))
  await writeFile(await pathOf(corrupt.digest), corrupt.bytes)
  expect(await copied()).toMatchObject({ status: 0, report: { blobs: 2, failures: [] } })
})

it('a blob whose bytes a push replaced after it was copied is copied again', async () => {
  const repository = 'moving/lost'
  const blob = await pushBlob(registry, repository)
  expect(await copied()).toMatchObject({ status: 0 })
  await rm(join(registry.folder, 'blobs', await keyOf(blob.digest)))
  await pushBlob(registry, repository, blob.bytes)
  expect(await copied()).toMatchObject({ status: 0, report: { blobs: 1, present: 0 } })
  expect(await copied()).toMatchObject({ status: 0, report: { blobs: 1, present: 1 } })
  const moved = await startServer(parseConfig(settings), createLog('silent'), () => {})
  try {
    expect((await read(moved, repository, blob.digest)).equals(blob.bytes)).toBe(true)
  } finally {
    await moved.close()
  }
})

it('a copy into the bucket of another registry, or with bytes of others, is refused', async () => {
  const foreign = await createBucket()
  const s3 = s3Client(s3Server())
  const put = (Key: string, Body: string) =>
    s3.send(new PutObjectCommand({ Bucket: foreign, Key, Body }))
  const into = () => rookery({ settings: { ...settings, ...s3Settings(foreign) } }, COPY)
  await put('blobs/docker/registry/v2/blobs/x/data', 'bytes of somebody')
  const bytes = await into()
  expect(bytes).toMatchObject({ status: 2, stdout: '' })
  expect(bytes.stderr).toContain('does not know, such as object docker/registry')
  await put('blobs/installation', 'c0ffee00-0000-4000-8000-000000000000')
  const marked = await into()
  expect(marked).toMatchObject({ status: 2, stdout: '' })
  expect(marked.stderr).toContain('c0ffee00-0000-4000-8000-000000000000')
  s3.destroy()
})

it('what a server left that was killed as it started is not the bytes of others', async () => {
  const target = await createBucket()
  const s3 = s3Client(s3Server())
  await s3.send(
    new PutObjectCommand({
      Bucket: target,
      Key: 'blobs/write-check',
      Body: 'can this be written?',
    }),
  )
  s3.destroy()
  const ran = await rookery({ settings: { ...settings, ...s3Settings(target) } }, COPY)
  expect(ran).toMatchObject({ status: 0, stderr: '' })
})

it('a copy that was killed resumes, and repeats the unfinished page', async () => {
  const repository = 'moving/killed'
  const blobs = []
  for (let count = 0; count < 12; count += 1) {
    blobs.push(await pushBlob(registry, repository, randomBytes(12_000_000)))
  }
  const before = await countObjects(bucket)
  const killed = await rookery({ settings }, COPY, (kill) => {
    void waitUntil(async () => (await countObjects(bucket)) > before).then(() => kill('SIGKILL'))
  })
  expect(killed.status).not.toBe(0)
  expect(await copied()).toMatchObject({ status: 0, report: { failures: [] } })
  const moved = await startServer(parseConfig(settings), createLog('silent'), () => {})
  try {
    for (const { digest, bytes } of blobs) {
      expect((await read(moved, repository, digest)).equals(bytes)).toBe(true)
    }
  } finally {
    await moved.close()
  }
})

it('a copy from a bucket back to files works, too', async () => {
  const moved = await startRegistry()
  try {
    const blob = await pushBlob(moved, 'moving/back', randomBytes(9_000_000))
    const back = ['storage', 'copy', '--from', 's3', '--to', 'filesystem', '--json']
    const ran = await rookery(moved, back)
    expect(JSON.parse(ran.stdout)).toMatchObject({ blobs: 1, failures: [] })
    const onDisk = { ...moved.settings, ...ON_DISK }
    const server = await startServer(parseConfig(onDisk), createLog('silent'), () => {})
    expect((await read(server, 'moving/back', blob.digest)).equals(blob.bytes)).toBe(true)
    await server.close()
  } finally {
    await moved.close()
  }
})

import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { digestOf } from '../support/digest.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import { createBucket, s3Settings } from '../support/s3.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'

const REPLICAS = 3
const PASSWORD = 'three of a kind by the tests'
const AUTHORIZATION = `Basic ${Buffer.from(`admin:${PASSWORD}`).toString('base64')}`

let database: TestDatabase
let folder: string
let servers: ServerProcess[]

/** Three processes that share only Postgres and a bucket. */
beforeAll(async () => {
  database = await createTestDatabase()
  folder = await mkdtemp(join(tmpdir(), 'rookery-replicas-'))
  const shared = {
    ...s3Settings(await createBucket()),
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_ADMIN_PASSWORD: PASSWORD,
    ROOKERY_MASTER_KEY_FILE: join(folder, 'master-key'),
  }
  servers = await Promise.all(
    Array.from({ length: REPLICAS }, (_, index) =>
      startProcess({ ...shared, ROOKERY_DATA_DIR: join(folder, String(index)) }),
    ),
  )
})

afterAll(async () => {
  const statuses = await Promise.all(servers.map((server) => stopProcess(server)))
  await database.drop()
  await rm(folder, { recursive: true, force: true })
  expect(statuses).toEqual(servers.map(() => 0))
})

function ask(replica: number, path: string, init: RequestInit = {}): Promise<Response> {
  const url = new URL(path, servers[replica % REPLICAS]?.url)
  const headers = { authorization: AUTHORIZATION, ...(init.headers as object) }
  return fetch(url, { ...init, headers })
}

async function startUpload(replica: number, repository: string): Promise<string> {
  const answer = await ask(replica, `/v2/${repository}/blobs/uploads/`, { method: 'POST' })
  expect(answer.status).toBe(202)
  return answer.headers.get('location') ?? ''
}

function send(
  replica: number,
  method: string,
  location: string,
  bytes: Buffer,
  start?: number,
): Promise<Response> {
  const range =
    start === undefined ? {} : { 'content-range': `${start}-${start + bytes.length - 1}` }
  return ask(replica, location, { method, headers: range, body: new Uint8Array(bytes) })
}

async function pulled(replica: number, repository: string, digest: string): Promise<Buffer> {
  const answer = await ask(replica, `/v2/${repository}/blobs/${digest}`)
  expect(answer.status).toBe(200)
  return Buffer.from(await answer.arrayBuffer())
}

it.each([
  ['small', [100, 200, 300]],
  ['large', [9_000_000, 12_345_678, 8_388_608]],
  ['mixed', [10, 20_000_000, 0]],
])('an upload of %s chunks continues and ends on other replicas', async (_size, sizes) => {
  const repository = 'replicas/upload'
  const bytes = randomBytes(sizes.reduce((sum, size) => sum + size, 0))
  const location = await startUpload(0, repository)
  let sent = 0
  for (const [index, size] of sizes.entries()) {
    const status = await ask(index + 1, location)
    expect(status.headers.get('range')).toBe(`0-${Math.max(0, sent - 1)}`)
    const chunk = bytes.subarray(sent, sent + size)
    if (index < sizes.length - 1) {
      const answer = await send(index, 'PATCH', location, chunk, sent)
      expect(answer.status).toBe(202)
    } else {
      const end = `${location}?digest=${digestOf(bytes)}`
      expect((await send(index, 'PUT', end, chunk)).status).toBe(201)
    }
    sent += size
  }
  for (let replica = 0; replica < REPLICAS; replica += 1) {
    expect((await pulled(replica, repository, digestOf(bytes))).equals(bytes)).toBe(true)
  }
})

it('a wrong digest of chunks from several replicas is refused, and nothing is kept', async () => {
  const repository = 'replicas/wrong'
  const bytes = randomBytes(9_000_000)
  const location = await startUpload(0, repository)
  expect((await send(1, 'PATCH', location, bytes)).status).toBe(202)
  const other = digestOf('something else')
  const refused = await send(2, 'PUT', `${location}?digest=${other}`, randomBytes(10))
  expect(refused.status).toBe(400)
  expect(await refused.json()).toMatchObject({ errors: [{ code: 'DIGEST_INVALID' }] })
  const look = await ask(0, `/v2/${repository}/blobs/${other}`, { method: 'HEAD' })
  expect(look.status).toBe(404)
})

it('one of two concurrent chunks on two replicas is accepted, and the other client can continue', async () => {
  const repository = 'replicas/race'
  for (let round = 0; round < 10; round += 1) {
    const location = await startUpload(round, repository)
    const chunks = [randomBytes(300_000), randomBytes(400_000)]
    const answers = await Promise.all(
      chunks.map((chunk, index) => send(round + index, 'PATCH', location, chunk, 0)),
    )
    const statuses = answers.map(({ status }) => status).sort()
    expect(statuses[0]).toBe(202)
    // Busy, or out of order.
    expect([416, 503]).toContain(statuses[1])
    const winner = chunks[answers.findIndex(({ status }) => status === 202)] as Buffer
    const rest = randomBytes(1000)
    const whole = Buffer.concat([winner, rest])
    const end = `${location}?digest=${digestOf(whole)}`
    expect((await send(round + 2, 'PUT', end, rest, winner.length)).status).toBe(201)
    expect((await pulled(round, repository, digestOf(whole))).equals(whole)).toBe(true)
  }
})

it('after one replica moves a tag, every other replica serves the new digest at once', async () => {
  const repository = 'replicas/tag'
  const config = randomBytes(100)
  const uploads = `/v2/${repository}/blobs/uploads/?digest=${digestOf(config)}`
  expect((await send(0, 'POST', uploads, config)).status).toBe(201)
  for (let move = 0; move < 30; move += 1) {
    const descriptor = {
      mediaType: 'application/octet-stream',
      size: 100,
      digest: digestOf(config),
    }
    const manifest = JSON.stringify({
      schemaVersion: 2,
      mediaType: IMAGE_MANIFEST,
      config: descriptor,
      layers: [descriptor],
      annotations: { move: String(move) },
    })
    const put = await ask(move, `/v2/${repository}/manifests/live`, {
      method: 'PUT',
      headers: { 'content-type': IMAGE_MANIFEST },
      body: manifest,
    })
    expect(put.status).toBe(201)
    for (let replica = 0; replica < REPLICAS; replica += 1) {
      const answer = await ask(replica, `/v2/${repository}/manifests/live`)
      expect(await answer.text()).toBe(manifest)
    }
  }
})

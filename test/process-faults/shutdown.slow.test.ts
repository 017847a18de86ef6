import { randomBytes } from 'node:crypto'
import { Agent, get } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { basic, RawClient, RawConnection, requestBytes } from '../support/raw-client.ts'
import { KillableServer, PASSWORD } from './killable-server.ts'

const BLOB_BYTES = 512 * 1024
const SLOW_MILLISECONDS = 500
// Shutdowns that do not wait for this limit end long before it, also on a busy machine.
const DRAIN_SECONDS = 20
const SHORT_DRAIN_SECONDS = 2
// Time to close the pool and exit, on a busy machine.
const LEAVE_MILLISECONDS_MAX = 10_000
const HEADERS = { Authorization: basic(PASSWORD) }

let server: KillableServer
let open: { close(): void }[] = []

afterEach(async () => {
  for (const connection of open) connection.close()
  open = []
  await server.dispose()
})

async function begin(
  drainSeconds = DRAIN_SECONDS,
  database: 'external' | 'embedded' = 'external',
): Promise<void> {
  server = await KillableServer.create(database, {
    ROOKERY_DRAIN_SECONDS: String(drainSeconds),
    ROOKERY_LOG_LEVEL: 'info',
  })
  await server.start()
}

async function connection(): Promise<RawConnection> {
  const made = await RawConnection.open(server.url)
  open.push(made)
  return made
}

/** Starts an upload of one request, and sends half of it. */
async function halfUpload(content: Buffer): Promise<{ upload: RawConnection; rest: Buffer }> {
  const upload = await connection()
  const bytes = requestBytes({
    method: 'POST',
    target: `/v2/slow/upload/blobs/uploads/?digest=${digestOf(content)}`,
    headers: HEADERS,
    body: content,
  })
  const half = bytes.length - Math.floor(content.length / 2)
  await upload.send(bytes.subarray(0, half))
  await uploadsBegun(1)
  return { upload, rest: bytes.subarray(half) }
}

/** Waits until so many requests write to an upload. */
async function uploadsBegun(count: number): Promise<void> {
  const db = await server.database()
  await expect
    .poll(
      async () => (await db.query('select id from uploads where lease is not null')).rows.length,
      { interval: 10 },
    )
    .toBe(count)
  await db.end()
}

async function isRefused(): Promise<boolean> {
  try {
    const probe = await RawConnection.open(server.url)
    probe.close()
    return false
  } catch (error) {
    expect(error).toMatchObject({ code: 'ECONNREFUSED' })
    return true
  }
}

/** Sends SIGTERM; resolves with the exit status and the duration. */
async function terminate(): Promise<{ status: number | null; milliseconds: number }> {
  const begun = performance.now()
  server.signal('SIGTERM')
  const status = await server.ended()
  return { status, milliseconds: performance.now() - begun }
}

it('an upload that runs at SIGTERM is finished, acknowledged and stored', async () => {
  await begin()
  const content = randomBytes(BLOB_BYTES)
  const { upload, rest } = await halfUpload(content)
  const ending = terminate()
  await expect.poll(isRefused, { interval: 10 }).toBe(true)
  await delay(SLOW_MILLISECONDS)
  await upload.send(rest)
  const answer = await upload.answer()
  expect(answer.status).toBe(201)
  await upload.closed
  const { status, milliseconds } = await ending
  expect(status).toBe(0)
  expect(milliseconds).toBeLessThan(LEAVE_MILLISECONDS_MAX)
  server.expectNoErrors()

  await server.start()
  const client = new RawClient(server.url)
  open.push(client)
  const target = `/v2/slow/upload/blobs/${digestOf(content)}`
  const { body } = await client.request({ method: 'GET', target })
  expect(body.equals(content)).toBe(true)
})

it('a download that runs at SIGTERM arrives whole', async () => {
  await begin()
  const client = new RawClient(server.url)
  open.push(client)
  const content = randomBytes(16 * 1024 * 1024)
  const target = `/v2/slow/download/blobs/uploads/?digest=${digestOf(content)}`
  const pushed = await client.request({ method: 'POST', target, headers: HEADERS, body: content })
  expect(pushed.status).toBe(201)
  client.close()
  const download = await connection()
  await download.send(
    requestBytes({ method: 'GET', target: `/v2/slow/download/blobs/${digestOf(content)}` }),
  )
  await new Promise((resolve) => download.socket.once('data', resolve))
  download.socket.pause()
  const ending = terminate()
  await expect.poll(isRefused, { interval: 10 }).toBe(true)
  download.socket.resume()
  const { status, body } = await download.answer()
  expect(status).toBe(200)
  expect(body.equals(content)).toBe(true)
  expect((await ending).status).toBe(0)
  server.expectNoErrors()
})

it('an upload without progress is cut at the limit, and can continue at once', async () => {
  await begin(SHORT_DRAIN_SECONDS)
  const content = randomBytes(BLOB_BYTES)
  const client = new RawClient(server.url)
  open.push(client)
  const target = '/v2/stalled/upload/blobs/uploads/'
  const { headers } = await client.request({ method: 'POST', target, headers: HEADERS })
  const location = headers.get('location') ?? ''
  const stalled = await connection()
  const chunk = { method: 'PATCH', target: location, headers: HEADERS, body: content }
  await stalled.send(requestBytes(chunk).subarray(0, BLOB_BYTES / 2))
  await uploadsBegun(1)

  const { status, milliseconds } = await terminate()
  expect(status).toBe(0)
  expect(milliseconds).toBeGreaterThan(SHORT_DRAIN_SECONDS * 1000 - 100)
  expect(milliseconds).toBeLessThan(SHORT_DRAIN_SECONDS * 1000 + LEAVE_MILLISECONDS_MAX)
  await stalled.closed
  server.expectNoErrors()

  await server.start()
  const again = new RawClient(server.url)
  open.push(again)
  expect((await again.request({ ...chunk, method: 'PATCH' })).status).toBe(202)
})

it('a stop of the embedded Postgres under requests in flight logs that it stops, and nothing else', async () => {
  await begin(SHORT_DRAIN_SECONDS, 'embedded')
  const client = new RawClient(server.url)
  open.push(client)
  const target = '/v2/stalled/upload/blobs/uploads/'
  const { headers } = await client.request({ method: 'POST', target, headers: HEADERS })
  const location = headers.get('location') ?? ''
  const chunk = {
    method: 'PATCH',
    target: location,
    headers: HEADERS,
    body: randomBytes(BLOB_BYTES),
  }
  await (await connection()).send(requestBytes(chunk).subarray(0, BLOB_BYTES / 2))
  await uploadsBegun(1)
  const feed = { method: 'GET', target: '/api/v1/events', headers: HEADERS }
  await (await connection()).send(requestBytes(feed))
  const questions = Array.from({ length: 8 }, () =>
    fetch(`${server.url}/v2/_catalog`, { headers: HEADERS }),
  )
  const settled = Promise.allSettled(questions)
  expect((await terminate()).status).toBe(0)
  await settled
  expect(server.errors.split('\n').filter((line) => /"level":"(?:warn|error)"/.test(line))).toEqual(
    [],
  )
  expect(server.errors).not.toContain('administrator command')
  expect(server.errors).toMatch(/"msg":"stopping"/)
  expect(server.errors.trim().split('\n').at(-1)).toContain('"msg":"stopped"')
})

it('two signals have the same effect as one', async () => {
  await begin()
  const content = randomBytes(BLOB_BYTES)
  const { upload, rest } = await halfUpload(content)
  const ending = terminate()
  await expect.poll(isRefused, { interval: 10 }).toBe(true)
  server.signal('SIGTERM')
  server.signal('SIGINT')
  await upload.send(rest)
  expect((await upload.answer()).status).toBe(201)
  expect((await ending).status).toBe(0)
})

it('connections that are kept alive do not delay the end', async () => {
  await begin()
  const agent = new Agent({ keepAlive: true, maxSockets: 16 })
  const statuses = await Promise.all(
    Array.from(
      { length: 16 },
      () =>
        new Promise<number | undefined>((resolve, reject) => {
          get(`${server.url}/healthz`, { agent }, (res) => {
            res.resume().once('end', () => resolve(res.statusCode))
          }).once('error', reject)
        }),
    ),
  )
  expect(statuses).toEqual(Array.from({ length: 16 }, () => 200))
  const { status, milliseconds } = await terminate()
  agent.destroy()
  expect(status).toBe(0)
  expect(milliseconds).toBeLessThan(LEAVE_MILLISECONDS_MAX)
})

it.each([
  ['nothing', ''],
  ['half a header', 'GET /v2/ HTTP/1.1\r\nHost: regist'],
])('a connection that sent %s does not delay the end', async (_name, sent) => {
  await begin()
  await (await connection()).send(sent)
  const { status, milliseconds } = await terminate()
  expect(status).toBe(0)
  expect(milliseconds).toBeLessThan(LEAVE_MILLISECONDS_MAX)
})

import { randomBytes } from 'node:crypto'
import { readdir, readlink, rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { afterEach, beforeEach, expect, it, onTestFinished } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import { basic, NoAnswerError, requestBytes } from '../support/raw-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { Connections, codeOf, MANIFEST_BYTES_MAX, MIB } from './raw-connections.ts'

const HEADER_BYTES_MAX = 64 * 1024

let registry: TestRegistry
const connections = new Connections()
const connect = () => connections.open(registry.url)

beforeEach(async () => {
  registry = await startRegistry()
})

afterEach(async () => {
  connections.close()
  await registry.close()
})

/** Pushes a blob and returns its path. */
async function push(content: Uint8Array): Promise<string> {
  const path = `/v2/wire/test/blobs/uploads/?digest=${digestOf(content)}`
  const answer = await registry.request(path, { method: 'POST', body: new Uint8Array(content) })
  expect(answer.status).toBe(201)
  return `/v2/wire/test/blobs/${digestOf(content)}`
}

/** Returns the file of a blob. */
async function fileOf(content: Uint8Array): Promise<string> {
  const db = new pg.Client(registry.databaseUrl)
  await db.connect()
  const { rows } = await db.query('select storage_key as key from blobs where digest = $1', [
    digestOf(content),
  ])
  await db.end()
  return join(registry.folder, 'blobs', rows[0].key)
}

/** Returns the targets of this process's file descriptors. */
async function descriptors(): Promise<string[]> {
  const names = await readdir('/proc/self/fd')
  return Promise.all(names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => '')))
}

/** Returns the open files of this process in the registry's folder. */
async function openFiles(): Promise<string[]> {
  return (await descriptors()).filter((path) => path.startsWith(registry.folder))
}

async function openSockets(): Promise<number> {
  return (await descriptors()).filter((path) => path.startsWith('socket:')).length
}

async function expectNothingLeaked(socketsBefore: number): Promise<void> {
  await expect.poll(openFiles).toEqual([])
  await expect.poll(openSockets).toBeLessThanOrEqual(socketsBefore)
}

const LOST = 'the store lost the bytes of this blob'

function errorsLogged(): string[] {
  return registry.log.filter((line) => line.includes('"level":"error"'))
}

it('Expect: a wrong password is refused without 100 Continue', async () => {
  const content = randomBytes(100)
  const connection = await connect()
  await connection.send(
    requestBytes({
      method: 'POST',
      target: `/v2/wire/test/blobs/uploads/?digest=${digestOf(content)}`,
      headers: {
        Authorization: basic('wrong'),
        Expect: '100-continue',
        'Content-Length': String(content.length),
      },
    }),
  )
  const answer = await connection.answer()
  expect(answer.status).toBe(401)
  expect(answer.headers.get('www-authenticate')).toBeDefined()
  expect(codeOf(answer)).toBe('UNAUTHORIZED')
  await connection.closed
})

it('Expect: with the right password 100 Continue is sent, and the upload finishes', async () => {
  const content = randomBytes(100_000)
  const connection = await connect()
  await connection.send(
    requestBytes({
      method: 'POST',
      target: `/v2/wire/test/blobs/uploads/?digest=${digestOf(content)}`,
      headers: {
        Authorization: basic(registry.password),
        Expect: '100-continue',
        'Content-Length': String(content.length),
      },
    }),
  )
  expect((await connection.answer()).status).toBe(100)
  await connection.send(content)
  expect((await connection.answer()).status).toBe(201)
  // The connection can be reused.
  await connection.send(
    requestBytes({ method: 'GET', target: `/v2/wire/test/blobs/${digestOf(content)}` }),
  )
  expect((await connection.answer()).body.equals(content)).toBe(true)
})

it('Expect: a manifest that is too large is refused without 100 Continue', async () => {
  const connection = await connect()
  await connection.send(
    requestBytes({
      method: 'PUT',
      target: '/v2/wire/test/manifests/large',
      headers: {
        Authorization: basic(registry.password),
        Expect: '100-continue',
        'Content-Type': IMAGE_MANIFEST,
        'Content-Length': String(MANIFEST_BYTES_MAX + 1),
      },
    }),
  )
  const answer = await connection.answer()
  expect(answer.status).toBe(413)
  expect(codeOf(answer)).toBe('PAYLOAD_TOO_LARGE')
})

it('pipelined downloads are answered in order', async () => {
  const contents = [randomBytes(2 * MIB), randomBytes(10), randomBytes(MIB)]
  const requests = []
  for (const content of contents) {
    requests.push(requestBytes({ method: 'GET', target: await push(content) }))
  }
  const connection = await connect()
  await connection.send(Buffer.concat(requests))
  for (const content of contents) {
    expect((await connection.answer()).body.equals(content)).toBe(true)
  }
})

it('pipelined downloads leak nothing when the client disconnects, and no warning says so', async () => {
  const warnings: string[] = []
  const onWarning = ({ message }: Error) => warnings.push(message)
  process.on('warning', onWarning)
  onTestFinished(() => void process.off('warning', onWarning))
  const path = await push(randomBytes(2 * MIB))
  const sockets = await openSockets()
  const request = requestBytes({ method: 'GET', target: path })
  for (let round = 0; round < 10; round += 1) {
    const connection = await connect()
    await connection.send(Buffer.concat(Array.from({ length: 20 }, () => request)))
    await Promise.race([
      new Promise((resolve) => connection.socket.once('data', resolve)),
      connection.closed,
    ])
    connection.close()
  }
  await expectNothingLeaked(sockets)
  expect(errorsLogged()).toEqual([])
  expect(warnings).toEqual([])
})

it('a client that disconnects in the middle of a download of 64 MiB leaves nothing open', async () => {
  const content = Buffer.alloc(64 * MIB, 'unikernel')
  const path = await push(content)
  const sockets = await openSockets()
  for (let round = 0; round < 8; round += 1) {
    const connection = await connect()
    await connection.send(requestBytes({ method: 'GET', target: path }))
    await new Promise((resolve) => connection.socket.once('data', resolve))
    connection.socket.pause()
    if (round % 2 === 0) connection.socket.resetAndDestroy()
    else connection.close()
  }
  await expectNothingLeaked(sockets)
  expect(errorsLogged()).toEqual([])
})

it('a client that disconnects in the middle of an upload leaves nothing open, and no lease', async () => {
  const start = await registry.request('/v2/wire/test/blobs/uploads/', { method: 'POST' })
  const location = start.headers.get('location') ?? ''
  const sockets = await openSockets()
  const patch = { method: 'PATCH', target: location, body: randomBytes(MIB) }
  for (let round = 0; round < 5; round += 1) {
    const connection = await connect()
    const headers = { Authorization: basic(registry.password) }
    await connection.send(requestBytes({ ...patch, headers }).subarray(0, MIB / 2))
    await expect.poll(openFiles).toHaveLength(1)
    connection.close()
    await expectNothingLeaked(sockets)
    const status = await registry.request(location)
    expect(status.headers.get('range')).toBe('0-0')
  }
  await expect
    .poll(async () => {
      const { method, body } = patch
      return (await registry.request(location, { method, body: new Uint8Array(body) })).status
    })
    .toBe(202)
  expect(errorsLogged()).toEqual([])
})

it('headers larger than 64 KiB: 431', async () => {
  const connection = await connect()
  const headers = { Authorization: `Bearer ${'a'.repeat(HEADER_BYTES_MAX)}` }
  await connection.send(requestBytes({ method: 'GET', target: '/v2/', headers }))
  const answer = await connection.answer()
  expect(answer.status).toBe(431)
  expect(codeOf(answer)).toBe('REQUEST_INVALID')
  await connection.closed
})

it('headers of 60 KiB are read', async () => {
  const connection = await connect()
  const headers = { Authorization: `Bearer ${'a'.repeat(60 * 1024)}` }
  await connection.send(requestBytes({ method: 'GET', target: '/v2/', headers }))
  expect((await connection.answer()).status).toBe(401)
})

it.each([
  ['no HTTP', 'hello\r\n\r\n'],
  ['TLS', Buffer.from('16030100050100000103030000', 'hex')],
  ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['a space in the path', 'GET /v2/a b HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['a header without a colon', 'GET /v2/ HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n'],
  ['a NUL in a header', 'GET /v2/ HTTP/1.1\r\nHost: a\r\nX-A: \0\r\n\r\n'],
  [
    'two lengths',
    'POST /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
  ],
  ['a length below 0', 'POST /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n'],
  [
    'a length and chunks',
    'POST /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  ['no host', 'GET /v2/ HTTP/1.1\r\n\r\n'],
  ['an unknown method', 'FETCH /v2/ HTTP/1.1\r\nHost: a\r\n\r\n'],
])('a malformed request (%s): 400, and the connection closes', async (_name, bytes) => {
  const connection = await connect()
  await connection.send(bytes)
  expect((await connection.answer()).status).toBe(400)
  await connection.closed
})

it('malformed chunks within an upload: the upload can continue', async () => {
  const start = await registry.request('/v2/wire/test/blobs/uploads/', { method: 'POST' })
  const location = start.headers.get('location') ?? ''
  const connection = await connect()
  await connection.send(
    requestBytes({
      method: 'PATCH',
      target: location,
      headers: { Authorization: basic(registry.password), 'Transfer-Encoding': 'chunked' },
    }),
  )
  await connection.send('5\r\nhello\r\nno size\r\n')
  await connection.closed
  await expect
    .poll(async () => (await registry.request(location, { method: 'PATCH', body: 'x' })).status)
    .toBe(202)
  const status = await registry.request(location)
  expect(status.headers.get('range')).toBe('0-0')
})

it('a blob that is truncated on disk causes a broken connection, and an error in the log', async () => {
  const content = randomBytes(12 * MIB)
  const path = await push(content)
  await truncate(await fileOf(content), 5 * MIB)
  const connection = await connect()
  await connection.send(requestBytes({ method: 'GET', target: path }))
  await expect(connection.answer()).rejects.toBeInstanceOf(NoAnswerError)
  await expect.poll(errorsLogged).toHaveLength(1)
  expect(errorsLogged()[0]).toContain(LOST)
  expect(await openFiles()).toEqual([])
})

it('a blob whose file is missing is unknown: 404 and one error in the log', async () => {
  const content = randomBytes(1000)
  const path = await push(content)
  await rm(await fileOf(content))
  for (const headers of [{}, { Range: 'bytes=10-19' }]) {
    const connection = await connect()
    await connection.send(requestBytes({ method: 'GET', target: path, headers }))
    const answer = await connection.answer()
    expect(answer.status).toBe(404)
    expect(codeOf(answer)).toBe('BLOB_UNKNOWN')
    expect(answer.headers.has('docker-content-digest')).toBe(false)
    expect(answer.headers.has('content-range')).toBe(false)
  }
  expect(errorsLogged()).toHaveLength(1)
  expect(errorsLogged()[0]).toContain(LOST)
})

import { once } from 'node:events'
import net from 'node:net'
import pg from 'pg'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import { basic, requestBytes } from '../support/raw-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { Connections, codeOf, MANIFEST_BYTES_MAX, MIB } from './raw-connections.ts'

// Bytes that the buffers of both kernels, and one read of the server, may accept.
const SWALLOWED_BYTES_MAX = 24 * MIB
const CLOSE_MILLISECONDS_MAX = 10_000

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

it.each([
  ['a wrong password', 401, 'POST', `blobs/uploads/?digest=sha256:${'0'.repeat(64)}`, 'wrong'],
  ['a digest that is none', 400, 'POST', 'blobs/uploads/?digest=sha256:0', undefined],
  ['no such upload', 404, 'PATCH', 'blobs/uploads/0b5e8a0e-0000-4000-8000-000000000000', undefined],
  ['a manifest too large', 413, 'PUT', 'manifests/large', undefined],
  ['no such path', 404, 'PUT', 'nothing/here', undefined],
] as const)(
  'an early refusal (%s) is read, the rest of the body is not, and the connection closes',
  async (_name, status, method, path, password) => {
    const connection = await connect()
    const { socket } = connection
    await connection.send(
      requestBytes({
        method,
        target: `/v2/wire/test/${path}`,
        headers: {
          Authorization: basic(password ?? registry.password),
          'Content-Length': String(1024 * MIB),
        },
      }),
    )
    const block = Buffer.alloc(MIB)
    const pour = (): void => {
      while (connection.usable && socket.write(block));
      if (connection.usable) socket.once('drain', pour)
    }
    pour()
    const answer = await connection.answer()
    const answeredAt = performance.now()
    expect(answer.status).toBe(status)
    codeOf(answer)
    await connection.closed
    expect(performance.now() - answeredAt).toBeLessThan(CLOSE_MILLISECONDS_MAX)
    expect(socket.bytesWritten - socket.writableLength).toBeLessThan(SWALLOWED_BYTES_MAX)
  },
)

it('a client that still sends during the refusal gets no reset, and the rest is not parsed as a request', async () => {
  const { hostname, port } = new URL(registry.url)
  // Like a proxy, it continues to send after the other side ended.
  const socket = net.connect({ host: hostname, port: Number(port), allowHalfOpen: true })
  const errors: Error[] = []
  socket.on('error', (error) => errors.push(error))
  let received = ''
  socket.on('data', (chunk) => {
    received += chunk
  })
  const target = '/v2/wire/test/blobs/uploads/'
  const headers = { Authorization: basic('wrong'), 'Content-Length': String(4 * MIB) }
  socket.write(requestBytes({ method: 'POST', target, headers }))
  await once(socket, 'end')
  expect(received).toMatch(/^HTTP\/1\.1 401 /)
  for (let sent = 0; sent < 4; sent += 1) {
    socket.write(Buffer.alloc(MIB))
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  const right = { Authorization: basic(registry.password) }
  socket.end(requestBytes({ method: 'POST', target, headers: right }))
  await once(socket, 'close')
  expect(errors).toEqual([])
  expect(received.match(/HTTP\/1\.1 /g)).toHaveLength(1)
  const db = new pg.Client(registry.databaseUrl)
  await db.connect()
  expect((await db.query('select id from uploads')).rows).toEqual([])
  await db.end()
})

it('a chunked manifest that becomes too large is refused before its end', async () => {
  const connection = await connect()
  await connection.send(
    requestBytes({
      method: 'PUT',
      target: '/v2/wire/test/manifests/large',
      headers: {
        Authorization: basic(registry.password),
        'Content-Type': IMAGE_MANIFEST,
        'Transfer-Encoding': 'chunked',
      },
    }),
  )
  for (let sent = 0; sent <= MANIFEST_BYTES_MAX; sent += MIB) {
    void connection.send(`${MIB.toString(16)}\r\n`)
    void connection.send(Buffer.alloc(MIB, ' '))
    void connection.send('\r\n')
  }
  const answer = await connection.answer()
  expect(answer.status).toBe(413)
  await connection.closed
})

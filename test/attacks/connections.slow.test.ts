import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { basic, RawConnection, requestBytes } from '../support/raw-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const MIB = 1024 * 1024
const SLOW_SECONDS = 2
const PER_ADDRESS = 60
const CUT_MILLISECONDS_MAX = 20_000

let registry: TestRegistry
const sockets: Socket[] = []

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_SLOW_CLIENT_SECONDS: String(SLOW_SECONDS),
    ROOKERY_CONNECTIONS_PER_ADDRESS: String(PER_ADDRESS - 1),
    ROOKERY_FEED_CLIENTS_PER_ADDRESS: '1',
    ROOKERY_CONNECTIONS_MAX: '150',
    ROOKERY_TRUSTED_PROXIES: '127.0.0.9',
  })
})

afterAll(() => registry.close())

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await expect.poll(() => metric('rookery_connections'), { timeout: 10_000 }).toBeLessThan(10)
})

/** Opens a connection from an address of this machine. */
async function open(localAddress = '127.0.0.2'): Promise<Socket> {
  const { hostname, port } = new URL(registry.url)
  const socket = connect({ host: hostname, port: Number(port), localAddress })
  socket.on('error', () => {})
  sockets.push(socket)
  // A refused connection may be closed before the client knows that it was open.
  await new Promise((resolve) => socket.once('connect', resolve).once('close', resolve))
  return socket
}

/** Resolves to all that the server sent before it closed the connection. */
async function answerOf(socket: Socket): Promise<string> {
  let text = ''
  if (socket.closed) return text
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
  })
  await new Promise((resolve) => socket.once('close', resolve))
  return text
}

function halfForm(headers: Record<string, string> = {}): Buffer {
  const form = { 'Content-Type': 'application/x-www-form-urlencoded', 'Content-Length': '1000' }
  return requestBytes({ method: 'POST', target: '/token', headers: { ...form, ...headers } })
}

async function metric(name: string): Promise<number> {
  const text = await (await registry.request('/metrics')).text()
  const line = text.split('\n').find((one) => one.startsWith(`${name} `))
  return Number(line?.split(' ').at(-1) ?? 0)
}

const cuts = (reason: string) => metric(`rookery_connections_cut_total{reason="${reason}"}`)

async function pushBlob(content: Uint8Array): Promise<string> {
  const path = `/v2/slow/test/blobs/uploads/?digest=${digestOf(content)}`
  const answer = await registry.request(path, { method: 'POST', body: new Uint8Array(content) })
  expect(answer.status).toBe(201)
  return `/v2/slow/test/blobs/${digestOf(content)}`
}

async function expectServed(): Promise<void> {
  const startedAt = performance.now()
  expect((await registry.anonymous('/healthz')).status).toBe(200)
  expect(performance.now() - startedAt).toBeLessThan(2_000)
}

it('a body that stops arriving is answered with 408 on every kind of route', async () => {
  const authorization = { Authorization: basic(registry.password) }
  const start = await registry.request('/v2/slow/test/blobs/uploads/', { method: 'POST' })
  const upload = start.headers.get('location') ?? ''
  const routes: [method: string, target: string, type: string][] = [
    ['POST', '/token', 'application/x-www-form-urlencoded'],
    ['POST', '/api/v1/credentials', 'application/json'],
    ['PUT', '/v2/slow/test/manifests/v1', 'application/vnd.oci.image.manifest.v1+json'],
    ['PATCH', upload, 'application/octet-stream'],
    ['POST', `/v2/slow/test/blobs/uploads/?digest=${digestOf(Buffer.from('x'))}`, ''],
  ]
  const answers = await Promise.all(
    routes.map(async ([method, target, type]) => {
      const socket = await open()
      const headers = { ...authorization, 'Content-Type': type, 'Content-Length': '1000' }
      socket.write(requestBytes({ method, target, headers }))
      socket.write('{')
      return answerOf(socket)
    }),
  )
  for (const [index, answer] of answers.entries()) {
    expect(answer, routes[index]?.[1]).toMatch(/^HTTP\/1\.1 408 /)
    expect(answer).toContain('REQUEST_TIMEOUT')
  }
  // The upload can continue.
  const next = await registry.request(upload, { method: 'PATCH', body: 'whole' })
  expect(next.status).toBe(202)
}, 30_000)

it('a client that waits for 100 Continue and then sends nothing is cut off', async () => {
  const socket = await open()
  socket.write(halfForm({ Expect: '100-continue' }))
  expect(await answerOf(socket)).toMatch(/^HTTP\/1\.1 100 [\s\S]*HTTP\/1\.1 408 /)
}, 30_000)

it('a byte now and then does not keep a request open', async () => {
  const before = await cuts('slow-body')
  const socket = await open()
  socket.write(halfForm())
  const timer = setInterval(() => socket.write('a'), 300)
  expect(await answerOf(socket)).toMatch(/^HTTP\/1\.1 408 /)
  clearInterval(timer)
  expect(await cuts('slow-body')).toBe(before + 1)
}, 30_000)

it('chunks of a few bytes do not keep an upload open', async () => {
  const socket = await open()
  const headers = { Authorization: basic(registry.password), 'Transfer-Encoding': 'chunked' }
  const target = `/v2/slow/test/blobs/uploads/?digest=${digestOf(Buffer.from('x'))}`
  socket.write(requestBytes({ method: 'POST', target, headers }))
  const timer = setInterval(() => socket.write('1\r\na\r\n'), 100)
  expect(await answerOf(socket)).toMatch(/^HTTP\/1\.1 408 /)
  clearInterval(timer)
}, 30_000)

it('an upload over a slow but steady link finishes', async () => {
  const content = randomBytes(24 * 1024)
  const connection = await RawConnection.open(registry.url)
  sockets.push(connection.socket)
  const target = `/v2/slow/test/blobs/uploads/?digest=${digestOf(content)}`
  const headers = { Authorization: basic(registry.password), 'Content-Length': '24576' }
  await connection.send(requestBytes({ method: 'POST', target, headers }))
  for (let at = 0; at < content.length; at += 1024) {
    await connection.send(content.subarray(at, at + 1024))
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
  expect((await connection.answer()).status).toBe(201)
}, 30_000)

it('clients that do not read their download are cut off, slow ones are not', async () => {
  const content = randomBytes(16 * MIB)
  const target = await pushBlob(content)
  const before = await cuts('slow-reader')
  const idle = await Promise.all(Array.from({ length: 20 }, () => open()))
  for (const socket of idle) {
    socket.pause()
    socket.write(requestBytes({ method: 'GET', target }))
  }
  const slow = await open('127.0.0.3')
  let received = 0
  slow.on('data', (chunk) => {
    received += chunk.length
    slow.pause()
    setTimeout(() => slow.resume(), 25)
  })
  slow.write(requestBytes({ method: 'GET', target }))
  await expect
    .poll(() => cuts('slow-reader'), { timeout: CUT_MILLISECONDS_MAX })
    .toBe(before + idle.length)
  await expectServed()
  await expect.poll(() => received, { timeout: 60_000 }).toBeGreaterThan(content.length)
}, 90_000)

it('a client with too many half-sent requests gives way to its new ones and to others', async () => {
  for (let count = 0; count < 3 * PER_ADDRESS; count += 1) (await open()).write(halfForm())
  expect(await metric('rookery_connections')).toBeLessThanOrEqual(PER_ADDRESS + 10)
  await expectServed()
  // From the same address, as soon as the others are known to be slow.
  const url = new URL(registry.url)
  await expect
    .poll(
      async () => {
        const socket = await open()
        socket.write(`GET /healthz HTTP/1.1\r\nHost: ${url.host}\r\nConnection: close\r\n\r\n`)
        return (await answerOf(socket)).slice(0, 12)
      },
      { timeout: 10_000 },
    )
    .toBe('HTTP/1.1 200')
}, 60_000)

it('a connection over the limit of its address gets an answer that says so', async () => {
  const refused: string[] = []
  const half = await Promise.all(Array.from({ length: PER_ADDRESS }, () => open()))
  for (const socket of half) socket.write(halfForm())
  for (let count = 0; count < 5; count += 1) refused.push(await answerOf(await open()))
  expect(refused.some((one) => /^HTTP\/1\.1 429 [\s\S]*Retry-After: \d/.test(one))).toBe(true)
  expect(await cuts('client-limit')).toBeGreaterThan(0)
  expect(registry.log.some((line) => line.includes('connections are refused'))).toBe(true)
}, 30_000)

it('many addresses together leave connections for others', async () => {
  for (let host = 20; host < 30; host += 1) {
    for (let count = 0; count < 30; count += 1) (await open(`127.0.0.${host}`)).write(halfForm())
  }
  await expect
    .poll(() => registry.anonymous('/healthz').then(({ status }) => status, String), {
      timeout: 10_000,
    })
    .toBe(200)
}, 60_000)

it('connections of a trusted proxy are not counted, the requests of its clients are', async () => {
  const headers = { 'X-Forwarded-For': '203.0.113.7' }
  for (let count = 0; count < PER_ADDRESS; count += 1) {
    const socket = await open('127.0.0.9')
    socket.write(halfForm(headers))
  }
  const over = await open('127.0.0.9')
  over.write(halfForm(headers))
  expect(await answerOf(over)).toMatch(/^HTTP\/1\.1 429 /)
  const other = await open('127.0.0.9')
  const close = { Connection: 'close', 'X-Forwarded-For': '203.0.113.8' }
  other.write(requestBytes({ method: 'GET', target: '/healthz', headers: close }))
  expect(await answerOf(other)).toMatch(/^HTTP\/1\.1 200 /)
}, 30_000)

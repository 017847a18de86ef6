import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { digestOf } from '../support/digest.ts'
import { basic, requestBytes } from '../support/raw-client.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'

const MIB = 1024 * 1024
const OPEN_FILES_MAX = 400
const PASSWORD = 'bounded by the tests'
const ANSWER_MILLISECONDS_MAX = 5_000
/** The bytes of bodies that are read as a whole, and as much for buffers and heap that is not collected yet. */
const MANIFESTS_MEBIBYTES_MAX = 2 * 128

let database: TestDatabase
let folder: string
let server: ServerProcess
let errors = ''
const sockets: Socket[] = []

beforeAll(async () => {
  database = await createTestDatabase()
  folder = await mkdtemp(join(tmpdir(), 'rookery-descriptors-'))
  const settings = {
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_DATA_DIR: folder,
    ROOKERY_ADMIN_PASSWORD: PASSWORD,
  }
  server = await startProcess(settings, { openFilesMax: OPEN_FILES_MAX })
  server.child.stderr?.on('data', (chunk) => {
    errors += chunk
  })
})

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await expect.poll(openFiles, { timeout: 20_000 }).toBeLessThan(100)
})

afterAll(async () => {
  expect(await stopProcess(server)).toBe(0)
  await database.drop()
  await rm(folder, { recursive: true, force: true })
})

const authorization = { Authorization: basic(PASSWORD) }

async function open(localAddress: string, bytes: Buffer): Promise<Socket> {
  const { hostname, port } = new URL(server.url)
  const socket = connect({ host: hostname, port: Number(port), localAddress })
  sockets.push(socket)
  socket.on('error', () => {})
  await new Promise((resolve) => socket.once('connect', resolve).once('close', resolve))
  socket.pause()
  socket.write(bytes)
  return socket
}

const request = (path: string, more: RequestInit = {}) =>
  fetch(`${server.url}${path}`, {
    ...more,
    headers: { ...authorization, Connection: 'close', ...more.headers },
    signal: AbortSignal.timeout(ANSWER_MILLISECONDS_MAX),
  })

async function openFiles(): Promise<number> {
  return (await readdir(`/proc/${server.child.pid}/fd`)).length
}

async function residentMebibytes(): Promise<number> {
  const status = await readFile(`/proc/${server.child.pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024
}

async function pushBlob(content: Buffer): Promise<Response> {
  const path = `/v2/few/files/blobs/uploads/?digest=${digestOf(content)}`
  return request(path, { method: 'POST', body: new Uint8Array(content) })
}

it('with few descriptors, hundreds of half-sent requests and clients that do not read do not end the service', async () => {
  const blob = Buffer.alloc(8 * MIB, 'blob')
  expect((await pushBlob(blob)).status).toBe(201)
  const target = `/v2/few/files/blobs/${digestOf(blob)}`
  const length = { ...authorization, 'Content-Length': '1000' }
  const form = { 'Content-Type': 'application/x-www-form-urlencoded' }
  const upload = `/v2/few/files/blobs/uploads/?digest=${digestOf(Buffer.from('never'))}`
  const attacks = [
    Buffer.from('GET / HTTP/1.1\r\nHost: half'),
    requestBytes({ method: 'POST', target: '/token', headers: { ...length, ...form } }),
    requestBytes({ method: 'PUT', target: '/v2/few/files/manifests/v1', headers: length }),
    // Each of these also opens a file.
    requestBytes({ method: 'GET', target, headers: authorization }),
    requestBytes({ method: 'POST', target: upload, headers: length }),
  ]
  for (const [index, bytes] of attacks.entries()) {
    for (let count = 0; count < 100; count += 1) {
      const socket = await open(`127.0.0.${10 + index + 10 * Math.floor(count / 50)}`, bytes)
      // The first bytes of a body, for which a file is opened.
      if (bytes === attacks.at(-1)) socket.write('never')
    }
    expect(await openFiles()).toBeLessThan(OPEN_FILES_MAX)
    await expect
      .poll(() => request('/healthz').then(({ status }) => status, String), { timeout: 15_000 })
      .toBe(200)
    await expect
      .poll(() => request(target).then((answer) => answer.arrayBuffer(), String), {
        timeout: 15_000,
      })
      .toHaveProperty('byteLength', blob.length)
    const content = Buffer.from(`pushed during attack ${index}`)
    await expect
      .poll(() => pushBlob(content).then(({ status }) => status, String), { timeout: 15_000 })
      .toBe(201)
  }
  expect(errors).not.toMatch(/EMFILE|ENFILE|too many open files/)
  expect(server.child.exitCode).toBeNull()
}, 120_000)

it('a hundred manifests that arrive slowly take a bounded memory', async () => {
  const before = await residentMebibytes()
  const part = Buffer.alloc(4 * MIB - 1, ' ')
  const headers = { ...authorization, 'Content-Length': String(4 * MIB) }
  const answers: string[] = []
  for (let count = 0; count < 100; count += 1) {
    const target = `/v2/few/files/manifests/slow-${count}`
    const bytes = requestBytes({ method: 'PUT', target, headers })
    const socket = await open(`127.0.1.${count % 4}`, Buffer.concat([bytes, part]))
    socket.on('data', (chunk) => answers.push(String(chunk).slice(0, 12)))
    socket.resume()
  }
  let most = 0
  await expect
    .poll(
      async () => {
        most = Math.max(most, (await residentMebibytes()) - before)
        return answers.length
      },
      { timeout: 30_000 },
    )
    .toBeGreaterThan(50)
  expect(most).toBeLessThan(MANIFESTS_MEBIBYTES_MAX)
  expect(new Set(answers)).toEqual(new Set(['HTTP/1.1 503']))
  for (const socket of sockets.splice(0)) socket.destroy()
  const next = () => request('/v2/few/files/manifests/v1', { method: 'PUT', body: '{}' })
  await expect.poll(async () => (await next()).status, { timeout: 10_000 }).toBe(400)
}, 90_000)

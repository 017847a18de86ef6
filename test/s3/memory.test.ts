import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { createBucket, s3Settings } from '../support/s3.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'

const MIB = 1024 * 1024
/** The memory for the parts of all uploads: see the table of sizes in ARCHITECTURE.md. */
const PART_BUFFERS_MEBIBYTES = 112
/** Socket buffers, and heap that is not collected yet. */
const BESIDES_MEBIBYTES = 96
const SECONDS_MAX = 120
const PASSWORD = 'bounded by the tests'

let database: TestDatabase
let folder: string
let server: ServerProcess

beforeAll(async () => {
  database = await createTestDatabase()
  folder = await mkdtemp(join(tmpdir(), 'rookery-memory-'))
  server = await startProcess({
    ...s3Settings(await createBucket()),
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_DATA_DIR: folder,
    ROOKERY_ADMIN_PASSWORD: PASSWORD,
  })
})

afterAll(async () => {
  await stopProcess(server)
  await database.drop()
  await rm(folder, { recursive: true, force: true })
})

async function residentMebibytes(field: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile(`/proc/${server.child.pid}/status`, 'utf8')
  return Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1]) / 1024
}

/** Repeats one block after a marker, so that a large blob needs no memory in the test. */
class LargeBlob {
  readonly bytes: number
  readonly digest: string
  readonly #mark = randomBytes(MIB)
  readonly #block: Buffer

  constructor(mebibytes: number, block: Buffer) {
    this.bytes = mebibytes * MIB
    this.#block = block
    const hash = createHash('sha256')
    for (const chunk of this.chunks()) hash.update(chunk)
    this.digest = `sha256:${hash.digest('hex')}`
  }

  *chunks(): Generator<Buffer> {
    yield this.#mark
    for (let sent = MIB; sent < this.bytes; sent += MIB) yield this.#block
  }

  async push(): Promise<number | undefined> {
    const url = new URL(`/v2/large/blobs/blobs/uploads/?digest=${this.digest}`, server.url)
    const headers = {
      authorization: `Basic ${Buffer.from(`admin:${PASSWORD}`).toString('base64')}`,
      'content-type': 'application/octet-stream',
      'content-length': this.bytes,
    }
    return new Promise((resolve, reject) => {
      const sending = request(url, { method: 'POST', headers }, (answer: IncomingMessage) => {
        answer.resume()
        resolve(answer.statusCode)
      })
      sending.on('error', reject)
      void this.#send(sending).catch(reject)
    })
  }

  async #send(sending: ReturnType<typeof request>): Promise<void> {
    for (const chunk of this.chunks()) {
      if (!sending.write(chunk)) await new Promise((resolve) => sending.once('drain', resolve))
    }
    sending.end()
  }
}

it(
  'an upload of 1 GiB and eight concurrent ones stay within the buffers for parts',
  async () => {
    const block = randomBytes(MIB)
    const before = await residentMebibytes('VmRSS')
    const blobs = [1024, 64, 64, 64, 64, 64, 64, 64, 64].map((size) => new LargeBlob(size, block))
    const statuses = await Promise.all(blobs.map((blob) => blob.push()))
    expect(statuses).toEqual(blobs.map(() => 201))
    const grown = (await residentMebibytes('VmHWM')) - before
    process.stdout.write(`grown by ${grown.toFixed(0)} MiB\n`)
    expect(grown).toBeLessThan(PART_BUFFERS_MEBIBYTES + BESIDES_MEBIBYTES)
  },
  SECONDS_MAX * 1000,
)

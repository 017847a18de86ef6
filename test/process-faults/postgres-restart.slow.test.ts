import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '../../src/embedded-postgres/supervisor.ts'
import { openSweeper } from '../garbage/sweeper.ts'
import { digestOf } from '../support/digest.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import { registryAt } from '../support/process-registry.ts'
import {
  newRepository,
  pushBlob,
  pushImageBlobs,
  putManifest,
  send,
  startUpload,
} from '../support/push.ts'
import { basic, type RawAnswer, RawConnection, requestBytes } from '../support/raw-client.ts'
import type { TestRegistry } from '../support/registry.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'

const BLOB_BYTES = 400_000
/** Time after the return of the database in which a retry may still be refused. */
const BACK_SECONDS_MAX = 5
const ANSWER_MILLISECONDS_MAX = 20_000

let base: string
let postgres: EmbeddedPostgres
let server: ServerProcess
let registry: TestRegistry
/** Standard error of the server. */
let said = ''
const open: RawConnection[] = []

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'rookery-restart-'))
  // Postgres may run as another user.
  await chmod(base, 0o755)
  await startPostgres()
  await startServer()
})

afterAll(async () => {
  await stopProcess(server)
  await postgres.stop()
  await rm(base, { recursive: true, force: true })
})

async function startServer(): Promise<void> {
  const { host, port, user, database } = postgres.connection
  const settings = {
    ROOKERY_DATABASE_URL: `postgres:///${database}?host=${encodeURIComponent(host)}&port=${port}&user=${user}`,
    ROOKERY_ADMIN_PASSWORD: 'restarts by the tests',
    ROOKERY_DATA_DIR: join(base, 'data'),
    ROOKERY_LOG_LEVEL: 'warn',
  }
  server = await startProcess(settings)
  said = ''
  server.child.stderr?.on('data', (chunk) => {
    said += chunk
  })
  registry = registryAt(server.url, settings.ROOKERY_DATA_DIR, settings)
}

afterEach(() => {
  for (const connection of open.splice(0)) connection.close()
})

async function startPostgres(): Promise<void> {
  const quiet = (): void => {}
  postgres = await startEmbeddedPostgres({
    folder: join(base, 'postgres'),
    log: { info: quiet, warn: quiet, error: quiet },
    onLost(error) {
      throw error
    },
  })
}

/** Stops Postgres as an operator who restarts it does, runs `meanwhile`, and starts it again. */
async function restartPostgres(meanwhile: () => Promise<void> = async () => {}): Promise<void> {
  await postgres.stop()
  try {
    await meanwhile()
  } finally {
    await startPostgres()
  }
}

type Half = { connection: RawConnection; rest: Buffer; method: string }

/** Sends a request without the second half of its body. */
async function sendHalf(
  method: string,
  target: string,
  body: Buffer,
  headers: Record<string, string> = {},
): Promise<Half> {
  const connection = await RawConnection.open(registry.url)
  open.push(connection)
  const authorization = { Authorization: basic(registry.password) }
  const bytes = requestBytes({ method, target, headers: { ...authorization, ...headers }, body })
  const half = bytes.length - Math.floor(body.length / 2)
  await connection.send(bytes.subarray(0, half))
  return { connection, rest: bytes.subarray(half), method }
}

/** Sends the second half, and reads the answer. */
async function sendRest({ connection, rest, method }: Half): Promise<RawAnswer> {
  await connection.send(rest)
  return connection.answer(method, ANSWER_MILLISECONDS_MAX)
}

/** Waits until the server has the upload's lease, and so reads its body. */
async function untilClaimed(location: string): Promise<void> {
  const client = new pg.Client(postgres.connection)
  await client.connect()
  try {
    const claimed = async () => {
      const text = 'select lease from uploads where id = $1 and lease is not null'
      return (await client.query(text, [location.split('/').at(-1)])).rows.length
    }
    await expect.poll(claimed, { interval: 5 }).toBe(1)
  } finally {
    await client.end()
  }
}

/** Returns true for success, or for a refusal that says when or how to retry. */
function expectHonest({ status, headers, body }: RawAnswer, done: number): void {
  const said = { status, body: body.toString() }
  if (status === done) return
  if (status === 503) {
    expect(headers.get('retry-after')).toMatch(/^[1-9]\d*$/)
    expect(said.body).toContain('UNAVAILABLE')
    return
  }
  expect([404, 416], JSON.stringify(said)).toContain(status)
  expect(said.body).toMatch(/BLOB_UPLOAD_UNKNOWN|RANGE_INVALID/)
}

/** Retries as clients do, until `attempt` returns a value. */
async function soon<T>(attempt: () => Promise<T | undefined>): Promise<T> {
  let found: T | undefined
  const poll = async () => {
    found = await attempt()
    return found !== undefined
  }
  await expect.poll(poll, { interval: 100, timeout: BACK_SECONDS_MAX * 1000 }).toBe(true)
  return found as T
}

/** Continues at the position of the status, until the blob is stored. */
async function pushThrough(repository: string, location: string, bytes: Buffer): Promise<void> {
  const digest = digestOf(bytes)
  const path = `/v2/${repository}/blobs/${digest}`
  await soon(async () => {
    const status = await registry.request(location)
    if (status.status === 404) {
      // The blob is stored already, and only the answer was lost.
      return (await registry.request(path, { method: 'HEAD' })).status === 200 ? true : undefined
    }
    if (status.status !== 204) return undefined
    const last = Number(/^0-(\d+)$/.exec(status.headers.get('range') ?? '')?.[1])
    const rest = bytes.subarray(last === 0 ? 0 : last + 1)
    const answer = await send(registry, 'PUT', `${location}?digest=${digest}`, rest)
    expect([201, 503, 416]).toContain(answer.status)
    return answer.status === 201 ? true : undefined
  })
  await expectBlob(repository, bytes)
}

async function expectBlob(repository: string, bytes: Buffer): Promise<void> {
  const answer = await registry.request(`/v2/${repository}/blobs/${digestOf(bytes)}`)
  expect(answer.status).toBe(200)
  expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true)
}

/** Sends one request of each kind while the database is down. */
async function expectAllUnavailable(repository: string): Promise<void> {
  for (const [method, path] of [
    ['GET', `/v2/${repository}/tags/list`],
    ['GET', `/v2/${repository}/manifests/live`],
    ['HEAD', `/v2/${repository}/blobs/${digestOf('')}`],
    ['POST', `/v2/${repository}/blobs/uploads/`],
  ] as const) {
    const answer = await registry.request(path, { method })
    expect(answer.status, `${method} ${path}`).toBe(503)
    expect(answer.headers.get('retry-after')).toMatch(/^[1-9]\d*$/)
  }
  expect((await registry.anonymous('/readyz')).status).toBe(503)
  expect((await registry.anonymous('/healthz')).status).toBe(200)
}

describe('when Postgres restarts', () => {
  it('in the middle of a chunk, the client succeeds', async () => {
    const repository = newRepository()
    const bytes = randomBytes(2 * BLOB_BYTES)
    const location = await startUpload(registry, repository)
    const half = await sendHalf('PATCH', location, bytes.subarray(0, BLOB_BYTES))
    await untilClaimed(location)
    await restartPostgres()
    expectHonest(await sendRest(half), 202)
    await pushThrough(repository, location, bytes)
  })

  it('and is not back when a chunk ends, the client gets a 503 and then succeeds', async () => {
    const repository = newRepository()
    const bytes = randomBytes(2 * BLOB_BYTES)
    const location = await startUpload(registry, repository)
    const half = await sendHalf('PATCH', location, bytes.subarray(0, BLOB_BYTES))
    await untilClaimed(location)
    await restartPostgres(async () => {
      const answer = await sendRest(half)
      expectHonest(answer, 503)
      expect(answer.status).toBe(503)
    })
    await pushThrough(repository, location, bytes)
  })

  it('between a chunk and the closing PUT, the client succeeds', async () => {
    const repository = newRepository()
    const bytes = randomBytes(2 * BLOB_BYTES)
    const location = await startUpload(registry, repository)
    const chunk = await send(registry, 'PATCH', location, bytes.subarray(0, BLOB_BYTES))
    expect(chunk.status).toBe(202)
    const closing = `${location}?digest=${digestOf(bytes)}`
    await restartPostgres(async () => {
      const refused = await send(registry, 'PUT', closing, bytes.subarray(BLOB_BYTES))
      expect(refused.status).toBe(503)
      expect(refused.headers.get('retry-after')).toMatch(/^[1-9]\d*$/)
      await expectAllUnavailable(repository)
    })
    await pushThrough(repository, location, bytes)
  })

  it('between two requests, the next one is answered', async () => {
    const repository = newRepository()
    const { bytes } = await pushBlob(registry, repository)
    await restartPostgres()
    await soon(async () => {
      const answer = await registry.request(`/v2/${repository}/blobs/${digestOf(bytes)}`)
      expect([200, 503]).toContain(answer.status)
      return answer.status === 200 ? true : undefined
    })
    await expectBlob(repository, bytes)
  })

  it('in the middle of the closing body, the client succeeds', async () => {
    const repository = newRepository()
    const bytes = randomBytes(2 * BLOB_BYTES)
    const location = await startUpload(registry, repository)
    const chunk = await send(registry, 'PATCH', location, bytes.subarray(0, BLOB_BYTES))
    expect(chunk.status).toBe(202)
    const closing = `${location}?digest=${digestOf(bytes)}`
    const half = await sendHalf('PUT', closing, bytes.subarray(BLOB_BYTES))
    await untilClaimed(location)
    await restartPostgres()
    const answer = await sendRest(half)
    expectHonest(answer, 201)
    if (answer.status === 201) await expectBlob(repository, bytes)
    else await pushThrough(repository, location, bytes)
  })

  it.each([
    ['all', 0],
    ['half', BLOB_BYTES],
  ])(
    'and is not back when the closing body, %s of it, ends, the client succeeds',
    async (...row) => {
      const [, sent] = row
      const repository = newRepository()
      const bytes = randomBytes(2 * BLOB_BYTES)
      const location = await startUpload(registry, repository)
      if (sent > 0) {
        const chunk = await send(registry, 'PATCH', location, bytes.subarray(0, sent))
        expect(chunk.status).toBe(202)
      }
      const closing = `${location}?digest=${digestOf(bytes)}`
      const half = await sendHalf('PUT', closing, bytes.subarray(sent))
      await untilClaimed(location)
      await restartPostgres(async () => {
        const answer = await sendRest(half)
        expectHonest(answer, 503)
        expect(answer.status).toBe(503)
      })
      const again = await soon(async () => {
        const rest = await send(registry, 'PUT', closing, bytes.subarray(sent))
        expect([201, 404, 416, 503]).toContain(rest.status)
        return rest.status === 201 || rest.status === 404 ? rest.status : undefined
      })
      // A new push, when the bytes were in place already and only their row was missing.
      if (again === 404) await pushBlob(registry, repository, bytes)
      await expectBlob(repository, bytes)
    },
  )

  it('in the middle of a manifest, the client succeeds', async () => {
    const repository = newRepository()
    const manifest = JSON.stringify(await pushImageBlobs(registry, repository))
    const target = `/v2/${repository}/manifests/live`
    const headers = { 'Content-Type': IMAGE_MANIFEST }
    const half = await sendHalf('PUT', target, Buffer.from(manifest), headers)
    await restartPostgres()
    const answer = await sendRest(half)
    expectHonest(answer, 201)
    if (answer.status !== 201) {
      await soon(async () =>
        (await putManifest(registry, repository, 'live', manifest)).status === 201
          ? true
          : undefined,
      )
    }
    expect(await (await registry.request(target)).text()).toBe(manifest)
  })
})

describe('when Postgres restarts repeatedly while clients push', () => {
  const clients = 4
  const restarts = 3
  const acknowledged: { repository: string; tag: string; manifest: string }[] = []
  /** `status retry-after` of every answer that was no 201; 0 means no answer. */
  const refused = new Set<string>()
  let over = false
  const died = () => server.child.exitCode !== null || server.child.signalCode !== null

  async function pushUntilOver(repository: string, image: Record<string, unknown>): Promise<void> {
    for (let count = 0; !over && !died(); count += 1) {
      const manifest = JSON.stringify({ ...image, annotations: { count: String(count) } })
      const tag = `t${count}`
      const answer = await putManifest(registry, repository, tag, manifest).catch(() => undefined)
      await answer?.arrayBuffer()
      if (answer?.status === 201) acknowledged.push({ repository, tag, manifest })
      else refused.add(`${answer?.status ?? 0} ${answer?.headers.get('retry-after')}`)
    }
  }

  beforeAll(async () => {
    const repositories = Array.from({ length: clients }, () => newRepository())
    const images = await Promise.all(repositories.map((name) => pushImageBlobs(registry, name)))
    const pushing = repositories.map((name, index) => pushUntilOver(name, images[index] ?? {}))
    for (let restart = 0; restart < restarts && !died(); restart += 1) {
      const before = acknowledged.length
      const check = () => {
        if (!died() && acknowledged.length < before + 40) throw new Error('nothing is pushed')
      }
      await vi.waitFor(check, { interval: 5, timeout: BACK_SECONDS_MAX * 1000 })
      await restartPostgres()
    }
    over = true
    await Promise.all(pushing)
  })

  it('the server survives, and answers 503 with a time to retry', () => {
    expect({ died: died(), said: said.slice(-500) }).toMatchObject({ died: false })
    expect([...refused]).toEqual(['503 2'])
  })

  it('its log has short lines for connections that break', () => {
    const lines = said.split('\n').filter((line) => /connection broke|LISTEN/.test(line))
    expect(lines.length).toBeGreaterThan(0)
    for (const line of lines) {
      expect(line).toMatch(/"level":"warn".*"reason":"[^"]+"/)
      expect(line.length).toBeLessThan(300)
    }
  })

  it('nothing that was acknowledged is lost', async () => {
    if (died()) await startServer()
    expect(acknowledged.length).toBeGreaterThan(40)
    for (const { repository, tag, manifest } of acknowledged) {
      const answer = await registry.request(`/v2/${repository}/manifests/${tag}`)
      expect(await answer.text()).toBe(manifest)
    }
  })
})

it('no attempt leaves anything when all uploads have expired', async () => {
  const sweeper = await openSweeper(registry)
  try {
    await sweeper.client.query(
      `update uploads
          set expires_at = now() - interval '1 second',
              lease_until = now() - interval '1 second'`,
    )
    await sweeper.client.query(`update deletion_queue set due_at = now() - interval '1 second'`)
    await sweeper.sweepAll()
    const text = 'select storage_key as key from blobs'
    const { rows } = await sweeper.client.query<{ key: string }>(text)
    const held = (await registry.storedObjects()).map(({ key, name }) => key ?? name)
    expect(held.sort()).toEqual(rows.map(({ key }) => key).sort())
  } finally {
    await sweeper.close()
  }
})

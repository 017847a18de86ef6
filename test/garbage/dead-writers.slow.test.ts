import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createUploadUrl } from '../auth/upload-url-client.ts'
import { digestOf } from '../support/digest.ts'
import { newRepository, send, startUpload } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { openSweeper, type Sweeper } from './sweeper.ts'
import { afterBusy, TwoServers } from './two-servers.ts'

/** More than a part of an upload to S3, so that its bytes are in the store. */
const CHUNK_BYTES = 10 * 1024 * 1024
/** For a process that was killed: Postgres notices that its connection is closed. */
const DEAD_SECONDS_MAX = 3
/** For a client that is silent: its lease ends. */
const SILENT_SECONDS_MAX = 25

let servers: TwoServers
let other: TestRegistry
let sweeper: Sweeper

beforeAll(async () => {
  servers = await TwoServers.start()
  other = servers.at(1)
  sweeper = await openSweeper(other)
})

afterAll(async () => {
  await sweeper.close()
  await servers.stop()
})

/** Waits until so many requests write uploads of the repository. */
async function untilWriting(repository: string, writers = 1): Promise<void> {
  const text = `select count(*)::int as count
                  from uploads u
                  join repositories r on r.id = u.repository_id
                 where r.name = $1 and u.lease is not null`
  const count = async () => (await sweeper.client.query(text, [repository])).rows[0].count
  await expect.poll(count, { interval: 5 }).toBe(writers)
}

const idOf = (location: string) => location.split('/').at(-1) ?? ''

async function objectsOf(upload: string): Promise<number> {
  return (await other.storedObjects()).filter((one) => one.upload === upload).length
}

/** Sends the rest of the bytes at the position that the server names, until the blob is there. */
async function finish(repository: string, location: string, bytes: Buffer, secondsMax: number) {
  const digest = digestOf(bytes)
  const range = (await other.request(location)).headers.get('range') ?? ''
  const last = Number(/^0-(\d+)$/.exec(range)?.[1])
  const rest = bytes.subarray(last === 0 ? 0 : last + 1)
  const put = () => send(other, 'PUT', `${location}?digest=${digest}`, rest)
  const { answer, seconds } = await afterBusy(secondsMax, put)
  expect(answer.status).toBe(201)
  const pulled = await other.request(`/v2/${repository}/blobs/${digest}`)
  expect(digestOf(Buffer.from(await pulled.arrayBuffer()))).toBe(digest)
  return seconds
}

describe('while a request writes to an upload', () => {
  it('others get 503 and Retry-After, and continue when it has ended', async () => {
    const repository = newRepository()
    const location = await startUpload(servers.at(0), repository)
    const bytes = randomBytes(2000)
    const { connection, rest } = await servers.sendHalf(0, 'PATCH', location, bytes)
    await untilWriting(repository)
    for (const method of ['PATCH', 'PUT', 'DELETE']) {
      const target = method === 'PUT' ? `${location}?digest=${digestOf(bytes)}` : location
      const body = method === 'DELETE' ? undefined : bytes
      const answer = await send(other, method, target, body)
      expect(answer.status, method).toBe(503)
      expect(answer.headers.get('retry-after')).toMatch(/^[1-9]\d?$/)
    }
    await connection.send(rest)
    expect((await connection.answer('PATCH')).status).toBe(202)
    await finish(repository, location, bytes, 1)
  })

  it.each([
    ['closes its connection', 'end'],
    ['resets its connection', 'reset'],
  ])('and its client %s, the next one continues at once', async (_what, way) => {
    const repository = newRepository()
    const location = await startUpload(servers.at(0), repository)
    const bytes = randomBytes(100_000)
    const { connection } = await servers.sendHalf(0, 'PATCH', location, bytes)
    await untilWriting(repository)
    if (way === 'reset') connection.socket.resetAndDestroy()
    else connection.close()
    await finish(repository, location, bytes, DEAD_SECONDS_MAX)
  })

  it('and its client is silent, the next one continues after seconds; a slow one keeps its upload', async () => {
    const [silent, slow] = [newRepository(), newRepository()]
    const bytes = randomBytes(100_000)
    const location = await startUpload(servers.at(0), silent)
    const kept = await startUpload(servers.at(0), slow)
    const writing = await servers.sendHalf(0, 'PATCH', location, bytes)
    const slowly = await servers.sendHalf(0, 'PATCH', kept, bytes)
    for (const repository of [silent, slow]) await untilWriting(repository)
    const drip = (async () => {
      const { connection, rest } = slowly
      let sent = 0
      for (; sent < 15; sent += 1) {
        await connection.send(rest.subarray(sent, sent + 1))
        await delay(1000)
        expect((await send(other, 'PATCH', kept, bytes)).status).toBe(503)
      }
      await connection.send(rest.subarray(sent))
      return (await connection.answer('PATCH')).status
    })()
    await finish(silent, location, bytes, SILENT_SECONDS_MAX)
    await writing.connection.send(writing.rest)
    // The former writer changes nothing by the bytes that it still sends.
    await writing.connection.answer('PATCH').then(
      ({ status }) => expect(status).toBe(503),
      () => {},
    )
    expect(await drip).toBe(202)
    await finish(slow, kept, bytes, 1)
  })

  it('and its client pauses for longer than its lease, it continues when no other one came', async () => {
    const repository = newRepository()
    const location = await startUpload(servers.at(0), repository)
    const bytes = randomBytes(100_000)
    const { connection, rest } = await servers.sendHalf(0, 'PATCH', location, bytes)
    await delay(13_000)
    await connection.send(rest)
    expect((await connection.answer('PATCH')).status).toBe(202)
    await finish(repository, location, bytes, 1)
  })
})

describe('when a server is killed', () => {
  it('in a chunk, the upload continues at the other one within seconds, with and without earlier chunks', async () => {
    const killed = await servers.startNext()
    const bytes = randomBytes(2 * CHUNK_BYTES)
    const repositories = [newRepository(), newRepository()]
    const locations = await Promise.all(repositories.map((one) => startUpload(killed, one)))
    const [first = '', second = ''] = locations
    expect((await send(killed, 'PATCH', second, bytes.subarray(0, CHUNK_BYTES))).status).toBe(202)
    await servers.sendHalf(2, 'PATCH', first, bytes)
    await servers.sendHalf(2, 'PATCH', second, bytes.subarray(CHUNK_BYTES))
    for (const one of repositories) await untilWriting(one)
    await servers.kill(2)
    for (const [index, location] of locations.entries()) {
      await finish(repositories[index] ?? '', location, bytes, DEAD_SECONDS_MAX)
    }
  })

  it('requests that nobody can continue leave nothing, and those of a living server continue', async () => {
    const killed = await servers.startNext()
    const [dead, alive] = [newRepository(), newRepository()]
    const bytes = randomBytes(2 * CHUNK_BYTES)
    const digest = digestOf(bytes)
    const single = (repository: string) => `/v2/${repository}/blobs/uploads/?digest=${digest}`
    const { url } = await createUploadUrl(other, dead)
    const type = { 'Content-Type': 'multipart/form-data; boundary=x' }
    const disposition = 'Content-Disposition: form-data; name="kernel"; filename="k.hvt"'
    const form = Buffer.concat([Buffer.from(`--x\r\n${disposition}\r\n\r\n`), bytes])
    const images = `/api/v1/repositories/${dead}/images?tag=v1`
    const location = await startUpload(killed, dead)
    await servers.sendHalf(3, 'POST', single(dead), bytes)
    await servers.sendHalf(3, 'POST', images, form, type)
    await servers.sendHalf(3, 'PUT', new URL(url).pathname, bytes)
    await servers.sendHalf(3, 'PATCH', location, bytes)
    const living = await servers.sendHalf(1, 'POST', single(alive), bytes)
    await untilWriting(dead, 4)
    await untilWriting(alive)
    await servers.kill(3)
    const { rows } = await sweeper.client.query(
      `select u.id, u.single_request as single
         from uploads u
         join repositories r on r.id = u.repository_id
        where r.name = $1`,
      [dead],
    )
    expect(rows.map(({ single }) => single).sort()).toEqual([false, true, true, true])
    const left = async () => {
      expect((await sweeper.garbage(3600).sweep()).failures).toEqual([])
      const counts = await Promise.all(rows.map(({ id }) => objectsOf(id)))
      return counts.reduce((sum, count) => sum + count, 0)
    }
    await expect.poll(left, { interval: 500, timeout: 40_000 }).toBe(0)
    const still = await sweeper.client.query('select id from uploads where id = any($1)', [
      rows.map(({ id }) => id),
    ])
    // A client may continue this one from the beginning.
    expect(still.rows).toEqual([{ id: idOf(location) }])
    await finish(dead, location, bytes, DEAD_SECONDS_MAX)
    await living.connection.send(living.rest)
    expect((await living.connection.answer('POST', 20_000)).status).toBe(201)
  })
})

import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/callers.ts'
import { newRepository, pushImage } from '../conformance/kit.ts'
import { registryAt } from '../faults/process-registry.ts'
import { start, stop } from '../start/process.ts'
import { createTestDatabase } from '../support/database.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { hearsBlocks, openStream, subjects } from './kit.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_FEED_CLIENTS_PER_ADDRESS: '3' })
})

afterAll(() => registry.close())

type Page = { events: { subject: string }[]; cursor: string; reset?: object; snapshot?: object[] }

async function page(query: string): Promise<Page> {
  const answer = await registry.anonymous(`/api/v1/events${query}`)
  expect(answer.status).toBe(200)
  return (await answer.json()) as Page
}

describe('pages', () => {
  it('wait for something to happen, and no longer than they are told', async () => {
    const repository = newRepository()
    const { cursor } = await page('')
    const started = performance.now()
    const empty = await page(`?repository=${repository}&after=${cursor}&wait=1`)
    expect(empty.events).toEqual([])
    expect(performance.now() - started).toBeGreaterThan(900)
    const waiting = page(`?repository=${repository}&after=${empty.cursor}&wait=20`)
    await pushImage(registry, repository, 'live')
    const { events } = await waiting
    expect(events.length).toBeGreaterThan(0)
    expect(performance.now() - started).toBeLessThan(10_000)
  })

  it('follow one another by their cursors, whatever their size', async () => {
    const repository = newRepository()
    let { cursor } = await page('')
    for (let count = 0; count < 7; count += 1) await pushImage(registry, repository, `t${count}`)
    const seen: string[] = []
    for (let pages = 0; pages < 40 && seen.length < 7; pages += 1) {
      const query = `?repository=${repository}&type=image.tag.updated&after=${cursor}&n=2&wait=2`
      const { events, cursor: next } = await page(query)
      expect(events.length).toBeLessThanOrEqual(2)
      seen.push(...events.map(({ subject }) => subject))
      cursor = next
    }
    expect(seen).toEqual(Array.from({ length: 7 }, (_, count) => `${repository}:t${count}`))
  })

  it.each([
    ['?after=12', /^a cursor is what an event or a page had, such as 1a2b3c4d-123$/],
    ['?type=image.burnt', /^type is one of image\.pushed, /],
    ['?wait=61', /^wait is a whole number from 0 to 60$/],
    ['?n=1001', /^n is a whole number from 0 to 1000$/],
    ['?snapshot=yes', /^snapshot is 0 or 1$/],
    ['?repository=A', /^a repository pattern is a name with \* or \*\* in it/],
    ['?tag=a/b', /^a tag pattern is a tag with \* in it/],
    [`?${'tag=a&'.repeat(51)}`, /^tag stands at most 50 times$/],
  ])('%s is refused, with what is right', async (query, message) => {
    const answer = await registry.anonymous(`/api/v1/events${query}`)
    expect(answer.status).toBe(400)
    const { errors } = (await answer.json()) as { errors: { message: string }[] }
    expect(errors[0]?.message).toMatch(message)
  })
})

it('one address holds so many streams, and no more', async () => {
  const held = await Promise.all([1, 2, 3].map(() => openStream(registry.url)))
  expect(held.map(({ status }) => status)).toEqual([200, 200, 200])
  const more = await openStream(registry.url)
  expect(more.status).toBe(429)
  expect(more.headers['retry-after']).toBe('10')
  const waiting = await registry.anonymous('/api/v1/events?wait=1')
  expect(waiting.status).toBe(429)
  // A page that does not wait holds nothing.
  expect((await registry.anonymous('/api/v1/events')).status).toBe(200)
  held[0]?.close()
  const again = async () => {
    const stream = await openStream(registry.url)
    stream.close()
    return stream.status
  }
  await expect.poll(again).toBe(200)
  for (const stream of held) stream.close()
})

/** Events of 15 KB, as those of large indexes. */
async function noteLarge(client: pg.Client, repository: string, count: number): Promise<void> {
  await client.query(
    `insert into event_outbox (type, repository_id, digest, data)
     select 'image.deleted', r.id, 'sha256:' || repeat('a', 64),
            json_build_object('type', 'image.deleted', 'repository', r.name, 'tag', null,
                              'digest', 'sha256:' || repeat('a', 64), 'previousDigest', null,
                              'actor', repeat('x', 15000))::text
       from repositories r, generate_series(1, $2::int) as n
      where r.name = $1`,
    [repository, count],
  )
}

it('a client that takes what it is sent is not cut off, however much comes at once', async () => {
  const repository = newRepository()
  await pushImage(registry, repository, 'first')
  const stream = await openStream(registry.url, `?repository=${repository}&type=image.deleted`)
  await expect.poll(() => stream.lastId).toBeDefined()
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  await noteLarge(client, repository, 500)
  await client.end()
  await hearsBlocks(stream, 500)
  expect(stream.isOver).toBe(false)
  stream.close()
})

it('a client that takes nothing is cut off, and goes on from where it was', async () => {
  const repository = newRepository()
  // Between the two, so that no buffer of this machine's takes everything.
  let stopped = false
  const proxy = createServer((socket) => {
    const onward = connect(Number(new URL(registry.url).port), '127.0.0.1')
    socket.pipe(onward)
    onward.on('data', (chunk) => {
      socket.write(chunk)
      if (stopped) onward.pause()
    })
    for (const one of [socket, onward]) one.on('error', () => {})
    onward.on('close', () => socket.destroy())
    socket.on('close', () => onward.destroy())
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  const { port } = proxy.address() as { port: number }
  const slow = await openStream(`http://127.0.0.1:${port}`, `?repository=${repository}`)
  await expect.poll(() => slow.lastId).toBeDefined()
  await pushImage(registry, repository, 'first')
  await hearsBlocks(slow, 2)
  stopped = true
  // Many more than sockets buffer.
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  for (let round = 0; round < 20; round += 1) {
    await noteLarge(client, repository, 50)
    await new Promise((resolve) => setTimeout(resolve, 60))
  }
  await client.end()
  const holds = async () => {
    const metrics = await (await registry.request('/metrics')).text()
    return Number(/^rookery_feed_clients (\d+)/m.exec(metrics)?.[1])
  }
  await expect.poll(holds, { timeout: 20_000 }).toBe(0)
  slow.close()
  proxy.close()
})

it.concurrent('a stream ends when its credential does', async () => {
  const repository = newRepository()
  const { name, secret } = await makeCredential(registry, {
    repositories: [repository],
    actions: ['pull'],
  })
  const stream = await openStream(registry.url, `?repository=${repository}`, {
    authorization: basic(name, secret),
  })
  expect(stream.status).toBe(200)
  await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
  await expect.poll(() => stream.isOver, { timeout: 20_000, interval: 250 }).toBe(true)
}, 30_000)

it.concurrent('a silent stream has a comment now and then, so that no proxy takes it for dead', async () => {
  const stream = await openStream(registry.url)
  await expect
    .poll(() => stream.comments.length, { timeout: 20_000, interval: 250 })
    .toBeGreaterThan(0)
  stream.close()
}, 30_000)

it('streams end at once when a server does, and go on at another replica from the same place', async () => {
  const database = await createTestDatabase()
  const folder = await mkdtemp(join(tmpdir(), 'rookery-feed-'))
  const settings = {
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_DATA_DIR: folder,
    ROOKERY_ADMIN_PASSWORD: 'two of a kind',
    ROOKERY_LOG_LEVEL: 'silent',
  }
  const [one, two] = [await start(settings), await start(settings)]
  try {
    const other = registryAt(two.url, folder, settings)
    const stream = await openStream(one.url, '?type=image.tag.updated')
    await expect.poll(() => stream.lastId).toBeDefined()
    // What one replica takes is told by the other within a moment.
    await pushImage(other, 'a/b', 'v1')
    await hearsBlocks(stream, 1)
    const started = performance.now()
    await stop(one)
    expect(performance.now() - started).toBeLessThan(5_000)
    expect(stream.isOver).toBe(true)
    await pushImage(other, 'a/b', 'v2')
    const again = await openStream(two.url, '?type=image.tag.updated', {
      'last-event-id': stream.lastId ?? '',
    })
    await pushImage(other, 'a/b', 'v3')
    await hearsBlocks(again, 2)
    expect(subjects(again)).toEqual(['a/b:v2', 'a/b:v3'])
    again.close()
  } finally {
    await stop(two)
    await database.drop()
    await rm(folder, { recursive: true, force: true })
  }
})

import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { createTestDatabase } from '../support/database.ts'
import { eventBodies } from '../support/events.ts'
import { registryAt } from '../support/process-registry.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { startProcess, stopProcess } from '../support/server-process.ts'
import { openStream, subjects, waitForBlocks } from './event-stream-client.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_FEED_CLIENTS_PER_ADDRESS: '3' })
})

afterAll(() => registry.close())

type Page = {
  events: { subject: string }[]
  cursor: string
  more: boolean
  reset?: object
  snapshot?: { tag: string }[]
}

async function page(query: string): Promise<Page> {
  const answer = await registry.anonymous(`/api/v1/events${query}`)
  expect(answer.status).toBe(200)
  return (await answer.json()) as Page
}

describe('pages', () => {
  it('wait for an event, and no longer than the requested time', async () => {
    const repository = newRepository()
    const { cursor } = await page('')
    const started = performance.now()
    const empty = await page(`?repository=${repository}&after=${cursor}&wait=1`)
    expect(empty.events).toEqual([])
    expect(performance.now() - started).toBeGreaterThan(900)
    const waiting = page(`?repository=${repository}&after=${empty.cursor}&wait=60`)
    await pushImage(registry, repository, 'live')
    const { events } = await waiting
    expect(events.length).toBeGreaterThan(0)
    expect(performance.now() - started).toBeLessThan(30_000)
  })

  it('end after 4 MiB of events, and leave none out', async () => {
    const other = await startRegistry()
    try {
      const repository = newRepository()
      await pushImage(other, repository, 'live')
      await eventBodies(other, repository, 2)
      const { cursor: begin } = (await (await other.request('/api/v1/events')).json()) as Page
      let cursor = begin
      const client = new pg.Client(other.databaseUrl)
      await client.connect()
      await client.query(
        `insert into events (position, event_id, type, repository_id, tag, occurred_at, body)
         select feed.position + n, gen_random_uuid(), 'image.tag.updated', r.id, 'live', now(),
                json_build_object('subject', n, 'data', json_build_object('long', repeat('x', 19000)))
           from feed, repositories r, generate_series(1, 500) as n
          where r.name = $1`,
        [repository],
      )
      await client.query('update feed set position = position + 500')
      await client.end()
      const pages: number[][] = []
      for (let isEnd = false; !isEnd; ) {
        const answer = await other.request(`/api/v1/events?after=${cursor}&n=1000`)
        const text = await answer.text()
        expect(text.length).toBeLessThan(4.1 * 1024 * 1024)
        const { events, more, cursor: next } = JSON.parse(text)
        pages.push(events.map(({ subject }: { subject: number }) => subject))
        cursor = next
        isEnd = !more
      }
      expect(pages.flat()).toEqual(Array.from({ length: 500 }, (_, index) => index + 1))
      expect(pages).toHaveLength(3)
    } finally {
      await other.close()
    }
  })

  it('follow one another by their cursors, for any page size', async () => {
    const repository = newRepository()
    let { cursor } = await page('')
    for (let count = 0; count < 7; count += 1) await pushImage(registry, repository, `t${count}`)
    const seen: string[] = []
    await eventBodies(registry, repository, 14)
    for (let isEnd = false; !isEnd; ) {
      const query = `?repository=${repository}&type=image.tag.updated&after=${cursor}&n=2`
      const { events, cursor: next, more } = await page(query)
      expect(events.length).toBeLessThanOrEqual(2)
      expect(more || seen.length + events.length === 7).toBe(true)
      isEnd = !more
      seen.push(...events.map(({ subject }) => subject))
      cursor = next
    }
    expect(seen).toEqual(Array.from({ length: 7 }, (_, count) => `${repository}:t${count}`))
  })

  it('pass over the events of other repositories', async () => {
    const [other, repository] = [newRepository(), newRepository()]
    await pushImage(registry, other, 'live')
    await eventBodies(registry, other, 2)
    const { cursor } = await page('')
    const client = new pg.Client(registry.databaseUrl)
    await client.connect()
    await appendLargeEvents(client, other, 12_000, 10)
    await client.end()
    await pushImage(registry, repository, 'live')
    await eventBodies(registry, repository, 2)
    const found = await page(`?repository=${repository}&after=${cursor}`)
    expect(found.more).toBe(false)
    expect(found.events.map(({ subject }) => subject)).toContain(`${repository}:live`)
  })

  it('start with each matching tag once, by its name or by a pattern', async () => {
    const repository = newRepository()
    for (const tag of ['v1', 'v2', 'live']) await pushImage(registry, repository, tag)
    const tagsOf = async (query: string) =>
      (await page(`?snapshot=1&${query}`)).snapshot?.map(({ tag }) => tag)
    const both = `repository=${repository}&repository=${repository.slice(0, -1)}*`
    expect(await tagsOf(`${both}&tag=v1&tag=v*`)).toEqual(['v1', 'v2'])
    expect(await tagsOf(both)).toEqual(['live', 'v1', 'v2'])
    expect(await tagsOf(`repository=${repository}&tag=live&tag=none`)).toEqual(['live'])
    expect(await tagsOf(`repository=${repository}x&tag=live`)).toEqual([])
  })

  it.each([
    ['?after=12', /^a cursor must be the one of an event or a page: 32 hexadecimal digits$/],
    ['?type=image.burnt', /^type must be one of image\.pushed, /],
    ['?wait=61', /^wait must be a whole number from 0 to 60$/],
    ['?n=1001', /^n must be a whole number from 0 to 1000$/],
    ['?snapshot=yes', /^snapshot must be 0 or 1$/],
    ['?repository=A', /^a repository pattern is a name with \* or \*\* in it/],
    ['?tag=a/b', /^a tag pattern is a tag with \* in it/],
    [`?${'tag=a&'.repeat(51)}`, /^tag may be given at most 50 times$/],
  ])('%s is refused with the rule', async (query, message) => {
    const answer = await registry.anonymous(`/api/v1/events${query}`)
    expect(answer.status).toBe(400)
    const { errors } = (await answer.json()) as { errors: { message: string }[] }
    expect(errors[0]?.message).toMatch(message)
  })
})

it('one address may open a limited number of streams', async () => {
  const held = await Promise.all([1, 2, 3].map(() => openStream(registry.url)))
  expect(held.map(({ status }) => status)).toEqual([200, 200, 200])
  const more = await openStream(registry.url)
  expect(more.status).toBe(429)
  expect(more.headers['retry-after']).toBe('10')
  const waiting = await registry.anonymous('/api/v1/events?wait=1')
  expect(waiting.status).toBe(429)
  // A page that does not wait does not count.
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

it('a client that disconnects while it waits for a page makes room for another', async () => {
  await expect.poll(feedClients).toBe(0)
  const query = '/api/v1/events?repository=nothing/here&wait=60'
  const going = new AbortController()
  const waiting = [1, 2, 3].map(() =>
    registry.anonymous(query, { signal: going.signal }).catch(() => 'gone'),
  )
  await expect.poll(feedClients).toBe(3)
  expect((await registry.anonymous('/api/v1/events?wait=1')).status).toBe(429)
  going.abort()
  expect(await Promise.all(waiting)).toEqual(['gone', 'gone', 'gone'])
  await expect.poll(feedClients).toBe(0)
  expect((await registry.anonymous('/api/v1/events?wait=1')).status).toBe(200)
})

it('a long poll is refused when its credential was deleted meanwhile', async () => {
  const repository = newRepository()
  const { name, secret } = await makeCredential(registry, {
    repositories: [repository],
    actions: ['pull'],
  })
  const headers = { authorization: basic(name, secret) }
  const { cursor } = await page('')
  await expect.poll(feedClients).toBe(0)
  const path = `/api/v1/events?repository=${repository}&after=${cursor}&wait=20`
  const waiting = registry.anonymous(path, { headers })
  await expect.poll(feedClients).toBe(1)
  await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
  await pushImage(registry, repository, 'live')
  expect((await waiting).status).toBe(401)
})

it('HEAD describes the stream, and ends at once', async () => {
  const answer = await registry.anonymous('/api/v1/events', {
    method: 'HEAD',
    headers: { accept: 'text/event-stream' },
  })
  expect(answer.status).toBe(200)
  expect(answer.headers.get('content-type')).toMatch(/^text\/event-stream/)
})

async function feedClients(): Promise<number> {
  const metrics = await (await registry.request('/metrics')).text()
  return Number(/^rookery_feed_clients (\d+)/m.exec(metrics)?.[1])
}

/** Headers of a caller that sees the long name of the actor. */
const member = () => ({ authorization: basic('admin', registry.password) })

/** Appends events of 15 KB, the size of a large index's, or of `bytes`. */
async function appendLargeEvents(
  client: pg.Client,
  repository: string,
  count: number,
  bytes = 15_000,
): Promise<void> {
  await client.query(
    `insert into event_outbox (type, repository_id, digest, data)
     select 'image.deleted', r.id, 'sha256:' || repeat('a', 64),
            json_build_object('type', 'image.deleted', 'repository', r.name, 'tag', null,
                              'digest', 'sha256:' || repeat('a', 64), 'previousDigest', null,
                              'actor', repeat('x', $3::int))::text
       from repositories r, generate_series(1, $2::int) as n
      where r.name = $1`,
    [repository, count, bytes],
  )
}

it('a client that reads is not disconnected, even by many events at once', async () => {
  const repository = newRepository()
  await pushImage(registry, repository, 'first')
  const stream = await openStream(
    registry.url,
    `?repository=${repository}&type=image.deleted`,
    member(),
  )
  await expect.poll(() => stream.lastId).toBeDefined()
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  await appendLargeEvents(client, repository, 500)
  await client.end()
  await waitForBlocks(stream, 500)
  expect(stream.isOver).toBe(false)
  stream.close()
})

it('a client that does not read is disconnected', async () => {
  const repository = newRepository()
  // Between client and registry, so that no socket buffer of this machine holds everything.
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
  const slow = await openStream(`http://127.0.0.1:${port}`, `?repository=${repository}`, member())
  await expect.poll(() => slow.lastId).toBeDefined()
  await pushImage(registry, repository, 'first')
  await waitForBlocks(slow, 2)
  stopped = true
  // More bytes than the socket buffers hold.
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  for (let round = 0; round < 20; round += 1) {
    await appendLargeEvents(client, repository, 50)
    await new Promise((resolve) => setTimeout(resolve, 60))
  }
  await client.end()
  await expect.poll(feedClients, { timeout: 20_000 }).toBe(0)
  slow.close()
  proxy.close()
})

it.concurrent('a stream ends when its credential is deleted', async () => {
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

it.concurrent('a stream without events sends comments, so that no proxy closes it', async () => {
  const stream = await openStream(registry.url)
  await expect
    .poll(() => stream.comments.length, { timeout: 20_000, interval: 250 })
    .toBeGreaterThan(0)
  stream.close()
}, 30_000)

it('streams end at once when a server stops, and resume at another replica from the same cursor', async () => {
  const database = await createTestDatabase()
  const folder = await mkdtemp(join(tmpdir(), 'rookery-feed-'))
  const settings = {
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_DATA_DIR: folder,
    ROOKERY_ADMIN_PASSWORD: 'two of a kind by the tests',
    ROOKERY_LOG_LEVEL: 'silent',
  }
  const [one, two] = [await startProcess(settings), await startProcess(settings)]
  try {
    const other = registryAt(two.url, folder, settings)
    const stream = await openStream(one.url, '?type=image.tag.updated')
    await expect.poll(() => stream.lastId).toBeDefined()
    // A push to one replica reaches the clients of the other.
    await pushImage(other, 'a/b', 'v1')
    await waitForBlocks(stream, 1)
    const started = performance.now()
    await stopProcess(one)
    expect(performance.now() - started).toBeLessThan(15_000)
    await expect.poll(() => stream.isOver).toBe(true)
    await pushImage(other, 'a/b', 'v2')
    const again = await openStream(two.url, '?type=image.tag.updated', {
      'last-event-id': stream.lastId ?? '',
    })
    await pushImage(other, 'a/b', 'v3')
    await waitForBlocks(again, 2)
    expect(subjects(again)).toEqual(['a/b:v2', 'a/b:v3'])
    again.close()
  } finally {
    await stopProcess(two)
    await database.drop()
    await rm(folder, { recursive: true, force: true })
  }
})

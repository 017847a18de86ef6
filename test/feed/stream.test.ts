import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { pushBuild } from '../images/image-fixtures.ts'
import { feedCursorsOf } from '../support/cursors.ts'
import { eventBodies } from '../support/events.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { dataOf, openStream, type Stream, subjects, waitForBlocks } from './event-stream-client.ts'

let registry: TestRegistry
let client: pg.Client
const streams: Stream[] = []

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_FEED_CLIENTS_PER_ADDRESS: '1500' })
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
})

afterEach(() => {
  for (const stream of streams.splice(0)) stream.close()
})

afterAll(async () => {
  await client.end()
  await registry.close()
})

async function open(query = '', headers: Record<string, string> = {}): Promise<Stream> {
  const stream = await openStream(registry.url, query, headers)
  streams.push(stream)
  return stream
}

const makePrivate = (repository: string) =>
  registry.request(`/api/v1/repositories/${repository}/settings`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ visibility: 'private' }),
  })

describe('the stream', () => {
  it('sends new events to an anonymous client, and no earlier ones', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'before')
    await eventBodies(registry, repository, 2)
    const stream = await open(`?repository=${repository}`)
    expect(stream.status).toBe(200)
    expect(stream.headers).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    })
    expect(stream.headers['content-encoding']).toBeUndefined()
    await expect.poll(() => stream.lastId).toBeDefined()
    const { digest } = await pushImage(registry, repository, 'live')
    await waitForBlocks(stream, 2)
    expect(subjects(stream)).toEqual([`${repository}@${digest}`, `${repository}:live`])
    expect(stream.blocks[1]?.event).toBe('image.tag.updated')
    expect(stream.lastId).toBe(stream.blocks[1]?.id)
  })

  it('sends only events that match the filter', async () => {
    const [one, other] = [newRepository(), newRepository()]
    const wanted = await open(
      `?repository=${one}&tag=v*&type=image.tag.updated&type=image.tag.deleted`,
    )
    await expect.poll(() => wanted.lastId).toBeDefined()
    await pushImage(registry, other, 'v1')
    await pushImage(registry, one, 'live')
    await pushImage(registry, one, 'v1')
    await registry.request(`/v2/${one}/manifests/v1`, { method: 'DELETE' })
    await waitForBlocks(wanted, 2)
    expect(wanted.blocks.map(({ event }) => event)).toEqual([
      'image.tag.updated',
      'image.tag.deleted',
    ])
    expect(subjects(wanted)).toEqual([`${one}:v1`, `${one}:v1`])
  })

  it('resumes from the cursor of a client, without a gap and without a duplicate', async () => {
    const repository = newRepository()
    const query = `?repository=${repository}&type=image.tag.updated`
    const first = await open(query)
    await expect.poll(() => first.lastId).toBeDefined()
    const begun = first.lastId ?? ''
    first.close()
    const received: string[] = []
    let cursor = begun
    let pushing = true
    const tags = Array.from({ length: 40 }, (_, index) => `t${index}`)
    const pushes = (async () => {
      for (const tag of tags) await pushImage(registry, repository, tag)
      pushing = false
    })()
    // Disconnects again and again during the pushes.
    for (let cuts = 0; cuts < 400 && (pushing || received.length < tags.length); cuts += 1) {
      const stream = await open(query, { 'last-event-id': cursor })
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 60))
      // Even on a slow machine, the last reconnects receive an event.
      if (!pushing) await waitForBlocks(stream, 1)
      stream.close()
      received.push(...subjects(stream))
      cursor = stream.lastId ?? cursor
    }
    await pushes
    expect(received).toEqual(tags.map((tag) => `${repository}:${tag}`))
    const whole = await open(`${query}&after=${begun}`)
    await waitForBlocks(whole, tags.length)
    expect(subjects(whole)).toEqual(received)
  })

  it('catches up with many missed events, and then sends new ones', async () => {
    const repository = newRepository()
    const before = await open(`?repository=${repository}`)
    await expect.poll(() => before.lastId).toBeDefined()
    for (let count = 0; count < 130; count += 10) {
      const tags = Array.from({ length: 10 }, (_, index) => `t${count + index}`)
      await Promise.all(tags.map((tag) => pushImage(registry, repository, tag)))
    }
    const after = await open(`?repository=${repository}&after=${before.blocks[0]?.id}`)
    await waitForBlocks(after, 259)
    await pushImage(registry, repository, 'last')
    await waitForBlocks(after, 261)
    await waitForBlocks(before, 262)
    expect(subjects(after)).toEqual(subjects(before).slice(1))
  })

  it('sends the event of a transaction that commits late', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'a')
    await eventBodies(registry, repository, 2)
    const stream = await open(`?repository=${repository}&type=image.tag.updated`)
    await expect.poll(() => stream.lastId).toBeDefined()
    // Appended first and committed last.
    const late = new pg.Client(registry.databaseUrl)
    await late.connect()
    await late.query('begin')
    await late.query(
      `insert into event_outbox (type, repository_id, tag, digest, data)
       select type, repository_id, 'late', digest,
              (body::jsonb -> 'data' || '{"type":"image.tag.updated","tag":"late"}') - 'registry'
         from events
        where type = 'image.tag.updated'
          and repository_id = (select id from repositories where name = $1)`,
      [repository],
    )
    await pushImage(registry, repository, 'early')
    await waitForBlocks(stream, 1)
    await late.query('commit')
    await late.end()
    await waitForBlocks(stream, 2)
    expect(subjects(stream)).toEqual([`${repository}:early`, `${repository}:late`])
    const sequences = stream.blocks.map((block) => Number(dataOf(block).sequence))
    expect(sequences[1]).toBe((sequences[0] ?? 0) + 1)
  })
})

describe('a snapshot', () => {
  it('has all tags, and the changes after it follow without a gap', async () => {
    const repository = newRepository()
    await pushBuild(registry, repository, 'live', 'hello-key-1')
    await pushImage(registry, repository, 'plain')
    const stream = await open(`?repository=${repository}&snapshot=1`)
    await waitForBlocks(stream, 3)
    expect(stream.blocks.map(({ event }) => event)).toEqual(['snapshot', 'snapshot', 'live'])
    const [live, plain] = stream.blocks.map(dataOf)
    expect(live).toMatchObject({
      registry: new URL(registry.url).host,
      repository,
      tag: 'live',
      unikernels: [{ target: 'hvt', kernelDigest: expect.stringMatching(/^sha256:/) }],
    })
    expect(plain).toMatchObject({ tag: 'plain', unikernels: [] })
    await pushImage(registry, repository, 'live')
    await waitForBlocks(stream, 5)
    expect(subjects(stream)[1]).toBe(`${repository}:live`)
  })

  it('and its events add up to the present tags, also during many pushes', async () => {
    const repository = newRepository()
    let pushing = true
    const current = new Map<string, string>()
    const pushes = (async () => {
      for (let count = 0; count < 40; count += 1) {
        const tag = `t${count % 4}`
        current.set(tag, (await pushImage(registry, repository, tag)).digest)
      }
      pushing = false
    })()
    const opened: Stream[] = []
    while (pushing) {
      opened.push(await open(`?repository=${repository}&snapshot=1&type=image.tag.updated`))
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    await pushes
    const tagsOf = ({ blocks }: Stream) => {
      const tags = new Map<string, string>()
      for (const block of blocks) {
        const value = dataOf(block)
        if (block.event === 'snapshot') tags.set(value.tag, value.digest)
        // Delivery is at least once: while pushes never pause, an event may repeat a move that the snapshot has.
        if (block.event === 'image.tag.updated') tags.set(value.data.tag, value.data.digest)
      }
      return tags
    }
    for (const stream of opened) await expect.poll(() => tagsOf(stream)).toEqual(current)
  })

  it('is not repeated to a client that resumes from its cursor', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'live')
    const first = await open(`?repository=${repository}&snapshot=1`)
    await waitForBlocks(first, 2)
    const again = await open(`?repository=${repository}&snapshot=1`, {
      'last-event-id': first.lastId ?? '',
    })
    await pushImage(registry, repository, 'next')
    await waitForBlocks(again, 2)
    expect(again.blocks.map(({ event }) => event)).toEqual(['image.pushed', 'image.tag.updated'])
  })
})

describe('a reset', () => {
  it.each([
    ['another-epoch', async () => '0'.repeat(32)],
    [
      'ahead',
      async () => {
        const cursors = await feedCursorsOf(registry)
        const page = (await (await registry.anonymous('/api/v1/events')).json()) as {
          cursor: string
        }
        const epoch = cursors.parse(page.cursor)?.epoch ?? ''
        return cursors.format({ epoch, position: 999_999_999 })
      },
    ],
    [
      'pruned',
      async () => {
        const page = (await (await registry.anonymous('/api/v1/events')).json()) as {
          cursor: string
        }
        await pushImage(registry, newRepository(), 'live')
        await expect
          .poll(async () => (await client.query('select position from feed')).rows[0].position)
          .not.toBe(String((await feedCursorsOf(registry)).parse(page.cursor)?.position))
        await client.query('update feed set pruned_through = position')
        return page.cursor
      },
    ],
  ])('is sent for a cursor that cannot be resumed from: %s', async (reason, cursorOf) => {
    const repository = newRepository()
    await pushImage(registry, repository, 'live')
    const cursor = await cursorOf()
    const stream = await open(`?repository=${repository}&snapshot=1`, { 'last-event-id': cursor })
    await waitForBlocks(stream, 3)
    expect(stream.blocks.map(({ event }) => event)).toEqual(['reset', 'snapshot', 'live'])
    expect(dataOf(stream.blocks[0] ?? {})).toEqual({ reason })
    // A client that is disconnected within the snapshot has to start it again.
    expect(stream.blocks.map(({ id }) => id !== undefined)).toEqual([false, false, true])
    const plain = await open(`?repository=${repository}`, { 'last-event-id': cursor })
    await waitForBlocks(plain, 1)
    expect(dataOf(plain.blocks[0] ?? {})).toEqual({ reason, cursor: plain.lastId })
    await pushImage(registry, repository, 'next')
    await waitForBlocks(stream, 5)
  })
})

describe('visibility', () => {
  it('only clients that may pull a private repository receive its events', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'live')
    await makePrivate(repository)
    const { name, secret } = await makeCredential(registry, {
      repositories: [repository],
      actions: ['pull'],
    })
    const query = `?repository=${repository}&snapshot=1`
    const stranger = await open(query)
    const holder = await open(query, { authorization: basic(name, secret) })
    const admin = await open(query, { authorization: basic('admin', registry.password) })
    await pushImage(registry, repository, 'next')
    for (const stream of [holder, admin]) await waitForBlocks(stream, 4)
    await waitForBlocks(stranger, 1)
    expect(stranger.blocks.map(({ event }) => event)).toEqual(['live'])
    const page = await registry.anonymous(
      `/api/v1/events?repository=${repository}&after=${holder.blocks[1]?.id}`,
    )
    expect(await page.json()).toMatchObject({ events: [] })
  })

  it('events of a repository that becomes private are no longer sent to strangers', async () => {
    const repository = newRepository()
    const stream = await open(`?repository=${repository}`)
    await expect.poll(() => stream.lastId).toBeDefined()
    await pushImage(registry, repository, 'live')
    await waitForBlocks(stream, 2)
    await makePrivate(repository)
    await pushImage(registry, repository, 'secret')
    const other = newRepository()
    const witness = await open(`?repository=${other}`)
    await pushImage(registry, other, 'seen')
    await waitForBlocks(witness, 2)
    expect(stream.blocks).toHaveLength(2)
  })

  it('a wrong credential is refused, and does not count as anonymous', async () => {
    const refused = await open('', { authorization: basic('admin', 'wrong') })
    expect(refused.status).toBe(401)
  })
})

it('a thousand clients receive events, and none holds up another', async () => {
  const repository = newRepository()
  const many = await Promise.all(
    Array.from({ length: 1000 }, (_, index) =>
      open(`?repository=${index % 2 === 0 ? repository : 'somewhere/else'}`),
    ),
  )
  await expect.poll(() => many.every(({ lastId }) => lastId !== undefined)).toBe(true)
  await pushImage(registry, repository, 'live')
  const received = () => many.filter(({ blocks }) => blocks.length === 2).length
  await expect.poll(received, { timeout: 10_000 }).toBe(500)
  const metrics = await (await registry.request('/metrics')).text()
  expect(Number(/^rookery_feed_clients (\d+)/m.exec(metrics)?.[1])).toBeGreaterThanOrEqual(1000)
})

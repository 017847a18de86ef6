import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { createLog } from '../../src/server/log.ts'
import { type RunningServer, startServer } from '../../src/server/server.ts'
import { digestOf } from '../support/digest.ts'
import { EMPTY_JSON, IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let second: RunningServer
let db: pg.Client

beforeAll(async () => {
  registry = await startRegistry()
  second = await startServer(parseConfig(registry.settings), createLog('silent'), () => {})
  db = new pg.Client(registry.databaseUrl)
  await db.connect()
})

afterAll(async () => {
  const errors = registry.log.filter((line) => line.includes('"level":"error"'))
  await db.end()
  await second.close()
  await registry.close()
  expect(errors).toEqual([])
})

/** Sends a request to one of the two servers as the administrator. */
function ask(path: string, init: RequestInit = {}, server = 0): Promise<Response> {
  const url = new URL(path, server === 0 ? registry.url : second.url)
  const authorization = `Basic ${Buffer.from(`admin:${registry.password}`).toString('base64')}`
  return fetch(url, { ...init, headers: { authorization, ...(init.headers as object) } })
}

type Pushable = { readonly digest: string; readonly mediaType: string; readonly bytes: Buffer }

function manifest(mediaType: string, fields: object): Pushable {
  const bytes = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType, ...fields, annotations: { unique: unique() } }),
  )
  return { digest: digestOf(bytes), mediaType, bytes }
}

function unique(): string {
  return randomBytes(8).toString('hex')
}

/** Returns an image of blobs that the repository has; without any, of the empty blob. */
function image(blobs: readonly { digest: string; size: number }[] = []): Pushable {
  const empty = {
    mediaType: EMPTY_JSON,
    digest: digestOf(EMPTY),
  }
  const layers = blobs.map((blob) => ({ mediaType: 'application/octet-stream', ...blob }))
  return manifest(IMAGE_MANIFEST, { config: { ...empty, size: 2 }, layers })
}

const EMPTY = Buffer.from('{}')
/** The push of the empty blob to each repository that has images. */
const emptied = new Map<string, Promise<number>>()

async function put(repository: string, reference: string, it: Pushable, server = 0) {
  if (!emptied.has(repository)) emptied.set(repository, pushBlob(repository, EMPTY))
  await emptied.get(repository)
  const answer = await ask(
    `/v2/${repository}/manifests/${reference}`,
    { method: 'PUT', headers: { 'content-type': it.mediaType }, body: new Uint8Array(it.bytes) },
    server,
  )
  return { status: answer.status, text: await answer.text() }
}

async function pushBlob(repository: string, bytes: Uint8Array): Promise<number> {
  const path = `/v2/${repository}/blobs/uploads/?digest=${digestOf(bytes)}`
  const answer = await ask(path, { method: 'POST', body: new Uint8Array(bytes) })
  await answer.arrayBuffer()
  return answer.status
}

async function listTags(repository: string): Promise<string[]> {
  const answer = await ask(`/v2/${repository}/tags/list`)
  return ((await answer.json()) as { tags: string[] }).tags
}

/**
 * Returns the digest of a tag, or undefined when there is no such tag. Asserts that it resolves.
 */
async function digestOfTag(repository: string, tag: string): Promise<string | undefined> {
  const answer = await ask(`/v2/${repository}/manifests/${tag}`)
  const bytes = Buffer.from(await answer.arrayBuffer())
  if (answer.status === 404) return undefined
  expect(answer.status).toBe(200)
  expect(answer.headers.get('docker-content-digest')).toBe(digestOf(bytes))
  return digestOf(bytes)
}

/** Asserts that each move begins where the one before ended. Returns the tag's last position. */
async function expectChain(repository: string, tag: string): Promise<string | undefined> {
  const { rows } = await db.query<{ digest: string | null; previous: string | null }>(
    `select h.digest, h.previous_digest as previous
       from tag_history h
       join repositories r on r.id = h.repository_id
      where r.name = $1
        and h.tag = $2
      order by h.id`,
    [repository, tag],
  )
  let last: string | null = null
  for (const { digest, previous } of rows) {
    expect(previous).toBe(last)
    last = digest
  }
  return last ?? undefined
}

it('50 concurrent pushes of one tag: the tag points to one of them, and its history is a chain', async () => {
  const images = Array.from({ length: 50 }, () => image())
  const answers = await Promise.all(
    images.map((it, index) => put('same/tag', 'latest', it, index % 2)),
  )
  expect(answers.map(({ status }) => status)).toEqual(images.map(() => 201))
  const digest = await digestOfTag('same/tag', 'latest')
  expect(images.map((it) => it.digest)).toContain(digest)
  expect(await expectChain('same/tag', 'latest')).toBe(digest)
  const { rows } = await db.query(
    `select distinct digest from tag_history where tag = 'latest' and digest = any($1)`,
    [images.map((it) => it.digest)],
  )
  expect(rows).toHaveLength(50)
  expect(await listTags('same/tag')).toEqual(['latest'])
})

it('50 concurrent pushes of different tags into a new repository: all are stored', async () => {
  const images = Array.from({ length: 50 }, () => image())
  const answers = await Promise.all(
    images.map((it, index) => put('many/tags', `tag-${index}`, it, index % 2)),
  )
  expect(answers.map(({ status }) => status)).toEqual(images.map(() => 201))
  expect(await listTags('many/tags')).toEqual(images.map((_, index) => `tag-${index}`).sort())
  for (const [index, { digest }] of images.entries()) {
    expect(await digestOfTag('many/tags', `tag-${index}`)).toBe(digest)
    expect(await expectChain('many/tags', `tag-${index}`)).toBe(digest)
  }
})

it('a read that began after the answer to a push never returns the previous state', async () => {
  const MOVES = 60
  const images = Array.from({ length: MOVES }, () => image())
  const positions = new Map(images.map(({ digest }, index) => [digest, index]))
  expect((await put('moving/tag', 'now', images[0] as Pushable)).status).toBe(201)
  let acknowledged = 0
  let reads = 0
  const stale: string[] = []

  const read = async (kind: number, server: number): Promise<void> => {
    const atLeast = acknowledged
    const seen = images[Math.max(0, atLeast - (kind % 3))]?.digest
    const answer = await ask(
      '/v2/moving/tag/manifests/now',
      {
        method: kind === 1 ? 'HEAD' : 'GET',
        headers: kind === 2 || kind === 3 ? { 'if-none-match': `"${seen}"` } : {},
      },
      server,
    )
    const bytes = Buffer.from(await answer.arrayBuffer())
    const digest = answer.headers.get('docker-content-digest') ?? ''
    expect([200, 304]).toContain(answer.status)
    if (answer.status === 304) expect(digest).toBe(seen)
    else if (kind !== 1) expect(digestOf(bytes)).toBe(digest)
    const position = positions.get(digest) ?? -1
    if (position < atLeast) stale.push(`${kind} on server ${server}: ${position} < ${atLeast}`)
    reads += 1
  }
  let moving = true
  const readers = Array.from({ length: 64 }, async (_, index) => {
    while (moving) await read(index % 4, (index >> 2) % 2)
  })
  for (const [index, it] of images.entries()) {
    const { status } = await put('moving/tag', 'now', it, index % 2)
    expect(status).toBe(201)
    acknowledged = index
  }
  moving = false
  await Promise.all(readers)
  expect(stale).toEqual([])
  expect(reads).toBeGreaterThan(MOVES)
  expect(await expectChain('moving/tag', 'now')).toBe(images.at(-1)?.digest)
})

it('20 clients push one blob at the same time: one row, bytes once', async () => {
  const bytes = randomBytes(300_000)
  const digest = digestOf(bytes)
  const statuses = await Promise.all(
    Array.from({ length: 20 }, (_, index) => pushBlob(`one/blob-${index % 4}`, bytes)),
  )
  expect(statuses).toEqual(Array.from({ length: 20 }, () => 201))
  const { rows } = await db.query('select storage_key as key from blobs where digest = $1', [
    digest,
  ])
  expect(rows).toHaveLength(1)
  const held = (await registry.storedObjects()).filter(({ size }) => size === bytes.length)
  expect(held.map(({ key }) => key)).toEqual([rows[0].key])
  expect((await db.query('select id from uploads')).rows).toEqual([])
  for (let index = 0; index < 4; index += 1) {
    const answer = await ask(`/v2/one/blob-${index}/blobs/${digest}`)
    expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true)
  }
})

it('one of two chunks for the same position is accepted, and the other client can continue', async () => {
  for (let round = 0; round < 20; round += 1) {
    const start = await ask('/v2/two/chunks/blobs/uploads/', { method: 'POST' })
    const location = start.headers.get('location') ?? ''
    const chunks = [randomBytes(40_000), randomBytes(50_000)]
    const answers = await Promise.all(
      chunks.map((chunk, index) =>
        ask(
          location,
          {
            method: 'PATCH',
            headers: { 'content-range': `0-${chunk.length - 1}` },
            body: new Uint8Array(chunk),
          },
          index,
        ),
      ),
    )
    const statuses = answers.map(({ status }) => status).sort()
    expect(statuses[0]).toBe(202)
    // The position is wrong when the other chunk is stored, and the upload is busy while it is sent.
    expect([416, 503]).toContain(statuses[1])
    const winner = chunks[answers.findIndex(({ status }) => status === 202)] as Buffer
    const status = await ask(location)
    expect(status.headers.get('range')).toBe(`0-${winner.length - 1}`)
    const rest = randomBytes(1000)
    const whole = Buffer.concat([winner, rest])
    const end = await ask(
      `${location}?digest=${digestOf(whole)}`,
      {
        method: 'PUT',
        headers: { 'content-range': `${winner.length}-${whole.length - 1}` },
        body: new Uint8Array(rest),
      },
      round % 2,
    )
    expect(end.status).toBe(201)
    const blob = await ask(`/v2/two/chunks/blobs/${digestOf(whole)}`)
    expect(Buffer.from(await blob.arrayBuffer()).equals(whole)).toBe(true)
  }
})

it('deletes by digest meet pushes of the same manifest and tags: every answer fits', async () => {
  const repository = 'delete/push'
  const images = [image(), image()]
  const tags = ['a', 'b', 'c']
  const statuses = new Map<string, Set<number>>()
  const note = (kind: string, status: number) => {
    statuses.set(kind, (statuses.get(kind) ?? new Set()).add(status))
  }
  await put(repository, 'a', images[0] as Pushable)
  await Promise.all(
    Array.from({ length: 12 }, async (_, client) => {
      for (let round = 0; round < 25; round += 1) {
        const it = images[(client + round) % 2] as Pushable
        const tag = tags[(client + round) % 3]
        if (client % 3 === 0) {
          const path = `/v2/${repository}/manifests/${round % 5 === 0 ? tag : it.digest}`
          const answer = await ask(path, { method: 'DELETE' }, round % 2)
          note('delete', answer.status)
          await answer.arrayBuffer()
        } else if (client % 3 === 1) {
          note('push', (await put(repository, `${it.digest}?tag=c&tag=a&tag=b`, it)).status)
        } else note('push', (await put(repository, `${tag}?tag=${tags[round % 3]}`, it, 1)).status)
      }
    }),
  )
  expect([...(statuses.get('push') ?? [])]).toEqual([201])
  expect([...(statuses.get('delete') ?? [])].every((status) => [202, 404].includes(status))).toBe(
    true,
  )
  const listed = await listTags(repository)
  for (const tag of tags) {
    const digest = await digestOfTag(repository, tag)
    expect(listed.includes(tag)).toBe(digest !== undefined)
    expect(await expectChain(repository, tag)).toBe(digest)
  }
})

it('pushes that lock tags, blobs and children in every order never deadlock', async () => {
  const repository = 'dead/lock'
  const blobs = Array.from({ length: 6 }, () => randomBytes(100))
  for (const blob of blobs) expect(await pushBlob(repository, blob)).toBe(201)
  const described = blobs.map((blob) => ({ digest: digestOf(blob), size: blob.length }))
  const children = [image(), image(), image()]
  for (const child of children)
    expect((await put(repository, child.digest, child)).status).toBe(201)
  const tags = Array.from({ length: 8 }, (_, index) => `t${index}`)
  const turned = <T>(list: readonly T[], by: number): T[] => {
    const from = by % list.length
    const order = [...list.slice(from), ...list.slice(0, from)]
    return by % 2 === 0 ? order : order.reverse()
  }
  const failures: string[] = []
  await Promise.all(
    Array.from({ length: 16 }, async (_, client) => {
      for (let round = 0; round < 20; round += 1) {
        const by = client * 7 + round * 3
        const pushed =
          by % 3 === 0
            ? manifest(IMAGE_INDEX, {
                manifests: turned(children, by).map(({ digest, mediaType, bytes }) => ({
                  ...{ digest, mediaType },
                  size: bytes.length,
                })),
              })
            : image(turned(described, by))
        const query = turned(tags, by)
          .map((tag) => `tag=${tag}`)
          .join('&')
        const { status, text } = await put(repository, `${pushed.digest}?${query}`, pushed, by % 2)
        if (status !== 201) failures.push(`${status} ${text}`)
        // The children are pushed again at the same time, which locks them in the other order.
        const child = turned(children, by)[0] as Pushable
        const again = await put(repository, `${child.digest}?tag=${tags[by % 8]}`, child)
        if (again.status !== 201) failures.push(`${again.status} ${again.text}`)
      }
    }),
  )
  expect(failures).toEqual([])
  for (const tag of tags) {
    expect(await expectChain(repository, tag)).toBe(await digestOfTag(repository, tag))
  }
})

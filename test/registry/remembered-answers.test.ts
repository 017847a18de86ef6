import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { ContentLease } from '../../src/db/content-lease.ts'
import { Database } from '../../src/db/database.ts'
import { type BlobLookups, blobLookups } from '../../src/db/registry/blobs.ts'
import { type ManifestLookups, manifestLookups } from '../../src/db/registry/manifests.ts'
import { moveTags, removeTag } from '../../src/db/registry/tags.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { parseRepository, type Tag } from '../../src/oci/reference.ts'
import { eventually } from '../support/eventually.ts'
import { newRepository, type PushedImage, pushBlob, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const MOVE = 'update tags set digest = $1 where repository_id = $2 and name = $3'
const ROUNDS = 60
const STOP_MILLISECONDS = 150
const CHECK = 'pg_try_advisory_xact_lock(1919905643, 1818583411)'
const BYTES_MAX = 1024 * 1024
const STALE_SECONDS = 3600
const TAG = 'live' as Tag
/** Short, so that a test sees the lock taken again. */
const PAUSES = { afterOthers: 20, afterBusy: 20, afterUnknownEnd: 20 }

/** Another server of the same database: its changes are those of others. */
let other: TestRegistry
let db: Database
let manifests: ManifestLookups
let blobs: BlobLookups
let statements = 0
/** The checks of the lease wait for it, as those of a process that is stopped. */
let stopped: Promise<void> | undefined

beforeAll(async () => {
  other = await startRegistry()
})
afterAll(() => other.close())

type Server = { readonly db: Database; readonly manifests: ManifestLookups; close(): Promise<void> }

function openServer(): Server {
  const server = randomUUID()
  const opened = new Database({
    ...{ connection: other.databaseUrl, connectionsMax: 4, server },
    onIdleError: () => {},
  })
  // Some tests end its connection.
  const onError = () => {}
  const lease = new ContentLease(opened, server, onError, PAUSES)
  return {
    db: opened,
    manifests: manifestLookups(opened, BYTES_MAX),
    async close() {
      await lease.close()
      await opened.close()
    },
  }
}

beforeEach(() => {
  statements = 0
  const server = openServer()
  db = server.db
  manifests = server.manifests
  const query = db.query.bind(db)
  vi.spyOn(db, 'query').mockImplementation(async (text, values) => {
    statements += 1
    if (text.includes(CHECK)) await stopped
    return query(text, values) as never
  })
  blobs = blobLookups(db, STALE_SECONDS)
  return server.close
})

type Subject = { readonly repository: string; readonly image: PushedImage; readonly blob: Digest }

async function subject(): Promise<Subject> {
  const repository = newRepository()
  const { digest } = await pushBlob(other, repository, Buffer.from(repository))
  return { repository, image: await pushImage(other, repository, TAG), blob: digest as Digest }
}

const view = (repository: string) => ({
  repository: parseRepository(repository),
  publicOnly: false,
})

async function digestOfTag(repository: string, of = manifests): Promise<Digest | undefined> {
  const { manifest } = await of.load({
    view: view(repository),
    reference: TAG,
    cached: 'all',
  })
  return manifest?.digest
}

async function sizeOfBlob({ repository, blob }: Subject): Promise<number | undefined> {
  return (await blobs.load({ view: view(repository), digest: blob })).blob?.size
}

/** Looks up until the answers are remembered. */
async function remember(one: Subject): Promise<void> {
  await vi.waitFor(
    async () => {
      for (let count = 0; count < 100; count += 1) await digestOfTag(one.repository)
      await sizeOfBlob(one)
      expect(db.content.version).toBeDefined()
    },
    { timeout: 30_000, interval: 20 },
  )
  await digestOfTag(one.repository)
  await sizeOfBlob(one)
  statements = 0
}

async function connect(): Promise<pg.Client> {
  const client = new pg.Client(other.databaseUrl)
  client.on('error', () => {})
  await client.connect()
  onTestFinished(() => client.end().catch(() => {}))
  return client
}

async function repositoryId(client: pg.Client, name: string): Promise<number> {
  const { rows } = await client.query('select id from repositories where name = $1', [name])
  return Number(rows[0].id)
}

/** Returns a digest that the tag can have. */
async function nextDigest({ repository }: Subject): Promise<Digest> {
  return (await pushImage(other, repository, 'next')).digest as Digest
}

describe('an answer to a pull', () => {
  it('is asked for once, while nothing changes', async () => {
    const one = await subject()
    await remember(one)
    for (let count = 0; count < 50; count += 1) {
      expect(await digestOfTag(one.repository)).toBe(one.image.digest)
      expect(await sizeOfBlob(one)).toBe(one.repository.length)
    }
    expect(statements).toBe(0)
  })

  it('is not remembered when few pull', async () => {
    const { repository } = await subject()
    for (let count = 0; count < 10; count += 1) await digestOfTag(repository)
    expect(db.content.version).toBeUndefined()
    expect(statements).toBe(10)
  })

  it('is asked for while a write of this process runs, and is the new one after it', async () => {
    const one = await subject()
    const next = await nextDigest(one)
    await remember(one)
    const id = await repositoryId(await connect(), one.repository)
    await db.transaction(async (tx) => {
      await moveTags(tx, id, [TAG], next, 'tester')
      statements = 0
      expect(await digestOfTag(one.repository)).toBe(one.image.digest)
      expect(await digestOfTag(one.repository)).toBe(one.image.digest)
      expect(statements).toBe(2)
    })
    expect(await digestOfTag(one.repository)).toBe(next)
    await db.transaction((tx) => removeTag(tx, id, TAG, 'tester'))
    expect(await digestOfTag(one.repository)).toBeUndefined()
  })

  it('of nothing is asked for each time', async () => {
    const one = await subject()
    await remember(one)
    const absent = newRepository()
    expect(await digestOfTag(absent)).toBeUndefined()
    const { digest } = await pushImage(other, absent, TAG)
    expect(await digestOfTag(absent)).toBe(digest)
  })

  it('has the visibility of its view', async () => {
    const one = await subject()
    await remember(one)
    const client = await connect()
    await client.query(`update repositories set visibility = 'private' where name = $1`, [
      one.repository,
    ])
    const question = { reference: TAG, cached: 'all' } as const
    const { repository } = view(one.repository)
    const hidden = await manifests.load({ view: { repository, publicOnly: true }, ...question })
    expect(hidden.repositoryId).toBeNull()
    expect(await digestOfTag(one.repository)).toBe(one.image.digest)
  })

  it('is the new one as soon as another server has acknowledged a push', async () => {
    const one = await subject()
    const next = await nextDigest(one)
    await remember(one)
    const path = `/v2/${one.repository}/manifests/`
    const bytes = await (await other.request(`${path}${next}`)).arrayBuffer()
    const pushed = await other.request(`${path}${TAG}`, {
      method: 'PUT',
      headers: { 'content-type': one.image.mediaType },
      body: bytes,
    })
    expect(pushed.status).toBe(201)
    expect(await digestOfTag(one.repository)).toBe(next)
  })

  it('is never older than an acknowledged change of this process or another one', async () => {
    const one = await subject()
    const digests = [one.image.digest as Digest, await nextDigest(one)]
    const client = await connect()
    const id = await repositoryId(client, one.repository)
    await remember(one)
    let acknowledged = one.image.digest as Digest
    let changes = 0
    let isMoving = false
    let remembered = 0
    const old: string[] = []
    let isOpen = true
    const readers = Array.from({ length: 8 }, async () => {
      while (isOpen) {
        const [before, moved] = [acknowledged, changes]
        const during = isMoving
        // A question whose connection was ended has no answer.
        const read = await digestOfTag(one.repository).catch(() => before)
        if (!during && !isMoving && moved === changes && read !== before) old.push(`${read}`)
        if (db.content.version !== undefined) remembered += 1
        await new Promise((resolve) => setImmediate(resolve))
      }
    })
    for (let round = 0; round < ROUNDS; round += 1) {
      const digest = digests[(round + 1) % 2] as Digest
      isMoving = true
      if (round % 4 === 0) await client.query(MOVE, [digest, id, TAG])
      // The connection that was ended may be that of this transaction.
      else await eventually(() => db.transaction((tx) => moveTags(tx, id, [TAG], digest, 'tester')))
      acknowledged = digest
      changes += 1
      isMoving = false
      await delay(round % 3 === 0 ? 150 : 0)
      if (round % 10 === 9) await endLease(client)
    }
    isOpen = false
    await Promise.all(readers)
    expect(old).toEqual([])
    expect(remembered).toBeGreaterThan(100)
  })
})

/** Ends the connection that checks the lease. */
async function endLease(client: pg.Client): Promise<void> {
  await client.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and query like '%checkLease%' and pid <> pg_backend_pid()`,
  )
}

describe('a change by others', () => {
  it('is seen also after the connection of the lease broke', async () => {
    const one = await subject()
    const next = await nextDigest(one)
    await remember(one)
    const client = await connect()
    const id = await repositoryId(client, one.repository)
    await endLease(client)
    await client.query(MOVE, [next, id, TAG])
    expect(await digestOfTag(one.repository)).toBe(next)
  })

  it('waits for a server that died while it remembered answers, once', async () => {
    const one = await subject()
    const client = await connect()
    const id = await repositoryId(client, one.repository)
    const move = async () => {
      const started = performance.now()
      await client.query(MOVE, [one.image.digest, id, TAG])
      return performance.now() - started
    }
    await client.query('delete from remembered_answers')
    await client.query(
      'insert into remembered_answers (server, held) values (gen_random_uuid(), true)',
    )
    expect(await move()).toBeGreaterThan(195)
    const { rows } = await client.query('select held from remembered_answers')
    expect(rows).toEqual([{ held: false }])
  })

  it('waits with the snapshot of an earlier moment, too', async () => {
    const one = await subject()
    const next = await nextDigest(one)
    const client = await connect()
    await client.query('begin isolation level repeatable read')
    const id = await repositoryId(client, one.repository)
    await remember(one)
    await client.query(MOVE, [next, id, TAG])
    await client.query('commit')
    expect(await digestOfTag(one.repository)).toBe(next)
  })

  it.each([['of nobody known'], ['of another server']])(
    '%s that is not yet committed lets no server remember',
    async (whose) => {
      const one = await subject()
      const next = await nextDigest(one)
      const client = await connect()
      const id = await repositoryId(client, one.repository)
      const server = randomUUID()
      if (whose === 'of another server') await client.query(`set rookery.server = '${server}'`)
      await client.query('begin')
      await client.query(MOVE, [next, id, TAG])
      const until = performance.now() + 300
      while (performance.now() < until) await digestOfTag(one.repository)
      expect(db.content.version).toBeUndefined()
      await client.query('commit')
      await remember(one)
      expect(await digestOfTag(one.repository)).toBe(next)
    },
  )

  it('is seen by a server that was stopped meanwhile, also when nothing says so', async () => {
    const one = await subject()
    const next = await nextDigest(one)
    const client = await connect()
    await client.query('begin isolation level repeatable read')
    const id = await repositoryId(client, one.repository)
    await remember(one)
    let resume = () => {}
    stopped = new Promise((resolve) => {
      resume = resolve
    })
    // A check that began before ends.
    await delay(STOP_MILLISECONDS)
    await client.query(MOVE, [next, id, TAG])
    await client.query('commit')
    stopped = undefined
    resume()
    await vi.waitFor(() => expect(db.content.version).toBeDefined(), {
      timeout: 30_000,
      interval: 1,
    })
    expect(await digestOfTag(one.repository)).toBe(next)
  })

  it('is one of another server that remembers answers at the same time', async () => {
    const one = await subject()
    const digests = [await nextDigest(one), one.image.digest as Digest]
    const second = openServer()
    onTestFinished(second.close)
    const id = await repositoryId(await connect(), one.repository)
    for (const [index, digest] of digests.entries()) {
      await vi.waitFor(
        async () => {
          for (const { content } of [db, second.db]) expect(content.version).toBeDefined()
          for (const of of [manifests, second.manifests]) await digestOfTag(one.repository, of)
        },
        { timeout: 30_000, interval: 2 },
      )
      const writer = index === 0 ? db : second.db
      await writer.transaction((tx) => moveTags(tx, id, [TAG], digest, 'tester'))
      expect(await digestOfTag(one.repository, manifests)).toBe(digest)
      expect(await digestOfTag(one.repository, second.manifests)).toBe(digest)
    }
  })
})

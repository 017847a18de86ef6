import pg from 'pg'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { MasterKey } from '../../src/auth/master-key.ts'
import { Database } from '../../src/db/database.ts'
import { appendEvents } from '../../src/db/events/outbox.ts'
import { ensureRepository } from '../../src/db/registry/repositories.ts'
import type { RegistryEvent } from '../../src/events/event.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { Repository, Tag } from '../../src/oci/reference.ts'
import { Sequencer } from '../../src/sequencer/sequencer.ts'
import { openRecipients } from '../../src/webhooks/recipients.ts'
import { WebhookCache } from '../../src/webhooks/webhook-cache.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'

let database: TestDatabase
let client: pg.Client
const opened: Database[] = []
const errors: unknown[] = []
const REPOSITORY = 'builds/hello' as Repository
const DIGEST = `sha256:${'a'.repeat(64)}` as Digest

beforeAll(async () => {
  database = await createTestDatabase()
  client = new pg.Client(database.url)
  await client.connect()
})

afterAll(async () => {
  await client.end()
  await Promise.all(opened.map((db) => db.close()))
  await database.drop()
})

afterEach(async () => {
  expect(errors.splice(0)).toEqual([])
  await client.query('truncate event_outbox, events, repository_sequences, webhooks cascade')
  await client.query('update feed set position = 0')
  await client.query('update webhook_changes set count = count + 1')
})

function open(): { db: Database; sequencer: Sequencer } {
  const db = new Database({
    connection: database.url,
    connectionsMax: 10,
    onIdleError() {},
  })
  opened.push(db)
  const cache = new WebhookCache(db, new MasterKey(Buffer.alloc(32, 7)))
  const sequencer = new Sequencer({
    db,
    source: 'https://registry.example.org',
    registry: () => 'registry.example.org',
    recipients: (tx) => openRecipients(cache, tx),
    onError: (error) => errors.push(error),
  })
  return { db, sequencer }
}

function updated(tag: string, repository: Repository = REPOSITORY): RegistryEvent {
  return {
    type: 'image.tag.updated',
    repository,
    tag: tag as Tag,
    digest: DIGEST,
    previousDigest: null,
    actor: 'ci',
    reason: 'push',
    mediaType: IMAGE_MANIFEST,
    artifactType: null,
    size: 500,
    unikernels: [],
  }
}

async function note(db: Database, event: RegistryEvent): Promise<void> {
  const repository = 'repository' in event ? event.repository : REPOSITORY
  const repositoryId = await ensureRepository(db, repository, 'public')
  await db.transaction((tx) => appendEvents(tx, [{ event, repositoryId }]))
}

type Row = { position: number; sequence: number; tag: string; repository: string; body: string }

async function published(): Promise<Row[]> {
  const { rows } = await client.query<Row>(
    `select e.position::int, e.sequence::int, e.tag, r.name as repository, e.body
       from events e
       left join repositories r on r.id = e.repository_id
      order by e.position`,
  )
  return rows
}

it('an event of a transaction that commits late gets a later position, and no reader skips it', async () => {
  const { db, sequencer } = open()
  const repositoryId = await ensureRepository(db, REPOSITORY, 'public')
  let commit: () => void = () => {}
  const held = new Promise<void>((resolve) => {
    commit = resolve
  })
  let isWritten: () => void = () => {}
  const written = new Promise<void>((resolve) => {
    isWritten = resolve
  })
  const late = db.transaction(async (tx) => {
    await appendEvents(tx, [{ event: updated('late'), repositoryId }])
    isWritten()
    await held
  })
  await written
  await note(db, updated('early'))
  await sequencer.flush()
  expect((await published()).map(({ tag }) => tag)).toEqual(['early'])
  commit()
  await late
  await note(db, updated('last'))
  await sequencer.flush()
  const rows = await published()
  expect(rows.map(({ tag }) => tag)).toEqual(['early', 'late', 'last'])
  expect(rows.map(({ position, sequence }) => [position, sequence])).toEqual([
    [1, 1],
    [2, 2],
    [3, 3],
  ])
  expect(JSON.parse(rows[1]?.body ?? '')).toMatchObject({ sequence: '0000000000000002' })
})

it('a transaction that is rolled back leaves neither an event nor a gap', async () => {
  const { db, sequencer } = open()
  const repositoryId = await ensureRepository(db, REPOSITORY, 'public')
  await note(db, updated('one'))
  const undone = db.transaction(async (tx) => {
    await appendEvents(tx, [{ event: updated('undone'), repositoryId }])
    throw new Error('no')
  })
  await expect(undone).rejects.toThrow('no')
  await note(db, updated('two'))
  await sequencer.flush()
  expect((await published()).map(({ tag, sequence }) => [tag, sequence])).toEqual([
    ['one', 1],
    ['two', 2],
  ])
})

it('many writers and two sequencers publish every event once, in one order without gaps', async () => {
  const [first, second] = [open(), open()]
  const writes = Array.from({ length: 300 }, async (_, index) => {
    const { db, sequencer } = index % 2 === 0 ? first : second
    await note(db, updated(`t${index}`, `builds/r${index % 3}` as Repository))
    sequencer.poke()
  })
  await Promise.all(writes)
  await Promise.all([first.sequencer.flush(), second.sequencer.flush()])
  const rows = await published()
  expect(rows.map(({ position }) => position)).toEqual(Array.from({ length: 300 }, (_, i) => i + 1))
  expect(new Set(rows.map(({ tag }) => tag)).size).toBe(300)
  for (const name of ['builds/r0', 'builds/r1', 'builds/r2']) {
    const sequences = rows.filter(({ repository }) => repository === name)
    expect(sequences.map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: 100 }, (_, i) => i + 1),
    )
  }
})

it('a webhook gets the events of its filter, and an addressed event goes to one webhook only', async () => {
  const { db, sequencer } = open()
  const add = async (
    name: string,
    repositories: string[],
    tags: string[] | null,
    types: string[],
  ) => {
    const { rows } = await client.query<{ id: string }>(
      `insert into webhooks (name, url, repositories, tags, types, format, secrets_jwe, owner_name)
       values ($1, 'https://example.org', $2, $3, $4, 'cloudevents', '', 'admin')
       returning id`,
      [name, repositories, tags, types],
    )
    await client.query('update webhook_changes set count = count + 1')
    return Number(rows[0]?.id)
  }
  await add('all', ['**'], null, ['image.tag.updated', 'image.tag.deleted'])
  await add('live', ['builds/*'], ['live'], ['image.tag.updated'])
  await add('others', ['other/*'], null, ['image.tag.updated'])
  const disabled = await add('disabled', ['**'], null, ['webhook.disabled'])
  await note(db, updated('live'))
  await note(db, updated('v1'))
  const ping = { type: 'webhook.ping', webhook: 'disabled' } as const
  await db.transaction((tx) =>
    appendEvents(tx, [{ event: ping, repositoryId: null, webhookId: disabled }]),
  )
  await sequencer.flush()
  const { rows } = await client.query(
    `select w.name, d.event_position::int as position
       from deliveries d
       join webhooks w on w.id = d.webhook_id
      order by d.event_position, w.name`,
  )
  expect(rows).toEqual([
    { name: 'all', position: 1 },
    { name: 'live', position: 1 },
    { name: 'all', position: 2 },
    { name: 'disabled', position: 3 },
  ])
  // A removed webhook receives nothing, and does not delay others.
  await client.query(`delete from webhooks where name = 'all'`)
  await note(db, updated('live'))
  await sequencer.flush()
  expect(await published()).toHaveLength(4)
})

it('the events of a dead process are found by polling', async () => {
  const { db, sequencer } = open()
  await note(db, updated('left'))
  sequencer.start()
  try {
    await expect.poll(async () => (await published()).length).toBe(1)
    await note(db, updated('unsaid'))
    await expect.poll(async () => (await published()).length).toBe(2)
  } finally {
    await sequencer.stop()
  }
})

it('more events than a batch are published in their order', async () => {
  const { db, sequencer } = open()
  const repositoryId = await ensureRepository(db, REPOSITORY, 'public')
  const tags = Array.from({ length: 700 }, (_, index) => `t${index}`)
  await db.transaction((tx) =>
    appendEvents(
      tx,
      tags.map((tag) => ({ event: updated(tag), repositoryId })),
    ),
  )
  await sequencer.flush()
  expect((await published()).map(({ tag }) => tag)).toEqual(tags)
})

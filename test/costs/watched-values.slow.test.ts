import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Transaction } from '../../src/db/database.ts'
import { sumBlobs, sumRepositories } from '../../src/db/maintenance/storage-usage.ts'
import { COUNTED_MAX, readWatchedValues } from '../../src/db/maintenance/watched-values.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { countPages, type Statement } from './statements.ts'

/** Queues that are as long as the statement counts, and twice as long. */
const [MANY, MORE] = [COUNTED_MAX, 2 * COUNTED_MAX]
/** Indexes may have another level, and a bound is reached at another place. */
const FACTOR = 1.2
const PAGES = 60

let database: TestDatabase
let client: pg.Client

beforeAll(async () => {
  database = await createTestDatabase()
  client = new pg.Client(database.url)
  await client.connect()
  await client.query(
    `insert into webhooks (name, url, repositories, types, format, secrets_jwe, owner_name)
     select 'w' || n, 'https://receiver.example', '{**}', '{**}', 'cloudevents', 'x', 'admin'
       from generate_series(1, 10) as n`,
  )
  await client.query(`insert into repositories (name, visibility) values ('mine/www', 'private')`)
})
afterAll(async () => {
  await client.end()
  await database.drop()
})

/** Lengthens every queue and list that the statement counts, up to `to` rows. */
async function grow(from: number, to: number): Promise<void> {
  const run = (text: string) =>
    client.query(text.replace('ROWS', `generate_series(${from + 1}, ${to}) as n`))
  await run(`insert into event_outbox (type, data) select 'webhook.ping', '{}' from ROWS`)
  await run(
    `insert into deliveries (webhook_id, event_position, created_at, due_at)
     select 1 + n % 10, n, now() - interval '1 hour', now() - interval '10 minutes' from ROWS`,
  )
  await run(`insert into deletion_queue (storage_key) select 'k' || n from ROWS`)
  for (const lost of ['null', 'now()'])
    await run(
      `insert into hosts (name, state, trust, repositories, created_by, seen_at, lost_at)
       select 'h' || n || '${lost}', 'active', 'key', '{**}', 'admin', now(), ${lost} from ROWS`,
    )
  await run(
    `with added as (
       insert into deployments (id, repository_id, tag, number, digest, kind, rollout, actor, targets_made)
       select gen_random_uuid(), r.id, 'live', n, 'sha256:x', 'push', '{}', 'admin', true
         from repositories r, ROWS
       returning id, number
     )
     insert into targets (deployment_id, host_id, unit, place, state)
     select a.id, h.id, 'www', 1, case a.number % 2 when 0 then 'overdue' else 'healthy' end
       from added a
       join hosts h on h.name = 'h' || a.number || 'null'`,
  )
  await run(
    `insert into credentials (name, kind, secret_sha256, repositories, actions, expires_at)
     select 'c' || n, 'builder', sha256(convert_to('c' || n, 'utf8')), '{a/b}', '{pull}', now() + interval '1 day'
       from ROWS`,
  )
  await run(
    `with added as (
       insert into blobs (digest, size, storage_key)
       select 'sha256:' || n, 10, 'b' || n from ROWS
       returning id
     )
     insert into repository_blobs (repository_id, blob_id)
     select r.id, a.id from repositories r, added a`,
  )
  await client.query('vacuum (analyze)')
}

const READS: Readonly<Record<string, (db: Transaction) => Promise<unknown>>> = {
  values: (db) => readWatchedValues(db, 'storage-usage'),
  'a page of blobs': (db) => sumBlobs(db, 0),
  'a page of repositories': (db) => sumRepositories(db, 0, 0),
}

/** The pages that each statement reads. */
async function pages(): Promise<Map<string, number>> {
  const counted = new Map<string, number>()
  for (const [name, read] of Object.entries(READS)) {
    const sent: Statement[] = []
    const query = async (text: string, values: readonly unknown[] = []) => {
      sent.push({ text, values })
      return { rows: [{}] }
    }
    await read({ query } as unknown as Transaction)
    let sum = 0
    for (const statement of sent) sum += await countPages(client, statement)
    expect([name, sent.length, sum]).toEqual([name, 1, expect.any(Number)])
    expect([name, sum]).not.toEqual([name, 0])
    counted.set(name, sum)
  }
  return counted
}

it('the values for metrics cost the same however long each queue is', async () => {
  await grow(0, MANY)
  const before = await pages()
  await grow(MANY, MORE)
  const after = await pages()
  for (const [name, few] of before) {
    const summary = `${name}: ${few} pages, then ${after.get(name)}`
    expect([summary, (after.get(name) ?? 0) <= few * FACTOR + PAGES]).toEqual([summary, true])
  }
  const query = (text: string, values: readonly unknown[] = []) =>
    client.query(text, values as unknown[])
  const values = await readWatchedValues(
    { query } as unknown as Parameters<typeof readWatchedValues>[0],
    'storage-usage',
  )
  expect(values).toMatchObject({
    outboxEvents: String(COUNTED_MAX),
    pendingDeliveries: String(COUNTED_MAX),
    queuedDeletions: String(COUNTED_MAX),
    onlineHosts: String(COUNTED_MAX),
    offlineHosts: String(COUNTED_MAX),
    expiringCredentials: '100',
    pendingHosts: '0',
    activeWebhooks: '10',
  })
  expect(values.deliverySeconds).toBeGreaterThan(3500)
  expect(values.deliveryOverdueSeconds).toBeGreaterThan(500)
}, 120_000)

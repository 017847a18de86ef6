import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { SUPERUSER } from '../../src/embedded-postgres/settings.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

const CHECK_LOCK = 'pg_advisory_xact_lock(1919905643, 1818583411)'
const LOCK_NOT_AVAILABLE = '55P03'

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase()
})
afterAll(() => database.drop())

async function connect(user?: string): Promise<pg.Client> {
  const url = new URL(database.url)
  if (user !== undefined) url.searchParams.set('user', user)
  const client = new pg.Client(url.href)
  await client.connect()
  onTestFinished(() => client.end())
  return client
}

/** Changes of content, and others. */
const WRITES = [
  ['update repositories set name = name', true],
  ["update repositories set visibility = 'public'", true],
  ['delete from repositories where id = 0', true],
  ['update repositories set permanent = permanent', false],
  ['update tags set digest = digest', true],
  ['delete from tags where repository_id = 0', true],
  ['truncate tags', true],
  ['update manifests set media_type = media_type', true],
  ['update manifests set analyzer_version = analyzer_version', false],
  ['delete from manifests where id = 0', true],
  ['update blobs set storage_key = storage_key', true],
  ['update blobs set lost_at = now()', true],
  ['update blobs set touched_at = now()', false],
  ['delete from blobs where id = 0', true],
  ['delete from repository_blobs where blob_id = 0', true],
  ['truncate repositories cascade', true],
  ['insert into repositories (name, visibility) values (gen_random_uuid(), $$public$$)', false],
  ['set local session_replication_role = replica; delete from tags', true],
] as const

it.each(WRITES)(
  'a change by others waits for a check that runs, and one of the server does not: %s',
  async (statement, waits) => {
    const server = randomUUID()
    const checking = await connect()
    await checking.query('delete from remembered_answers')
    await checking.query('insert into remembered_answers (server, held) values ($1, true)', [
      server,
    ])
    await checking.query('begin')
    await checking.query(`select ${CHECK_LOCK}`)
    for (const writer of ['', server]) {
      const client = await connect(statement.includes('replica') ? SUPERUSER : undefined)
      await client.query(`set rookery.server = '${writer}'`)
      await client.query('begin')
      await client.query(`set local statement_timeout = '5s'`)
      await client.query(`set local lock_timeout = '50ms'`)
      const outcome = await client.query(statement).then(
        () => 'done',
        (error: { code: string }) => error.code,
      )
      expect(outcome).toBe(waits && writer === '' ? LOCK_NOT_AVAILABLE : 'done')
      await client.query('rollback')
    }
  },
)

import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { GarbageCollector } from '../../src/registry/maintenance/garbage.ts'
import { FilesystemStore } from '../../src/storage/filesystem/filesystem-store.ts'
import { digestOf } from '../support/digest.ts'
import { expectError, newRepository, send, startUpload } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let client: pg.Client

beforeAll(async () => {
  registry = await startRegistry()
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
})

afterAll(async () => {
  await client.end()
  await registry.close()
})

const idOf = (location: string) => location.split('/').at(-1) ?? ''

async function withGarbage<T>(work: (garbage: GarbageCollector) => Promise<T>): Promise<T> {
  const db = new Database({
    connection: registry.databaseUrl,
    connectionsMax: 2,
    onIdleError: () => {},
  })
  try {
    return await work(new GarbageCollector(db, await FilesystemStore.open(registry.folder), 3600))
  } finally {
    await db.close()
  }
}

it('an expired upload is unknown, and its bytes are deleted', async () => {
  const location = await startUpload(registry, newRepository())
  expect((await send(registry, 'PATCH', location, 'never finished')).status).toBe(202)
  const other = await startUpload(registry, newRepository())
  expect((await send(registry, 'PATCH', other, 'remembered')).status).toBe(202)
  expect(await readdir(join(registry.folder, 'uploads'))).toHaveLength(2)
  const age = "update uploads set expires_at = now() - interval '1 second' where id = $1"
  await client.query(age, [idOf(location)])
  await expectError(await registry.request(location), 404, 'BLOB_UPLOAD_UNKNOWN')
  const sweep = () => withGarbage((garbage) => garbage.sweep())
  expect(await sweep()).toMatchObject({ uploads: 1, deletions: 1, failures: [] })
  expect(await sweep()).toMatchObject({ uploads: 0, deletions: 0 })
  expect(await readdir(join(registry.folder, 'uploads'))).toEqual([idOf(other)])
  const { rows } = await client.query('select id from uploads')
  expect(rows).toEqual([{ id: idOf(other) }])
})

it('an upload whose writer died can continue when the lease has expired, and the writer cannot change it', async () => {
  const location = await startUpload(registry, newRepository())
  expect((await send(registry, 'PATCH', location, 'first ')).status).toBe(202)
  const hold = `update uploads set lease = gen_random_uuid(), lease_until = now() + $2::interval
                 where id = $1`
  await client.query(hold, [idOf(location), '8 seconds'])
  const busy = await send(registry, 'PATCH', location, 'second')
  expect(Number(busy.headers.get('retry-after'))).toBeGreaterThan(0)
  await expectError(busy, 503, 'UNAVAILABLE')
  await client.query(hold, [idOf(location), '-1 second'])
  expect((await send(registry, 'PATCH', location, 'second')).status).toBe(202)
  const { rows } = await client.query('select stage from uploads where id = $1', [idOf(location)])
  expect(rows[0].stage.file).not.toBe(idOf(location))
  const closing = `${location}?digest=${digestOf('first second')}`
  expect((await send(registry, 'PUT', closing)).status).toBe(201)
})

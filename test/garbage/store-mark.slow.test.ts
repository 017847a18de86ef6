import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { openBlobStore } from '../../src/server/blob-store.ts'
import { StartError } from '../../src/server/cleanup.ts'
import { createLog } from '../../src/server/log.ts'
import { startServer } from '../../src/server/server.ts'
import type { BlobStore } from '../../src/storage/blob-store.ts'
import { sql } from '../auth/credentials-client.ts'
import { rookery } from '../cli/rookery.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { newRepository, pushBlob } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { storeSettings } from '../support/s3.ts'

type Settings = Record<string, string>

let registry: TestRegistry
let folder: string
let blob: { digest: string; bytes: Buffer }
const databases: TestDatabase[] = []
const repository = newRepository()

/** A registry with a blob, whose database and store other registries try to use. */
beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_GC_INTERVAL_SECONDS: '3600' })
  folder = await mkdtemp(join(tmpdir(), 'rookery-mark-'))
  blob = await pushBlob(registry, repository)
})

afterAll(async () => {
  await registry.close()
  for (const database of databases) await database.drop()
  await rm(folder, { recursive: true, force: true })
})

/** The settings of a new database, with an id of its own. */
async function newDatabase(): Promise<Settings> {
  const database = await createTestDatabase()
  databases.push(database)
  await sql({ databaseUrl: database.url }, 'update installation set id = gen_random_uuid()')
  return { ROOKERY_DATABASE_URL: database.url }
}

/** The settings of a new, empty store. */
async function newStore(): Promise<Settings> {
  return { ROOKERY_DATA_DIR: await mkdtemp(join(folder, 'data-')), ...(await storeSettings()) }
}

const settingsOf = (...parts: Settings[]): Settings =>
  Object.assign({}, registry.settings, ...parts)

async function withStore<T>(
  settings: Settings,
  work: (store: BlobStore) => Promise<T>,
): Promise<T> {
  const opened = await openBlobStore(parseConfig(settings), settings.ROOKERY_DATA_DIR ?? '')
  try {
    return await work(opened.store)
  } finally {
    opened.close()
  }
}

const markOf = (settings: Settings) => withStore(settings, (store) => store.readMark())

async function idOf({ ROOKERY_DATABASE_URL: databaseUrl = '' }: Settings): Promise<string> {
  const [row] = await sql<{ id: string }>({ databaseUrl }, 'select id from installation')
  return row?.id ?? ''
}

/** Makes the database one that an earlier release left: it does not know of marks. */
const unmark = ({ ROOKERY_DATABASE_URL: databaseUrl = '' }: Settings) =>
  sql({ databaseUrl }, 'update installation set store_marked_at = null')

async function removeMark(settings: Settings): Promise<void> {
  if (settings.ROOKERY_S3_BUCKET === undefined || settings.ROOKERY_S3_BUCKET === '') {
    await rm(join(settings.ROOKERY_DATA_DIR ?? '', 'blobs', 'installation'))
    return
  }
  const { DeleteObjectCommand } = await import('@aws-sdk/client-s3')
  const { s3Client, s3Server } = await import('../support/s3.ts')
  const client = s3Client(s3Server())
  const object = { Bucket: settings.ROOKERY_S3_BUCKET, Key: 'blobs/installation' }
  await client.send(new DeleteObjectCommand(object))
  client.destroy()
}

async function starts(settings: Settings): Promise<void> {
  const server = await startServer(parseConfig(settings), createLog('silent'), () => {})
  try {
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200)
  } finally {
    await server.close()
  }
}

/** Asserts that the server does not start, with one line that has all of `parts`. */
async function expectRefused(settings: Settings, ...parts: string[]): Promise<void> {
  const refused = startServer(parseConfig(settings), createLog('silent'), () => {})
  const error = await refused.then(
    async (server) => {
      await server.close()
      return undefined
    },
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(StartError)
  const { message } = error as StartError
  for (const part of parts) expect(message).toContain(part)
  expect(message).not.toContain('\n')
}

describe('a server starts', () => {
  it('with a new database and an empty store, which gets the id of the database', async () => {
    const settings = settingsOf(await newDatabase(), await newStore())
    await starts(settings)
    expect(await markOf(settings)).toBe(await idOf(settings))
    await starts(settings)
  })

  it('with the store of an earlier release that has its blobs, and marks it', async () => {
    await unmark(registry.settings)
    await removeMark(registry.settings)
    await starts(settingsOf())
    expect(await markOf(registry.settings)).toBe(await idOf(registry.settings))
    // The server that ran meanwhile goes on.
    expect((await registry.anonymous('/readyz')).status).toBe(200)
    await pushBlob(registry, repository)
  })

  it('with a store whose mark was removed, when the blobs are there', async () => {
    await removeMark(registry.settings)
    expect((await registry.anonymous('/readyz')).status).toBe(503)
    await starts(settingsOf())
    expect((await registry.anonymous('/readyz')).status).toBe(200)
  })

  it('when it was stopped between marking the store and recording that', async () => {
    const settings = settingsOf(await newDatabase(), await newStore())
    await withStore(settings, async (store) => store.writeMark(await idOf(settings)))
    await starts(settings)
  })

  it('twice at the same time with one empty store', async () => {
    const settings = settingsOf(await newDatabase(), await newStore())
    await Promise.all([starts(settings), starts(settings), starts(settings)])
  })
})

describe('a server does not start', () => {
  it('with the store of another installation', async () => {
    const other = settingsOf(await newDatabase())
    await expectRefused(other, await idOf(registry.settings), await idOf(other))
    await expectStored()
  })

  it('with an empty store, when the database has blobs', async () => {
    const settings = settingsOf(await newStore())
    await expectRefused(settings, 'blobs of the database', await idOf(settings))
    expect(await markOf(settings)).toBeUndefined()
  })

  it('with an empty store, when the database of an earlier release has blobs', async () => {
    await unmark(registry.settings)
    await expectRefused(settingsOf(await newStore()), 'blobs of the database')
    await starts(settingsOf())
  })

  it('with another empty store than the first one, even before the first push', async () => {
    const database = await newDatabase()
    await starts(settingsOf(database, await newStore()))
    await expectRefused(settingsOf(database, await newStore()), 'already has another store')
  })

  it('with one of two empty stores, when two servers start at the same time', async () => {
    const database = await newDatabase()
    const both = await Promise.allSettled([
      starts(settingsOf(database, await newStore())),
      starts(settingsOf(database, await newStore())),
    ])
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  it('with a new database, when the store without a mark has bytes', async () => {
    await removeMark(registry.settings)
    try {
      const other = settingsOf(await newDatabase())
      await expectRefused(other, 'does not know', await idOf(other))
      expect(await markOf(other)).toBeUndefined()
      // A copy of the template's database has the same id.
      const database = await createTestDatabase()
      databases.push(database)
      await withStore(settingsOf(), async (store) => store.writeMark(await idOf(settingsOf())))
      await expectRefused(settingsOf({ ROOKERY_DATABASE_URL: database.url }), 'does not know')
    } finally {
      await starts(settingsOf())
    }
  })

  it('with a copy of its blobs that is not finished', async () => {
    await pushBlob(registry, repository)
    const partial = settingsOf(await newStore())
    const [first] = await sql<{ key: string }>(
      registry,
      'select storage_key as key from blobs order by id limit 1',
    )
    await withStore(partial, (store) => store.put(first?.key ?? '', one(blob.bytes)))
    await expectRefused(partial, 'blobs of the database')
  })
})

async function* one(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes
}

async function expectStored(): Promise<void> {
  const answer = await registry.anonymous(`/v2/${repository}/blobs/${blob.digest}`)
  expect(Buffer.from(await answer.arrayBuffer()).equals(blob.bytes)).toBe(true)
}

it.each([
  ['scrub', '--delete-orphans', '--older-than', '0'],
  ['scrub'],
  ['gc'],
  ['backup', '--to', '/tmp/never'],
])('rookery %s %s of another database is refused, and deletes nothing', async (...words) => {
  const other = settingsOf(await newDatabase())
  const before = await registry.storedObjects()
  const ran = await rookery({ settings: other }, words)
  expect(ran).toMatchObject({ status: 2, stdout: '' })
  expect(ran.stderr).toContain(await idOf(registry.settings))
  expect(ran.stderr).not.toContain('    at ')
  expect(await registry.storedObjects()).toEqual(before)
  await expectStored()
})

it('a scrub lists no mark as an orphan', async () => {
  const ran = await rookery(registry, ['scrub', '--delete-orphans', '--older-than', '0', '--json'])
  expect(JSON.parse(ran.stdout)).toMatchObject({ orphans: 0, missing: 0 })
  expect(await markOf(registry.settings)).toBe(await idOf(registry.settings))
})

describe('a restore', () => {
  const restore = (settings: Settings, from: string) =>
    rookery({ settings }, ['restore', '--from', from])

  it('marks a new store, and into the store of the backup continues its installation', async () => {
    const backup = join(folder, 'backup')
    expect(await rookery(registry, ['backup', '--to', backup])).toMatchObject({ status: 0 })
    const fresh = settingsOf(await newDatabase(), await newStore())
    const restored = await restore(fresh, backup)
    expect(restored.status, restored.stderr).toBe(0)
    expect(await markOf(fresh)).toBe(await idOf(fresh))
    expect(await idOf(fresh)).not.toBe(await idOf(registry.settings))
    await starts(fresh)

    const again = settingsOf(await newDatabase())
    const continued = await restore(again, backup)
    expect(continued.status, continued.stderr).toBe(0)
    expect(continued.stdout).toContain('must not run any more')
    expect(await idOf(again)).toBe(await idOf(registry.settings))
    await starts(again)
  })

  it('into the store of another installation is refused', async () => {
    const other = settingsOf(await newDatabase(), await newStore())
    await starts(other)
    const target = settingsOf(await newDatabase(), {
      ROOKERY_DATA_DIR: other.ROOKERY_DATA_DIR ?? '',
      ROOKERY_S3_BUCKET: other.ROOKERY_S3_BUCKET ?? '',
    })
    const refused = await restore(target, join(folder, 'backup'))
    expect(refused).toMatchObject({ status: 2, stdout: '' })
    expect(refused.stderr).toContain(await idOf(other))
  })

  it('restores a registry that had lost a blob, which stays lost until a push', async () => {
    const lost = await pushBlob(registry, repository, randomBytes(99))
    const [row] = await sql<{ key: string }>(
      registry,
      `select storage_key as key from blobs where digest = '${lost.digest}'`,
    )
    await withStore(settingsOf(), (store) => store.remove(row?.key ?? ''))
    const backup = join(folder, 'backup-of-lost')
    const first = await rookery(registry, ['backup', '--to', backup])
    expect(first).toMatchObject({ status: 1 })
    expect(first.stdout).toContain(`missing ${lost.digest}`)
    // The first backup found the loss after it had written the rows.
    await rookery(registry, ['backup', '--to', backup])
    const fresh = settingsOf(await newDatabase(), await newStore())
    const restored = await restore(fresh, backup)
    expect(restored.status, restored.stderr).toBe(0)
    expect(restored.stdout).toContain('Restored as lost: 1 blobs')
    const [after] = await sql<{ lost: boolean }>(
      { databaseUrl: fresh.ROOKERY_DATABASE_URL ?? '' },
      `select lost_at is not null as lost from blobs where digest = '${lost.digest}'`,
    )
    expect(after).toEqual({ lost: true })
  })
})

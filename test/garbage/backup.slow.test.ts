import { randomBytes } from 'node:crypto'
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { EXCLUDED_TABLES, TABLE_NAMES } from '../../src/db/maintenance/dump.ts'
import { rookery } from '../cli/rookery.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { pushBlob, pushImage, send, startUpload } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { startProcess, stopProcess } from '../support/server-process.ts'
import { openSweeper, type Sweeper } from './sweeper.ts'

let registry: TestRegistry
let sweeper: Sweeper
let folder: string
const databases: TestDatabase[] = []

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_GC_GRACE_SECONDS: '2',
    ROOKERY_GC_INTERVAL_SECONDS: '1',
  })
  sweeper = await openSweeper(registry)
  folder = await mkdtemp(join(tmpdir(), 'rookery-backup-'))
})

afterAll(async () => {
  await sweeper.close()
  await registry.close()
  for (const database of databases) await database.drop()
  await rm(folder, { recursive: true, force: true })
})

/** The settings of a new, empty registry on files. */
async function emptyRegistry(name: string): Promise<Record<string, string>> {
  const database = await createTestDatabase()
  databases.push(database)
  return {
    ...registry.settings,
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_DATA_DIR: join(folder, name),
    ROOKERY_S3_BUCKET: '',
    ROOKERY_S3_ENDPOINT: '',
    ROOKERY_GC_GRACE_SECONDS: '',
  }
}

const backup = () => rookery(registry, ['backup', '--to', join(folder, 'backup'), '--json'])
const restore = (settings: Record<string, string>, from = join(folder, 'backup')) =>
  rookery({ settings }, ['restore', '--from', from, '--json'])

/** Copies the newest backup to a folder of its own, with the files in the places of an earlier release. */
async function copyOfBackup(name: string): Promise<string> {
  const copy = await mkdtemp(join(folder, name))
  const newest = await newestOf(join(folder, 'backup'))
  await cp(join(folder, 'backup', 'blobs'), join(copy, 'blobs'), { recursive: true })
  await cp(newest, copy, { recursive: true })
  await rm(join(copy, 'backup.json'))
  return copy
}

/** Returns the folder of the newest backup. */
async function newestOf(backups: string): Promise<string> {
  const names = (await readdir(join(backups, 'generations'))).sort()
  return join(backups, 'generations', names.at(-1) ?? '')
}

it('every table is in a backup, or in the list of excluded tables', async () => {
  const statement = `select table_name as name from information_schema.tables
                      where table_schema = 'public' order by table_name`
  const { rows } = await sweeper.client.query(statement)
  expect(rows.map(({ name }) => name)).toEqual([...TABLE_NAMES, ...EXCLUDED_TABLES].sort())
})

it('everything acknowledged before a backup exists after a restore, and the registry works', async () => {
  const repository = 'backed/up'
  const images = []
  for (let count = 0; count < 30; count += 1) {
    images.push(await pushImage(registry, repository, `v${count}`))
  }
  await pushImage(registry, repository, 'v0')
  const large = await pushBlob(registry, repository, randomBytes(9_000_000))
  const annotations = { note: 'quotes " and \\ backslashes, ünïcode \u{1f426}, a line\nend' }
  const odd = await pushImage(registry, repository, 'odd', { annotations, layers: [] })
  const open = await startUpload(registry, repository)
  expect((await send(registry, 'PATCH', open, 'not finished')).status).toBe(202)
  // Pushes and deletes run meanwhile, and the sweeper has a short grace period.
  let busy = true
  const others = (async () => {
    for (let count = 0; busy; count += 1) {
      await pushBlob(registry, 'backed/other')
      const image = images[count]
      if (image === undefined || count > 5) continue
      const path = `/v2/${repository}/manifests/${image.digest}`
      expect((await registry.request(path, { method: 'DELETE' })).status).toBe(202)
    }
  })()
  const taken = await backup()
  busy = false
  await others
  expect(taken.status, taken.stderr).toBe(0)
  const again = await backup()
  expect(JSON.parse(again.stdout).present).toBeGreaterThan(20)
  expect((await sweeper.client.query('select id from deletion_pauses')).rows).toEqual([])

  const settings = await emptyRegistry('restored')
  const restored = await restore(settings)
  expect(restored.status, restored.stderr).toBe(0)
  expect(JSON.parse(restored.stdout)).toMatchObject({ failures: [] })
  const scrub = await rookery({ settings }, ['scrub', '--json', '--older-than', '0'])
  expect(JSON.parse(scrub.stdout)).toMatchObject({ missing: 0, corrupt: 0, orphans: 0 })

  const masterKey = (of: { ROOKERY_DATA_DIR?: string }) =>
    readFile(join(of.ROOKERY_DATA_DIR ?? '', 'master-key'), 'utf8')
  expect(await masterKey(settings)).toBe(await masterKey(registry.settings))
  const before = await feedOf(registry.databaseUrl)
  const after = await feedOf(settings.ROOKERY_DATABASE_URL ?? '')
  expect(after.position).toBeGreaterThan(30)
  expect(after.epoch).not.toBe(before.epoch)

  const server = await startProcess(settings)
  try {
    const tags = await fetch(`${server.url}/v2/${repository}/tags/list`)
    const listed = await registry.request(`/v2/${repository}/tags/list`)
    expect(await tags.json()).toEqual(await listed.json())
    const manifest = await fetch(`${server.url}/v2/${repository}/manifests/odd`)
    expect(await manifest.text()).toBe(odd.body)
    const blob = await fetch(`${server.url}/v2/${repository}/blobs/${large.digest}`)
    // A push to a restored repository, and to a new one: new identities follow the restored ones.
    const target = { ...registry, request: requestOf(server.url) }
    await pushImage(target, repository, 'after')
    await pushBlob(target, 'some/thing-new')
    expect([200, 404]).toContain(blob.status)
    const history = await countHistory(settings.ROOKERY_DATABASE_URL ?? '')
    expect(history).toBeGreaterThan(30)
    // New events have later positions than the restored ones.
    const url = settings.ROOKERY_DATABASE_URL ?? ''
    await expect.poll(async () => (await feedOf(url)).position).toBeGreaterThan(after.position)
  } finally {
    await stopProcess(server)
  }
})

function requestOf(url: string): TestRegistry['request'] {
  const authorization = `Basic ${Buffer.from(`admin:${registry.password}`).toString('base64')}`
  return (path, init = {}) =>
    fetch(new URL(path, url), { ...init, headers: { authorization, ...(init.headers as object) } })
}

async function feedOf(url: string): Promise<{ epoch: string; position: number }> {
  const client = new pg.Client(url)
  await client.connect()
  const { rows } = await client.query('select epoch, position::int as position from feed')
  await client.end()
  return rows[0]
}

async function countHistory(url: string): Promise<number> {
  const client = new pg.Client(url)
  await client.connect()
  const { rows } = await client.query('select count(*)::int as count from tag_history')
  await client.end()
  return rows[0].count
}

it('a restore into a registry that is not empty is refused, and changes nothing', async () => {
  const refused = await rookery(registry, ['restore', '--from', join(folder, 'backup')])
  expect(refused).toMatchObject({ status: 2, stdout: '' })
  expect(refused.stderr).toContain('this registry already has repositories')
})

it.each([
  ['is cut short', (dump: Buffer) => dump.subarray(0, Math.floor(dump.length / 2))],
  [
    'has no end',
    (dump: Buffer) => gzipSync(String(gunzipSync(dump)).split('\n').slice(0, -2).join('\n')),
  ],
  ['is something else', () => gzipSync('{"hello":"world"}\n')],
  ['is of a newer release', (dump: Buffer) => changed(dump, '"0001-', '"9999-')],
])('a backup whose dump %s is refused, and nothing is restored', async (_what, damage) => {
  const broken = await mkdtemp(join(folder, 'broken-'))
  const dump = await readFile(join(await newestOf(join(folder, 'backup')), 'database.jsonl.gz'))
  await writeFile(join(broken, 'database.jsonl.gz'), damage(dump))
  const settings = await emptyRegistry(`into-${broken.slice(-6)}`)
  const refused = await restore(settings, broken)
  expect(refused).toMatchObject({ status: 2, stdout: '' })
  expect(refused.stderr).toMatch(/^rookery: /m)
  expect(refused.stderr).not.toContain('    at ')
  const client = new pg.Client(settings.ROOKERY_DATABASE_URL)
  await client.connect()
  expect((await client.query('select id from repositories')).rows).toEqual([])
  await client.end()
})

function changed(dump: Buffer, from: string, to: string): Buffer {
  return gzipSync(String(gunzipSync(dump)).replace(from, to))
}

it('a backup of an older release is restored, and its schema migrated', async () => {
  const old = await copyOfBackup('old-')
  const dump = await readFile(join(old, 'database.jsonl.gz'))
  await writeFile(join(old, 'database.jsonl.gz'), withoutAccess(dump))
  const settings = { ...(await emptyRegistry('from-old')) }
  const database = await createTestDatabase('template0')
  try {
    const restored = await restore({ ...settings, ROOKERY_DATABASE_URL: database.url }, old)
    expect(restored).toMatchObject({ status: 0 })
    const client = new pg.Client(database.url)
    await client.connect()
    const { rows } = await client.query('select immutable_tags as patterns from repositories')
    await client.end()
    expect(rows.length).toBeGreaterThan(0)
    expect(rows[0]).toEqual({ patterns: [] })
  } finally {
    await database.drop()
  }
})

it('a backup from before tables and columns were renamed is restored, and renamed', async () => {
  const old = await copyOfBackup('old-names-')
  const dump = await readFile(join(old, 'database.jsonl.gz'))
  await writeFile(join(old, 'database.jsonl.gz'), withFormerNames(dump))
  const database = await createTestDatabase('template0')
  try {
    const settings = {
      ...(await emptyRegistry('from-old-names')),
      ROOKERY_DATABASE_URL: database.url,
    }
    const restored = await restore(settings, old)
    expect(restored, restored.stderr).toMatchObject({ status: 0 })
    const client = new pg.Client(database.url)
    await client.connect()
    const analyses = await client.query('select distinct analyzer_version from layer_analyses')
    const feed = await client.query('select pruned_through::int, epoch from feed')
    await client.end()
    expect(analyses.rows).toEqual([{ analyzer_version: expect.any(Number) }])
    expect(feed.rows).toEqual([{ pruned_through: 7, epoch: expect.any(String) }])
    expect(feed.rows[0].epoch).not.toBe((await feedOf(registry.databaseUrl)).epoch)
    expect((await feedOf(database.url)).position).toBeGreaterThan(30)
  } finally {
    await database.drop()
  }
})

/** Renames the tables and columns of a dump to the names before the migration 0006-names.sql. */
function withFormerNames(dump: Buffer): Buffer {
  const [header = '', ...lines] = String(gunzipSync(dump)).trimEnd().split('\n')
  const columns: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    manifests: { analyzer_version: 'reader' },
    layer_analyses: { analyzer_version: 'reader' },
    feed: { pruned_through: 'forgotten' },
    deliveries: { round_attempts: 'tries', redelivered_at: 'asked_at' },
  }
  // A later migration added the table.
  const former = lines.slice(0, -1).filter((line) => !line.startsWith('job_names '))
  const rows = former.map((line) => {
    const [table = '', row = ''] = splitOnce(line)
    const fields = Object.entries({
      ...(JSON.parse(row) as Record<string, unknown>),
      ...(table === 'feed' ? { pruned_through: 7 } : {}),
    }).map(([name, value]) => [columns[table]?.[name] ?? name, value])
    const name = table === 'layer_analyses' ? 'layer_facts' : table
    return `${name} ${JSON.stringify(Object.fromEntries(fields))}`
  })
  expect(rows.some((row) => row.startsWith('layer_facts {'))).toBe(true)
  const before = header.replace(/,"0006-names\.sql"[^\]]*/, '')
  expect(before).not.toBe(header)
  return gzipSync(`${[before, ...rows, `end ${rows.length}`].join('\n')}\n`)
}

function splitOnce(line: string): [string, string] {
  const space = line.indexOf(' ')
  return [line.slice(0, space), line.slice(space + 1)]
}

/** Removes the tables and migrations that 0003-access.sql and later ones added. */
function withoutAccess(dump: Buffer): Buffer {
  const [header = '', ...lines] = String(gunzipSync(dump)).trimEnd().split('\n')
  const later =
    /^(?:job_names|audit|trust_policies|layer_analyses|packages|layer_packages|images|image_layers|webhooks|feed|repository_sequences|events|event_outbox|deliveries) /
  const rows = lines.slice(0, -1).filter((line) => !later.test(line))
  const before = header.replace(/,"0003-access\.sql"[^\]]*/, '')
  expect(before).not.toBe(header)
  return gzipSync(`${[before, ...rows, `end ${rows.length}`].join('\n')}\n`)
}

it('a backup without the bytes of a blob is refused, and the blob is named', async () => {
  const broken = await mkdtemp(join(folder, 'broken-'))
  const dump = await readFile(join(await newestOf(join(folder, 'backup')), 'database.jsonl.gz'))
  await writeFile(join(broken, 'database.jsonl.gz'), dump)
  const refused = await restore(await emptyRegistry('no-bytes'), broken)
  expect(refused.status).toBe(2)
  expect(refused.stderr).toMatch(/^missing sha256:[0-9a-f]{64}$/m)
  expect(refused.stderr).toContain('nothing was restored')
})

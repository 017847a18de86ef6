import { access, cp, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { sql } from '../auth/credentials-client.ts'
import { rookery } from '../cli/rookery.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { storeSettings } from '../support/s3.ts'
import { backUp, blobFiles, fileOf, filesBelow } from './backups.ts'

type Settings = Record<string, string>

let registry: TestRegistry
let folder: string
let backup: string
let name: string
let layer: string
const databases: TestDatabase[] = []

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_GC_INTERVAL_SECONDS: '3600' })
  folder = await mkdtemp(join(tmpdir(), 'rookery-dry-run-'))
  backup = join(folder, 'backup')
  const { body } = await pushImage(registry, newRepository(), 'latest')
  layer = JSON.parse(body).layers[0].digest
  ;({ name } = await backUp(registry, backup))
})

afterAll(async () => {
  await registry.close()
  for (const database of databases) await database.drop()
  await rm(folder, { recursive: true, force: true })
})

/** The settings of a registry that does not exist yet. */
async function newTarget(template?: string): Promise<Settings> {
  const database = await createTestDatabase(template)
  databases.push(database)
  return {
    ...registry.settings,
    ...(await storeSettings()),
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_DATA_DIR: join(folder, database.name),
  }
}

const dryRun = (settings: Settings, from = backup, ...words: string[]) =>
  rookery({ settings }, ['restore', '--from', from, '--dry-run', ...words])

/** Everything in the database that a restore could change: its tables and the hash of all rows of each. */
async function contentOf({ ROOKERY_DATABASE_URL: databaseUrl = '' }: Settings): Promise<unknown> {
  const of = { databaseUrl }
  const tables = await sql<{ name: string }>(
    of,
    "select tablename as name from pg_tables where schemaname = 'public' order by 1",
  )
  const content: unknown[] = [await sql(of, 'select * from pg_sequences order by sequencename')]
  for (const { name: table } of tables) {
    const rows = `select md5(string_agg(t::text, '|' order by t::text)) as sum from ${table} t`
    content.push([table, await sql(of, rows)])
  }
  return content
}

/** The files of a folder with their sizes and times; undefined when it is missing. */
async function stateOf(path: string): Promise<unknown> {
  try {
    const files = await filesBelow(path)
    return await Promise.all(
      files.map(async (file) => {
        const { size, mtimeMs, mode } = await stat(join(path, file))
        return [file, size, mtimeMs, mode]
      }),
    )
  } catch {
    return undefined
  }
}

it('into a new database, it says what it would do, and changes nothing', async () => {
  const settings = await newTarget('template0')
  const before = [await contentOf(settings), await stateOf(backup)]
  const ran = await dryRun(settings)
  expect(ran.status, ran.stdout).toBe(0)
  expect(ran.stdout).toContain(`Backup ${name} in ${backup}/generations/${name}: taken at 2`)
  expect(ran.stdout).toMatch(
    /^Database: test_\w+ on \S+ \(new\)\. It would get the rows, and then/m,
  )
  expect(ran.stdout).toMatch(/^Blobs: .+ has 0 of them, and would get 128 bytes\.$/m)
  expect(ran.stdout).toContain('It would write master-key to the data folder.')
  expect(ran.stdout).toMatch(/Nothing is in the way\. Nothing was changed\.\n$/)
  expect([await contentOf(settings), await stateOf(backup)]).toEqual(before)
  await expect(access(settings.ROOKERY_DATA_DIR ?? '')).rejects.toThrow('ENOENT')

  const json = await dryRun(settings, backup, '--json')
  const plan = JSON.parse(json.stdout)
  expect(plan).toMatchObject({
    backup: { name, blobs: 2, bytes: 128, lost: 0 },
    store: { present: 0, bytesToCopy: 128 },
    obstacles: [],
  })
  // The restore then does what was said.
  const restored = await rookery({ settings }, ['restore', '--from', backup, '--json'])
  expect(restored.status, restored.stderr).toBe(0)
  expect(JSON.parse(restored.stdout)).toMatchObject({
    ...{ name, rows: plan.backup.rows, blobs: 2, present: 0 },
  })
})

it('without any database, it makes none', async () => {
  const data = join(folder, 'embedded')
  const { ROOKERY_DATABASE_URL: _own, ...rest } = await newTarget()
  const ran = await dryRun({ ...rest, ROOKERY_DATA_DIR: data })
  expect(ran.status, ran.stdout + ran.stderr).toBe(0)
  expect(ran.stdout).toContain(`Database: the embedded Postgres in ${data}/postgres (new)`)
  await expect(access(data)).rejects.toThrow('ENOENT')
})

it('into a registry with content, it names what is in the way, and changes nothing', async () => {
  const settings = { ...registry.settings }
  const before = [await contentOf(settings), await stateOf(registry.folder)]
  const ran = await dryRun(settings)
  expect(ran.status, ran.stderr).toBe(1)
  expect(ran.stdout).toMatch(/^In the way: this registry already has repositories: /m)
  expect(ran.stdout).toMatch(/^The registry would continue the installation [\w-]+: /m)
  expect(ran.stdout).toContain('It would keep master-key of the data folder.')
  expect(ran.stdout).toMatch(/In the way: 1 in all\. Nothing was changed\.\n$/)
  expect([await contentOf(settings), await stateOf(registry.folder)]).toEqual(before)
})

it('into the store of another registry, it names the mark that is in the way', async () => {
  const data = join(folder, 'marked')
  const mark = '11111111-1111-4111-8111-111111111111'
  await mkdir(join(data, 'blobs'), { recursive: true })
  await writeFile(join(data, 'blobs', 'installation'), `${mark}\n`)
  const files = { ROOKERY_S3_BUCKET: '', ROOKERY_S3_ENDPOINT: '', ROOKERY_DATA_DIR: data }
  const refused = await dryRun({ ...(await newTarget()), ...files })
  expect(refused.status, refused.stderr).toBe(1)
  expect(refused.stdout).toMatch(/^Database: test_\w+ on \S+\. It would/m)
  expect(refused.stdout).toMatch(new RegExp(`^In the way: .+${mark}`, 'm'))
})

it('a backup without the bytes of a blob, or with a damaged dump, is in the way by name', async () => {
  const broken = await mkdtemp(join(folder, 'broken-'))
  await cp(backup, broken, { recursive: true })
  await rm(join(broken, 'blobs', (await blobFiles(broken, [layer]))[0] ?? ''))
  const settings = await newTarget()
  const missing = await dryRun(settings, broken)
  expect(missing).toMatchObject({ status: 1 })
  expect(missing.stdout).toContain(`In the way: the backup has no bytes of ${layer}`)

  const dump = fileOf(broken, name, 'database.jsonl.gz')
  const whole = await readFile(dump)
  await writeFile(dump, whole.subarray(0, whole.length - 50))
  const cut = await dryRun(settings, broken)
  expect(cut.status, cut.stderr).toBe(1)
  expect(cut.stdout).toContain(`In the way: ${dump} is not a complete dump of a registry`)
})

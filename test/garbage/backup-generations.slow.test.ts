import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { sql } from '../auth/credentials-client.ts'
import { rookery } from '../cli/rookery.ts'
import { createTestDatabase } from '../support/database.ts'
import { newRepository, pushBlob, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { backUp, backupsIn, blobFiles, fileOf, filesBelow } from './backups.ts'
import { openSweeper, type Sweeper } from './sweeper.ts'

let registry: TestRegistry
let sweeper: Sweeper
let folder: string
let to: string

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_GC_INTERVAL_SECONDS: '3600' })
  sweeper = await openSweeper(registry)
  folder = await mkdtemp(join(tmpdir(), 'rookery-generations-'))
})

beforeEach(async () => {
  to = await mkdtemp(join(folder, 'backups-'))
})

afterAll(async () => {
  await sweeper.close()
  await registry.close()
  await rm(folder, { recursive: true, force: true })
})

/** Pushes an image. Returns its digest and those of its blobs. */
async function push(repository: string): Promise<{ digest: string; blobs: string[] }> {
  const { digest, body } = await pushImage(registry, repository, 'latest')
  const { config, layers } = JSON.parse(body)
  return { digest, blobs: [config.digest, ...layers.map((layer: typeof config) => layer.digest)] }
}

async function remove(repository: string, digest: string): Promise<void> {
  const path = `/v2/${repository}/manifests/${digest}`
  expect((await registry.request(path, { method: 'DELETE' })).status).toBe(202)
  await sweeper.sweepAll()
}

it('each backup has the time of its snapshot as its name, and shares blobs with the others', async () => {
  await push(newRepository())
  const before = Date.now()
  const first = await backUp(registry, to)
  const second = await backUp(registry, to)
  expect(await backupsIn(to)).toEqual([first.name, second.name])
  const time = first.name.replace(/T(\d\d)-(\d\d)-/, 'T$1:$2:')
  expect(Math.abs(Date.parse(time) - before)).toBeLessThan(60_000)
  expect(second.present).toBe(second.blobs)

  const listed = await rookery(registry, ['backup', '--to', to, '--list'])
  expect(listed.status, listed.stderr).toBe(0)
  expect(listed.stdout).toMatch(
    /^NAME +STATE +ROWS +BLOBS +SIZE\n(?:2\S+Z +complete +\d+ +\d+ +\S+ \S+\n){2}$/,
  )
})

it('the database knows the age of the last complete backup', async () => {
  await sql(registry, 'delete from last_backup')
  const none = await rookery(registry, ['backup', '--last'])
  expect(none).toMatchObject({
    status: 1,
    stdout: 'There is no complete backup of this registry.\n',
  })
  const { name } = await backUp(registry, to)
  const last = await rookery(registry, ['backup', '--last'])
  expect(last.status, last.stderr).toBe(0)
  expect(last.stdout).toMatch(/^The last complete backup is \d+ seconds old: taken at 2\S+Z, /)
  expect(last.stdout).toContain(`${name} in ${to}.`)
  await sql(registry, "update last_backup set taken_at = now() - interval '3 days'")
  const old = await rookery(registry, ['backup', '--last'])
  expect(old.stdout).toMatch(/^The last complete backup is 3 days old/)
})

it('expiry removes old backups with the blobs that they alone name, and nothing of others', async () => {
  const repository = newRepository()
  const gone = await push(repository)
  const kept = await push(newRepository())
  const first = await backUp(registry, to)
  const foreign = [
    join(to, 'blobs', 'sha256', 'notes.txt'),
    join(to, 'generations', 'by-hand', 'notes.txt'),
    join(to, 'generations', '2020-01-01T00-00-00Z.old', 'database.jsonl.gz'),
    join(to, 'notes.txt'),
  ]
  for (const path of foreign) {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, 'not of rookery')
  }
  await remove(repository, gone.digest)
  const second = await backUp(registry, to, ['--keep', '2'])
  expect(second.removed).toEqual([])
  expect(await blobFiles(to, gone.blobs)).toHaveLength(2)

  const third = await backUp(registry, to, ['--keep', '2'])
  expect(third.removed).toEqual([first.name])
  expect(await blobFiles(to, gone.blobs)).toEqual([])
  expect(await blobFiles(to, kept.blobs)).toHaveLength(2)
  const names = (await backupsIn(to)).filter((name) => /Z$/.test(name))
  expect(names).toEqual([second.name, third.name])
  for (const path of foreign) expect(await readFile(path, 'utf8')).toBe('not of rookery')
  const verified = await rookery(registry, ['backup', '--to', to, '--verify'])
  expect(verified.status, verified.stdout).toBe(0)
})

it('a file that somebody put into a backup stays when the backup expires', async () => {
  await push(newRepository())
  const first = await backUp(registry, to)
  const notes = fileOf(to, first.name, 'notes.txt')
  await writeFile(notes, 'why this backup matters')
  const second = await backUp(registry, to, ['--keep', '1'])
  expect(second.removed).toEqual([first.name])
  const left = (await filesBelow(join(to, 'generations'))).filter((path) =>
    path.startsWith(first.name),
  )
  expect(left).toEqual([join(`${first.name}.partial`, 'notes.txt')])
})

it('a backup without the bytes of a blob removes no old one, and is not the last complete one', async () => {
  const repository = newRepository()
  const { digest, bytes } = await pushBlob(registry, repository)
  const good = await backUp(registry, to)
  const [row] = await sql<{ key: string }>(
    registry,
    `select storage_key as key from blobs where digest = '${digest}'`,
  )
  const fresh = await mkdtemp(join(folder, 'backups-'))
  const [object] = (await registry.storedObjects()).filter(({ key }) => key === row?.key)
  if (object === undefined) throw new Error('the blob has no bytes')
  await sweeper.removeObject(object)
  const bad = await backUp(registry, fresh, ['--keep', '1'], 1)
  expect(bad).toMatchObject({ failures: [{ digest, reason: 'missing' }], lost: 0, removed: [] })
  const last = await rookery(registry, ['backup', '--last'])
  expect(last.stdout).toContain(good.name)
  const listed = await rookery(registry, ['backup', '--to', fresh, '--list'])
  expect(listed).toMatchObject({ status: 1 })
  expect(listed.stdout).toContain('incomplete')

  // Now the blob is marked as lost: a backup of all the rest is complete, and replaces the other.
  const later = await backUp(registry, fresh, ['--keep', '1'], 1)
  expect(later).toMatchObject({ lost: 1, removed: [bad.name] })
  await pushBlob(registry, repository, bytes)
})

it('a damaged old backup stops expiry, and is named', async () => {
  await push(newRepository())
  const first = await backUp(registry, to)
  const dump = fileOf(to, first.name, 'database.jsonl.gz')
  await writeFile(dump, (await readFile(dump)).subarray(0, 100))
  const second = await backUp(registry, to, ['--keep', '1'], 1)
  expect(second.removed).toEqual([])
  expect(second.problems).toEqual([expect.stringContaining(`damaged ${dump}`)])
  expect(await backupsIn(to)).toEqual([first.name, second.name])
})

it('a backup that a wrong clock named is reported, because a restore would take it', async () => {
  await push(newRepository())
  const first = await backUp(registry, to)
  const ahead = '2099-01-01T00-00-00Z'
  await rename(join(to, 'generations', first.name), join(to, 'generations', ahead))
  const second = await backUp(registry, to, ['--keep-daily', '1'], 1)
  expect(second.problems).toEqual([expect.stringContaining(`ahead ${to}/generations/${ahead}: `)])
  expect(await backupsIn(to)).toEqual([second.name, ahead])
})

it('a folder with backups of another registry is refused', async () => {
  await backUp(registry, to)
  const database = await createTestDatabase()
  try {
    const settings = {
      ...registry.settings,
      ROOKERY_DATABASE_URL: database.url,
      ROOKERY_DATA_DIR: await mkdtemp(join(folder, 'data-')),
      ROOKERY_S3_BUCKET: '',
      ROOKERY_S3_ENDPOINT: '',
    }
    await mkdir(join(settings.ROOKERY_DATA_DIR, 'blobs'))
    await sql({ databaseUrl: database.url }, 'update installation set id = gen_random_uuid()')
    const refused = await rookery({ settings }, ['backup', '--to', to, '--keep', '1'])
    expect(refused).toMatchObject({ status: 2, stdout: '' })
    expect(refused.stderr).toContain('of another registry')
    expect(await backupsIn(to)).toHaveLength(1)
  } finally {
    await database.drop()
  }
})

it.each([
  [['--list', '--verify'], /exclude each other/],
  [['--verify', '--keep', '3'], /exclude each other/],
  [['--generation', 'x'], /--generation needs --verify/],
  [['--keep', '0'], /--keep must be a number from 1/],
  [['--keep-daily', '1.5'], /--keep-daily must be a whole number/],
])('%j is refused', async (words, message) => {
  const refused = await rookery(registry, ['backup', '--to', to, ...words])
  expect(refused).toMatchObject({ status: 2, stdout: '' })
  expect(refused.stderr).toMatch(message)
})

import { randomBytes } from 'node:crypto'
import { access, mkdtemp, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sql } from '../auth/credentials-client.ts'
import { rookery } from '../cli/rookery.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { newRepository, pushBlob } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { mountSmallDisk, unmountSmallDisk } from '../support/small-disk.ts'
import { waitUntil } from '../support/wait-until.ts'
import { backUp, backupsIn, filesBelow } from './backups.ts'

const MIB = 1024 * 1024
const BLOBS = 24
const DISK_MIB = 12

const disk = await mountSmallDisk(DISK_MIB)
let registry: TestRegistry
let folder: string
const databases: TestDatabase[] = []
const repository = newRepository()

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_GC_INTERVAL_SECONDS: '3600' })
  folder = await mkdtemp(join(tmpdir(), 'rookery-kills-'))
  for (let count = 0; count < BLOBS; count += 1) {
    await pushBlob(registry, repository, randomBytes(MIB))
  }
})

afterAll(async () => {
  await registry.close()
  for (const database of databases) await database.drop()
  await rm(folder, { recursive: true, force: true })
  if (disk !== undefined) await unmountSmallDisk(disk)
})

const partialsIn = async (to: string) =>
  (await backupsIn(to).catch(() => [])).filter((name) => name.endsWith('.partial'))

const blobsIn = (to: string) => filesBelow(join(to, 'blobs')).catch(() => [])

/** Runs a command, and kills it as soon as the condition is true. Returns false when it ended before. */
async function killWhen(
  settings: Readonly<Record<string, string>>,
  words: readonly string[],
  condition: () => Promise<boolean>,
): Promise<boolean> {
  let [kill, ended] = [(_signal: NodeJS.Signals) => {}, false]
  const running = rookery({ settings }, words, (signal) => {
    kill = signal
  }).finally(() => {
    ended = true
  })
  await waitUntil(async () => ended || (await condition()))
  kill('SIGKILL')
  return (await running).status === null
}

/** The moments of a backup at which it is killed: what its folder has then, beside `before` blobs. */
const MOMENTS: readonly [string, (to: string, before: number) => Promise<boolean>][] = [
  ['begun', async (to) => (await partialsIn(to)).length > 0],
  [
    'written its dump',
    async (to) => {
      const [partial = ''] = await partialsIn(to)
      return access(join(to, 'generations', partial, 'database.jsonl.gz')).then(
        () => partial !== '',
        () => false,
      )
    },
  ],
  ['copied some blobs', async (to, before) => (await blobsIn(to)).length > before + 2],
]

describe('kill -9', () => {
  it.each(MOMENTS)(
    'of a backup that has %s leaves the older one, and the next removes the rest',
    async (_moment, isReached) => {
      const to = await mkdtemp(join(folder, 'backups-'))
      const small = await startRegistry({ ROOKERY_GC_INTERVAL_SECONDS: '3600' })
      try {
        await pushBlob(small, repository)
        const first = await backUp(small, to)
        const before = (await blobsIn(to)).length
        for (let count = 0; count < BLOBS; count += 1) {
          await pushBlob(small, repository, randomBytes(MIB))
        }
        const words = ['backup', '--to', to, '--keep', '1']
        const killed = await killWhen(small.settings, words, () => isReached(to, before))
        expect(killed).toBe(true)
        expect((await backupsIn(to))[0]).toBe(first.name)
        const verified = await rookery(small, ['backup', '--to', to, '--verify', '--json'])
        expect(verified.status, verified.stdout).toBe(0)
        expect(JSON.parse(verified.stdout)).toMatchObject({ name: first.name })
        const listed = await rookery(small, ['backup', '--to', to, '--list'])
        expect(listed.stdout).toContain('Interrupted: 1.')

        // Bytes of the killed backup that no later one names: their blobs are deleted meanwhile.
        await sql(small, 'delete from repository_blobs')
        await sql(small, 'delete from blobs where size > 1000')
        const next = await backUp(small, to, ['--keep', '1'])
        expect(next.removed).toEqual([first.name])
        expect(await backupsIn(to)).toEqual([next.name])
        expect(await blobsIn(to)).toHaveLength(1)
        expect(await filesBelow(join(to, 'uploads'))).toEqual([])
        expect(await sql(small, 'select id from deletion_pauses')).toEqual([])
      } finally {
        await small.close()
      }
    },
  )

  it('of a verification changes nothing', async () => {
    const to = await mkdtemp(join(folder, 'backups-'))
    await backUp(registry, to)
    const before = await filesBelow(to)
    let calls = 0
    const words = ['backup', '--to', to, '--verify']
    await killWhen(registry.settings, words, async () => {
      calls += 1
      return calls > 10
    })
    expect(await filesBelow(to)).toEqual(before)
    expect((await rookery(registry, words)).status).toBe(0)
  })

  it('of a restore: the same command then restores everything', async () => {
    const to = await mkdtemp(join(folder, 'backups-'))
    await backUp(registry, to)
    const database = await createTestDatabase()
    databases.push(database)
    const data = join(folder, 'restored')
    const settings = {
      ...registry.settings,
      ROOKERY_DATABASE_URL: database.url,
      ROOKERY_DATA_DIR: data,
      ...{ ROOKERY_S3_BUCKET: '', ROOKERY_S3_ENDPOINT: '' },
    }
    const words = ['restore', '--from', to, '--json']
    for (const count of [1, BLOBS / 2]) {
      const killed = await killWhen(
        settings,
        words,
        async () => (await blobsIn(data)).length >= count,
      )
      expect(killed).toBe(true)
    }
    expect(await sql({ databaseUrl: database.url }, 'select id from blobs')).toEqual([])
    const restored = await rookery({ settings }, words)
    expect(restored.status, restored.stderr).toBe(0)
    expect(JSON.parse(restored.stdout).blobs).toBe(BLOBS)
    const scrub = await rookery({ settings }, ['scrub', '--json', '--older-than', '0'])
    expect(JSON.parse(scrub.stdout)).toMatchObject({ missing: 0, corrupt: 0 })
  })
})

describe.skipIf(disk === undefined)('on a disk that becomes full', () => {
  it('a backup ends with one line, the older one stays, and a later one succeeds', async () => {
    const to = disk ?? ''
    const small = await startRegistry({ ROOKERY_GC_INTERVAL_SECONDS: '3600' })
    try {
      await pushBlob(small, repository)
      const first = await backUp(small, to)
      for (let count = 0; count < DISK_MIB + 2; count += 1) {
        await pushBlob(small, repository, randomBytes(MIB))
      }
      for (let attempt = 0; attempt < 3; attempt += 1) {
        const full = await rookery(small, ['backup', '--to', to, '--keep', '1'])
        expect(full).toMatchObject({ status: 2, stdout: '' })
        expect(full.stderr).toMatch(/^rookery: no space left[^\n]*\n$/)
      }
      expect((await partialsIn(to)).length).toBe(1)
      const verified = await rookery(small, ['backup', '--to', to, '--verify', '--json'])
      expect(JSON.parse(verified.stdout)).toMatchObject({ name: first.name, problems: [] })
      expect(await sql(small, 'select id from deletion_pauses')).toEqual([])

      await sql(small, 'delete from repository_blobs')
      await sql(small, 'delete from blobs where id % 3 = 0')
      const { removed } = await backUp(small, to, ['--keep', '1'])
      expect(removed).toEqual([first.name])
      const { bavail, bsize } = await statfs(to)
      expect(bavail * bsize).toBeGreaterThan(MIB)
    } finally {
      await small.close()
    }
  })
})

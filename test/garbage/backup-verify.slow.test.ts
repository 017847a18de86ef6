import { cp, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { type Ran, rookery } from '../cli/rookery.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { backUp, blobFiles, fileOf, filesBelow } from './backups.ts'

let registry: TestRegistry
let folder: string
let name: string
/** A copy of a good backup, which a test damages. */
let damaged: string
let layer: string

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_GC_INTERVAL_SECONDS: '3600' })
  folder = await mkdtemp(join(tmpdir(), 'rookery-verify-'))
  const { body } = await pushImage(registry, newRepository(), 'latest')
  layer = JSON.parse(body).layers[0].digest
  ;({ name } = await backUp(registry, join(folder, 'backup')))
})

beforeEach(async () => {
  damaged = await mkdtemp(join(folder, 'damaged-'))
  await cp(join(folder, 'backup'), damaged, { recursive: true })
})

afterAll(async () => {
  await registry.close()
  await rm(folder, { recursive: true, force: true })
})

/** Reads the backup as on a machine that has no registry. */
const verify = (of: string, ...words: string[]): Promise<Ran> =>
  rookery({ settings: { ROOKERY_DATA_DIR: join(folder, 'none') } }, [
    ...['backup', '--to', of, '--verify'],
    ...words,
  ])

const dumpOf = (of: string) => fileOf(of, name, 'database.jsonl.gz')

async function changeDump(change: (text: string) => string): Promise<void> {
  const text = String(gunzipSync(await readFile(dumpOf(damaged))))
  const changed = change(text)
  expect(changed).not.toBe(text)
  await writeFile(dumpOf(damaged), gzipSync(changed))
}

it('a whole backup is read anywhere, without its registry, and stays as it is', async () => {
  const before = await filesBelow(damaged)
  const ran = await verify(damaged, '--json')
  expect(ran.status, ran.stdout).toBe(0)
  const report = JSON.parse(ran.stdout)
  expect(report).toMatchObject({ name, blobs: 2, lost: 0, problems: [] })
  expect(report.tables).toMatchObject({ manifests: 1, blobs: 2, tags: 1 })
  expect(await filesBelow(damaged)).toEqual(before)
  const text = await verify(damaged, '--generation', name)
  expect(text.stdout).toMatch(/1 of them manifests, and 2 blobs with [^\n]+\nIt is complete\.\n$/)
})

it.each<[what: string, damage: () => Promise<void>, problem: () => string]>([
  [
    'a missing blob',
    async () => rm(join(damaged, 'blobs', (await blobFiles(damaged, [layer]))[0] ?? '')),
    () => `missing ${layer} (`,
  ],
  [
    'a blob with other bytes',
    async () =>
      writeFile(
        join(damaged, 'blobs', (await blobFiles(damaged, [layer]))[0] ?? ''),
        'x'.repeat(64),
      ),
    () => `corrupt ${layer} (`,
  ],
  [
    'a dump that was cut',
    async () => truncate(dumpOf(damaged), 200),
    () => `damaged ${dumpOf(damaged)} is not a complete dump of a registry`,
  ],
  ['a missing dump', async () => rm(dumpOf(damaged)), () => `damaged ${dumpOf(damaged)}`],
  [
    'a row less',
    () => changeDump((text) => text.replace(/^tags .*\n/m, '')),
    () => `damaged ${dumpOf(damaged)} is not a complete dump of a registry: its end is missing`,
  ],
  [
    'a manifest with other bytes',
    () => changeDump((text) => text.replace('"bytes":"\\\\x7b', '"bytes":"\\\\x7c')),
    () => 'corrupt manifest sha256:',
  ],
  [
    'a row of a blob that another row took the place of',
    () =>
      changeDump((text) =>
        text.replace(/^blobs .*\n/m, 'job_names {"id":1,"name":"x","account":null}\n'),
      ),
    () => 'missing blob with the id ',
  ],
  ['a missing key', () => rm(fileOf(damaged, name, 'master-key')), () => 'missing '],
  ['a missing summary', () => rm(fileOf(damaged, name, 'backup.json')), () => 'its summary is'],
])('%s is found, and named', async (_what, damage, problem) => {
  await damage()
  const ran = await verify(damaged, '--generation', name)
  expect(ran.status, ran.stderr).toBe(1)
  expect(ran.stdout).toContain(problem())
  expect(ran.stdout).toMatch(/Problems: \d+\. Restore another backup, or make a new one\.\n$/)
})

it('a folder without a backup is refused, and names what it has', async () => {
  const empty = await mkdtemp(join(folder, 'empty-'))
  const stderr = `rookery: ${empty} has no complete backup\n`
  expect(await verify(empty)).toMatchObject({ status: 2, stdout: '', stderr })
  expect(await filesBelow(empty)).toEqual([])
  const other = await verify(damaged, '--generation', '2020-01-01T00-00-00Z')
  expect(other.status).toBe(2)
  expect(other.stderr).toContain(`has no backup 2020-01-01T00-00-00Z; it has ${name}`)
})

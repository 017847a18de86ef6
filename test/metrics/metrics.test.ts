import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { findProgress } from '../../src/db/maintenance/jobs.ts'
import { recordBackup } from '../../src/db/maintenance/last-backup.ts'
import { STORAGE_USAGE_JOB } from '../../src/registry/maintenance/storage-usage.ts'
import { readPage } from '../house/tree.ts'
import { registryAt } from '../support/process-registry.ts'
import { newRepository, pushBlob } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { metricsOf, sampleOf, scrape } from './scrape.ts'

const PAGE = 'docs/metrics.md'
/** More bytes than everything else that the tests send. */
const BLOB_BYTES = 1_000_000
/** Repositories with a name in a scrape, and the bytes of each small one. */
const NAMED_MAX = 20
const SMALL_BYTES = 64

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

const value = async (sample: string) => sampleOf(await scrape(registry), sample) ?? Number.NaN

it(`${PAGE} lists every metric of a scrape`, async () => {
  const all = metricsOf(await scrape(registry))
  const own = all.filter(({ name }) => name.startsWith('rookery_'))
  expect(own.length).toBeGreaterThan(40)
  const rows = own.map(({ name, type, help }) => `| \`${name}\` | ${type} | ${help} |`).sort()
  const [, section = ''] = readPage(PAGE).split('\n## All metrics\n')
  const listed = section.split('\n').filter((line) => line.startsWith('| `rookery_'))
  expect(listed).toEqual(rows)
  const [paragraph = ''] = section.split('\n## ')
  const named = [...paragraph.matchAll(/`((?:process|nodejs)_\w+)`/g)].map(([, name]) => name)
  const others = all.filter(({ name }) => !name.startsWith('rookery_')).map(({ name }) => name)
  expect(named.sort()).toEqual(others.sort())
})

it('bytes, requests and refused logins are counted', async () => {
  const sent = await value('rookery_http_sent_bytes_total')
  const received = await value('rookery_http_received_bytes_total')
  const repository = newRepository()
  const { digest } = await pushBlob(registry, repository, randomBytes(BLOB_BYTES))
  expect(await value('rookery_http_received_bytes_total')).toBeGreaterThan(received + BLOB_BYTES)
  await (await registry.request(`/v2/${repository}/blobs/${digest}`)).arrayBuffer()
  expect(await value('rookery_http_sent_bytes_total')).toBeGreaterThan(sent + BLOB_BYTES)
  // The scrape itself.
  expect(await value('rookery_http_requests_in_flight')).toBe(1)

  const refused = 'rookery_logins_refused_total{reason="unauthorized"}'
  expect(await value(refused)).toBe(0)
  const authorization = `Basic ${Buffer.from('admin:wrong').toString('base64')}`
  expect((await registry.anonymous('/v2/', { headers: { authorization } })).status).toBe(401)
  // No login was refused here: the client sent none.
  expect((await registry.anonymous('/v2/')).status).toBe(401)
  expect(await value(refused)).toBe(1)
})

it('an address that guesses passwords is counted as throttled', async () => {
  const throttled = 'rookery_logins_refused_total{reason="throttled"}'
  for (let guesses = 0; guesses < 30; guesses += 1) {
    const authorization = `Basic ${Buffer.from(`admin:guess-${guesses}`).toString('base64')}`
    await registry.anonymous('/v2/', { headers: { authorization } })
  }
  expect(await value(throttled)).toBeGreaterThan(0)
})

it('connections to Postgres, sweeps and disks have values', async () => {
  const last = 'rookery_sweep_last_success_timestamp_seconds'
  await expect.poll(() => value(last)).toBeGreaterThan(Date.now() / 1000 - 60)
  const text = await scrape(registry)
  const sample = (name: string) => sampleOf(text, name) ?? Number.NaN
  expect(sample('rookery_database_connections_max{pool="registry"}')).toBe(12)
  const open = ['idle', 'busy'].map((state) =>
    sample(`rookery_database_connections{pool="registry",state="${state}"}`),
  )
  expect(open.reduce((sum, count) => sum + count, 0)).toBeGreaterThan(0)
  expect(sample('rookery_database_waiting{pool="questions"}')).toBe(0)
  expect(sample('rookery_sweep_duration_seconds_count')).toBeGreaterThan(0)
  for (const folder of ['data', 'blobs']) {
    const free = sample(`rookery_disk_free_bytes{folder="${folder}"}`)
    expect(free).toBeGreaterThan(0)
    expect(sample(`rookery_disk_size_bytes{folder="${folder}"}`)).toBeGreaterThanOrEqual(free)
  }
  expect(sample('rookery_outbox_oldest_age_seconds')).toBe(0)
  expect(sample('rookery_signing_key_active_timestamp_seconds')).toBeGreaterThan(1_600_000_000)
})

it('a complete backup has its time and its size', async () => {
  const db = new Database({
    ...{ connection: registry.databaseUrl, connectionsMax: 1 },
    onIdleError() {},
  })
  const backup = { name: 'b', folder: '/backup', rows: 1, blobs: 2, bytes: 300 }
  await recordBackup(db, backup, 60)
  await db.close()
  const replica = await startRegistry({ ...registry.settings })
  try {
    const other = registryAt(replica.url, replica.folder, registry.settings)
    const read = async (sample: string) => sampleOf(await scrape(other), sample)
    await expect.poll(() => read('rookery_backup_bytes')).toBe(300)
    const at = (await read('rookery_backup_last_success_timestamp_seconds')) ?? 0
    expect(Math.abs(Date.now() / 1000 - 60 - at)).toBeLessThan(30)
  } finally {
    await replica.close()
  }
})

it('the store is measured once for all processes, and the largest repositories have names', async () => {
  const repository = newRepository()
  await pushBlob(registry, repository, randomBytes(2 * BLOB_BYTES))
  const small = Array.from({ length: NAMED_MAX + 5 }, () => newRepository())
  for (const one of small) await pushBlob(registry, one, randomBytes(SMALL_BYTES))
  const db = new Database({
    ...{ connection: registry.databaseUrl, connectionsMax: 1 },
    onIdleError() {},
  })
  // The first measurement was that of the empty store.
  await db.query('delete from maintenance where name = $1', [STORAGE_USAGE_JOB])
  const measuring = await startRegistry({ ...registry.settings })
  await expect
    .poll(async () => (await findProgress(db, STORAGE_USAGE_JOB))?.progress, { timeout: 30_000 })
    .toMatchObject({ lost: 0 })
  await measuring.close()
  await db.close()
  // A server reads the values when it starts.
  const replica = await startRegistry({ ...registry.settings })
  try {
    const sample = `rookery_storage_repository_bytes{repository="${repository}"}`
    const other = registryAt(replica.url, replica.folder, registry.settings)
    const measured = async () => sampleOf(await scrape(other), sample) ?? 0
    await expect.poll(measured, { timeout: 30_000 }).toBe(2 * BLOB_BYTES)
    const text = await scrape(other)
    const all = sampleOf(text, 'rookery_storage_bytes') ?? 0
    expect(all).toBeGreaterThanOrEqual(3 * BLOB_BYTES)
    const named = [
      ...text.matchAll(/^rookery_storage_repository_bytes\{repository="(.+)"\} \d+$/gm),
    ]
    expect(named).toHaveLength(NAMED_MAX + 1)
    // The largest repositories are this one and that of another test.
    const others = sampleOf(text, 'rookery_storage_repository_bytes{repository="(others)"}')
    expect(others).toBe((small.length + 2 - NAMED_MAX) * SMALL_BYTES)
    expect(sampleOf(text, 'rookery_storage_lost_blobs')).toBe(0)
  } finally {
    await replica.close()
  }
}, 60_000)

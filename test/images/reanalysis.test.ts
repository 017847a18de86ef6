import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { createLog } from '../../src/server/log.ts'
import { startServer } from '../../src/server/server.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { ask, expectedOf, pushBuild, pushLayers } from './image-fixtures.ts'

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

it('a manifest from an earlier release is analyzed after the first start of this one', async () => {
  await pushBuild(registry, 'old/www', 'v1')
  await pushLayers(registry, 'old/text', 'v1', [
    { mediaType: 'text/plain', bytes: Buffer.from('text'), title: 'x' },
  ])
  const digest = await pushBuild(registry, 'old/gone', 'v1')
  // As an earlier release left it, which also accepted manifests that are refused today.
  await client.query('delete from images')
  await client.query('delete from layer_analyses')
  await client.query('delete from layer_packages')
  const claim = { 'vnd.unikernel.target': 'spt' }
  await client.query(
    `update manifests
        set analyzer_version = 0,
            bytes = case when digest = $1 and repository_id = (select id from repositories where name = 'old/gone')
                         then convert_to(jsonb_set(convert_from(bytes, 'utf8')::jsonb, '{annotations}', $2)::text, 'utf8')
                         else bytes end`,
    [digest, JSON.stringify(claim)],
  )
  await ask(registry, 'repositories/old/www/images/v1', 404)

  const later = await startServer(
    parseConfig({ ...registry.settings, ROOKERY_LISTEN: '127.0.0.1:0' }),
    createLog('fatal'),
    (error) => {
      throw error
    },
  )
  try {
    const pending = async () =>
      (await client.query('select count(*)::int as n from manifests where analyzer_version = 0'))
        .rows[0].n
    await expect.poll(pending, { timeout: 10_000 }).toBe(0)
  } finally {
    await later.close()
  }
  const { input_id } = expectedOf('hello-key-1')
  expect(await ask(registry, 'repositories/old/www/images/v1')).toMatchObject({ inputId: input_id })
  const { images } = await ask(registry, 'packages/opam/dune')
  expect(images.map(({ repository }: { repository: string }) => repository)).toEqual(['old/www'])
  await ask(registry, 'repositories/old/text/images/v1', 404)
  await ask(registry, 'repositories/old/gone/images/v1', 404)
  const manifest = await registry.request('/v2/old/gone/manifests/v1')
  expect(manifest.status).toBe(200)
})

it('a manifest with missing bytes does not block later manifests', async () => {
  for (let count = 0; count < 6; count += 1) {
    await pushLayers(registry, 'old/lost', `v${count}`, [
      { mediaType: 'application/octet-stream', bytes: Buffer.from(`lost ${count}`), title: 'x' },
    ])
  }
  await pushBuild(registry, 'old/behind', 'v1', 'hello-key-2')
  const gone = `update blobs set storage_key = storage_key || 'gone' where size = 6`
  expect((await client.query(gone)).rowCount).toBe(6)
  await client.query('delete from images')
  await client.query('delete from layer_analyses')
  await client.query('update manifests set analyzer_version = 0')
  const errors: unknown[] = []
  const pending = async () =>
    (await client.query('select count(*)::int as n from manifests where analyzer_version = 0'))
      .rows[0].n
  const log = createLog('error', { write: (line: string) => void errors.push(line) })
  const settings = { ...registry.settings, ROOKERY_LISTEN: '127.0.0.1:0' }
  const later = await startServer(parseConfig(settings), log, (error) => {
    throw error
  })
  try {
    await expect.poll(pending).toBe(6)
    const reported = () =>
      errors.filter((line) => /old\/lost@sha256:.* cannot be analyzed/.test(String(line))).length
    // The errors of a batch are reported after its last manifest is analyzed.
    await expect.poll(reported).toBe(6)
  } finally {
    await later.close()
  }
  await ask(registry, 'repositories/old/behind/images/v1')
})

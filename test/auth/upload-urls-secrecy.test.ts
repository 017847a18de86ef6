import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { removeExpiredAuthRows } from '../../src/auth/refresh-loop.ts'
import { eventually } from '../support/eventually.ts'
import { RawClient } from '../support/raw-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  basic,
  createUploadUrl,
  from,
  makeBuilder,
  newRepository,
  put,
  withDatabase,
} from './upload-url-client.ts'

let registry: TestRegistry
let client: pg.Client
let repository: string

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_LOG_LEVEL: 'debug',
    // Each request has a new address, because the login throttle counts by address.
    ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
  })
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
  repository = newRepository()
})

afterAll(async () => {
  await client.end()
  await registry.close()
})

const secretOf = (url: string) => url.slice(url.lastIndexOf('/') + 1)

/** Percent-encodes each character. */
const encoded = (text: string) =>
  [...text].map((one) => `%${one.charCodeAt(0).toString(16)}`).join('')

/** Returns all logs, audit entries and metrics. */
async function written(): Promise<string> {
  const { rows } = await client.query('select * from audit')
  const metrics = await (await registry.request('/metrics')).text()
  return [...registry.log, JSON.stringify(rows), metrics].join('\n')
}

it('no upload URL is in the log, the audit log or the metrics, for any form of request', async () => {
  const builder = await makeBuilder(registry, 'teller')
  const [one, two] = [
    await createUploadUrl(registry, repository, 'v1', builder),
    await createUploadUrl(registry, repository, 'v2', builder),
  ]
  expect((await put(one.url)).status).toBe(201)
  const secrets = [one, two].map(({ url }) => secretOf(url))
  const raw = new RawClient(registry.url)
  const statuses: number[] = []
  for (const secret of secrets) {
    const wrong = secret.replace(/.$/, (last) => (last === '0' ? '1' : '0'))
    for (const target of [
      `/upload/${secret}?${secret}`,
      `/upload/${secret}?${encoded(secret)}=1`,
      `/upload/${secret}`,
      `/upload//${secret}`,
      `//upload/${secret}`,
      `/upload/${secret}/a/b`,
      `/upload/${secret}/%ff`,
      `/upload/%ff${secret}`,
      `/upload/${secret.slice(4)}`,
      `/upload/${secret.slice(0, -1)}`,
      `/upload/${encoded(secret)}/%2f`,
      `/upload%2f${encoded(secret)}`,
      `/%64rop/${encoded(secret)}`,
      `/upload/${wrong}`,
      `/UPLOAD/${secret}`,
      `/uploads/${secret}`,
      `/${secret}`,
      `/v2/${secret}/manifests/${secret}`,
      `/token?scope=${secret}`,
      `${registry.url}/upload/${secret}/x/y`,
      `upload/${secret}`,
    ]) {
      for (const method of ['GET', 'PUT', 'POST', 'DELETE']) {
        for (const more of [{}, basic('x', secret)]) {
          const headers = {
            ...from(`10.0.${statuses.length >> 8}.${statuses.length & 255}`),
            ...more,
          }
          const answer = await raw.request({
            method,
            target,
            headers,
            body: Buffer.from('a kernel'),
          })
          statuses.push(answer.status)
        }
      }
    }
  }
  raw.close()
  expect([...new Set(statuses)].sort()).toEqual([200, 201, 400, 401, 404, 405, 410])
  await eventually(async () => expect(await written()).toContain('was used at'))
  const text = await written()
  for (const secret of secrets) {
    expect(text.toLowerCase()).not.toContain(secret.slice(4, 40).toLowerCase())
    expect(text.toLowerCase()).not.toContain(encoded(secret.slice(4, 40)))
  }
  expect(text).toContain('"/upload/:secret"')
})

it('also when the registry fails', async () => {
  const { url } = await createUploadUrl(registry, repository)
  await client.query('alter table upload_urls rename to away')
  const answer = await put(url)
  await client.query('alter table away rename to upload_urls')
  expect(answer.status).toBe(500)
  const text = (await written()) + (await answer.text())
  expect(text).toContain('a request failed')
  expect(text).not.toContain(secretOf(url).slice(4, 47))
  expect((await put(url)).status).toBe(201)
})

it('the database has no upload URL, and removes those that expired a day ago', async () => {
  const [old, young] = [
    await createUploadUrl(registry, repository),
    await createUploadUrl(registry, repository),
  ]
  const { rows } = await client.query('select to_jsonb(upload_urls)::text as row from upload_urls')
  expect(rows.length).toBeGreaterThan(1)
  expect(rows.map(({ row }) => row).join()).not.toContain(secretOf(young.url).slice(4, 47))
  const age = 'update upload_urls set expires_at = now() - $2::interval where id = $1'
  const ids = (await client.query('select id from upload_urls order by id desc limit 2')).rows
  await client.query(age, [ids[1].id, '25 hours'])
  await client.query(age, [ids[0].id, '23 hours'])
  await withDatabase(registry, (db) => removeExpiredAuthRows(db, 365))
  expect((await put(old.url, 'a kernel', from('10.1.0.1'))).status).toBe(404)
  expect((await put(young.url, 'a kernel', from('10.1.0.2'))).status).toBe(410)
})

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, bearer, makeCredential, openTokenMinter, sql } from '../auth/credentials-client.ts'
import { rookery } from '../cli/rookery.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let folder: string
let database: TestDatabase

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_GC_GRACE_SECONDS: '1',
    ROOKERY_GC_INTERVAL_SECONDS: '1',
  })
  folder = await mkdtemp(join(tmpdir(), 'rookery-reused-'))
  database = await createTestDatabase()
})
afterAll(async () => {
  await registry.close()
  await database.drop()
  await rm(folder, { recursive: true, force: true })
})

const post = (path: string, body: object) =>
  registry.request(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })

const remove = async (path: string) => {
  expect((await registry.request(path, { method: 'DELETE' })).status).toBe(204)
}

async function makePolicy(name: string): Promise<string> {
  const answer = await post('/api/v1/policies', {
    name,
    issuer: 'https://ci.example.org',
    audience: 'rookery',
    conditions: { sub: 'repo:acme/kernel:main' },
    repositories: ['reused/**'],
    actions: ['push'],
  })
  expect(answer.status).toBe(201)
  const [row] = await sql<{ id: string }>(
    registry,
    'select id from trust_policies where name = $1',
    [name],
  )
  return `policy:${row?.id}`
}

/** A token of a trust policy for a CI job, whose name each policy may choose. */
async function policyToken(origin: string): Promise<string> {
  const minter = await openTokenMinter(registry)
  const { token } = await minter.tokens.mint(
    {
      subject: 'repo:acme/kernel:main',
      origin,
      access: [{ type: 'repository', name: 'reused/**', actions: ['push', 'pull'] }],
    },
    300,
  )
  await minter.close()
  return token
}

describe('a name that is free again', () => {
  it('does not revive the tokens and uploads of the trust policy that had it', async () => {
    const origin = await makePolicy('ci')
    const authorization = bearer(await policyToken(origin))
    const started = await registry.anonymous('/v2/reused/a/blobs/uploads/', {
      method: 'POST',
      headers: { authorization },
    })
    expect(started.status).toBe(202)
    const location = started.headers.get('location') ?? ''
    const created = await registry.anonymous('/api/v1/repositories/reused/a/tags/v1/upload-urls', {
      method: 'POST',
      headers: { authorization },
    })
    const { url } = (await created.json()) as { url: string }
    await remove('/api/v1/policies/ci')
    const next = await makePolicy('ci')
    expect(next).not.toBe(origin)
    const refused = await registry.anonymous('/v2/', { headers: { authorization } })
    expect(refused.status).toBe(401)
    expect((await fetch(url, { method: 'PUT', body: 'a kernel' })).status).toBe(410)
    // The same job of the new policy does not own the upload of the earlier one.
    const headers = { authorization: bearer(await policyToken(next)) }
    expect((await registry.anonymous('/v2/', { headers })).status).toBe(200)
    expect((await registry.anonymous(location, { headers })).status).toBe(404)
  })

  it('is never that of a credential, also a revoked one', async () => {
    const { name } = await makeCredential(registry, { repositories: ['x'], actions: ['pull'] })
    await remove(`/api/v1/credentials/${name}`)
    const again = { name, repositories: ['x'], actions: ['pull'] }
    expect((await post('/api/v1/credentials', again)).status).toBe(409)
  })

  it('does not give the uploads of an empty repository to its next one', async () => {
    const push = { repositories: ['reused/**'], actions: ['push', 'pull'] }
    const [one, other] = [
      await makeCredential(registry, push),
      await makeCredential(registry, push),
    ]
    const start = async ({ name, secret }: typeof one) => {
      const answer = await registry.anonymous('/v2/reused/empty/blobs/uploads/', {
        method: 'POST',
        headers: { authorization: basic(name, secret) },
      })
      expect(answer.status).toBe(202)
      return answer.headers.get('location') ?? ''
    }
    const ask = (location: string, method: string, { name, secret }: typeof one) =>
      registry.anonymous(location, { method, headers: { authorization: basic(name, secret) } })
    const location = await start(one)
    expect((await ask(location, 'DELETE', one)).status).toBe(204)
    const isThere = `select 1 from repositories where name = 'reused/empty'`
    await expect
      .poll(async () => (await sql(registry, isThere)).length, { timeout: 20_000 })
      .toBe(0)
    const next = await start(other)
    for (const path of [location, next]) {
      expect((await ask(path, 'GET', one)).status).toBe(404)
    }
  }, 30_000)
})

const SEQUENCES = `select sequencename as name, last_value::int as value from pg_sequences
                    where schemaname = 'public' and last_value is not null`

it('a restored backup gives no id out again, also of what was deleted before', async () => {
  for (const name of ['gone-1', 'gone-2']) {
    await makePolicy(name)
    await remove(`/api/v1/policies/${name}`)
  }
  const hook = { name: 'gone', url: 'https://receiver.example/', repositories: ['**'] }
  expect((await post('/api/v1/webhooks', hook)).status).toBe(201)
  await remove('/api/v1/webhooks/gone')
  await sql(registry, 'delete from webhooks')
  // A revoked credential keeps its row; one that vanished does not.
  const { name } = await makeCredential(registry, { repositories: ['x'], actions: ['pull'] })
  await sql(registry, 'delete from credentials where name = $1', [name])
  const before = await sql<{ name: string; value: number }>(registry, SEQUENCES)
  const used = new Map(before.map((one) => [one.name, one.value]))

  const to = join(folder, 'backup')
  const taken = await rookery(registry, ['backup', '--to', to, '--json'])
  expect(taken.status, taken.stderr).toBe(0)
  const settings = {
    ...registry.settings,
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_DATA_DIR: join(folder, 'restored'),
    ROOKERY_S3_BUCKET: '',
    ROOKERY_S3_ENDPOINT: '',
  }
  const restored = await rookery({ settings }, ['restore', '--from', to, '--json'])
  expect(restored.status, restored.stderr).toBe(0)

  const client = new pg.Client(database.url)
  await client.connect()
  try {
    const { rows } = await client.query<{ name: string; value: number }>(SEQUENCES)
    const now = new Map(rows.map((one) => [one.name, one.value]))
    for (const table of ['credentials', 'trust_policies', 'webhooks', 'repositories', 'audit']) {
      expect(used.get(`${table}_id_seq`), table).toBeGreaterThan(0)
    }
    for (const [sequence, value] of used) {
      expect(now.get(sequence) ?? 0, sequence).toBeGreaterThanOrEqual(value)
    }
    // No token of the earlier registry is trusted, because the keys are not in a backup.
    expect((await client.query('select 1 from signing_keys')).rows).toEqual([])
  } finally {
    await client.end()
  }
}, 60_000)

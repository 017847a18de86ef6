import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { UPLOAD_URL_ATTEMPTS_MAX } from '../../src/auth/upload-urls.ts'
import { REFRESH_TOKENS_OF_CREDENTIAL_MAX } from '../../src/db/auth/refresh-tokens.ts'
import { OPEN_UPLOADS_MAX } from '../../src/db/registry/uploads.ts'
import { basic, makeCredential, sql } from '../auth/credentials-client.ts'
import { createUploadUrl, put } from '../auth/upload-url-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_GC_GRACE_SECONDS: '1',
    ROOKERY_GC_INTERVAL_SECONDS: '1',
  })
})
afterAll(() => registry.close())

const digestOf = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`
const form = (kernel: string) => {
  const body = new FormData()
  body.append('kernel', new Blob([kernel]), 'kernel.hvt')
  return body
}
const image = (repository: string, tag: string, kernel: string) =>
  registry.request(`/api/v1/repositories/${repository}/images?tag=${tag}`, {
    method: 'POST',
    body: form(kernel),
  })
const settings = (repository: string, change: object) =>
  registry.request(`/api/v1/repositories/${repository}/settings`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(change),
  })

it('the files of a refused image are not readable in the repository', async () => {
  expect((await put((await createUploadUrl(registry, 'left/a', 'v1')).url, 'first')).status).toBe(
    201,
  )
  expect((await settings('left/a', { immutableTags: ['v*'] })).status).toBe(200)
  expect((await image('left/a', 'v1', 'second')).status).toBe(400)
  const { url } = await createUploadUrl(registry, 'left/a', 'v1')
  expect((await put(url, 'third')).status).toBe(403)
  for (const refused of ['second', 'third']) {
    expect((await registry.request(`/v2/left/a/blobs/${digestOf(refused)}`)).status).toBe(404)
  }
  expect((await registry.request(`/v2/left/a/blobs/${digestOf('first')}`)).status).toBe(200)
  // A refused image takes no file away that the repository had before.
  expect((await image('left/a', 'v1', 'first')).status).toBe(400)
  expect((await registry.request(`/v2/left/a/blobs/${digestOf('first')}`)).status).toBe(200)
})

it('an upload URL may fail only so many times', async () => {
  expect((await put((await createUploadUrl(registry, 'left/b', 'v1')).url, 'kept')).status).toBe(
    201,
  )
  await settings('left/b', { immutableTags: ['v*'] })
  const { url } = await createUploadUrl(registry, 'left/b', 'v1')
  for (let attempt = 0; attempt < UPLOAD_URL_ATTEMPTS_MAX; attempt += 1) {
    expect((await put(url, `attempt ${attempt}`)).status).toBe(403)
  }
  const last = await put(url, 'one more')
  expect(last.status).toBe(410)
  expect(await last.text()).toContain(`attempted ${UPLOAD_URL_ATTEMPTS_MAX} times`)
})

it('an actor has a limited number of uploads in progress, and others are not affected', async () => {
  const push = { repositories: ['left/**'], actions: ['push'] }
  const [one, other] = [await makeCredential(registry, push), await makeCredential(registry, push)]
  await registry.request('/v2/left/c/blobs/uploads/', { method: 'POST' })
  await sql(
    registry,
    `insert into uploads (id, repository_id, actor, algorithm, stage, expires_at)
     select gen_random_uuid(), r.id, 'credential:' || c.id || ' ' || c.name, 'sha256', '{}', now() + interval '1 hour'
       from repositories r, credentials c, generate_series(1, $2)
      where r.name = 'left/c'
        and c.name = $1`,
    [one.name, OPEN_UPLOADS_MAX],
  )
  const start = (repository: string, { name, secret }: typeof one) =>
    registry.anonymous(`/v2/${repository}/blobs/uploads/`, {
      method: 'POST',
      headers: { authorization: basic(name, secret) },
    })
  const refused = await start('left/never', one)
  expect(refused.status).toBe(429)
  expect(refused.headers.get('retry-after')).toBe('60')
  expect(await refused.text()).toContain('uploads in progress')
  expect((await start('left/c', other)).status).toBe(202)
  // The refused request made no repository.
  expect(await sql(registry, `select 1 from repositories where name = 'left/never'`)).toEqual([])
})

it('a repository of abandoned uploads goes away, and one with settings or content stays', async () => {
  const started = await registry.request('/v2/left/empty/blobs/uploads/', { method: 'POST' })
  expect((await settings('left/settled', { visibility: 'private' })).status).toBe(200)
  const location = started.headers.get('location') ?? ''
  expect((await registry.request(location, { method: 'DELETE' })).status).toBe(204)
  const names = async () =>
    (await sql<{ name: string }>(registry, 'select name from repositories')).map(({ name }) => name)
  await expect.poll(names, { timeout: 20_000 }).not.toContain('left/empty')
  expect(await names()).toEqual(expect.arrayContaining(['left/a', 'left/c', 'left/settled']))
  expect((await registry.request('/v2/left/empty/blobs/uploads/', { method: 'POST' })).status).toBe(
    202,
  )
}, 30_000)

it('refusals that one caller repeats are few rows of the audit log', async () => {
  const { name, secret } = await makeCredential(registry, {
    repositories: ['left/x'],
    actions: ['pull'],
  })
  for (let i = 0; i < 300; i += 1) {
    const answer = await registry.anonymous(`/v2/left/${i % 150}/blobs/uploads/`, {
      method: 'POST',
      headers: { authorization: basic(name, secret) },
    })
    expect(answer.status).toBe(403)
  }
  const refusals = `select count(*)::int as count from audit where actor = $1 and decision = 'refused'`
  const count = async () => (await sql<{ count: number }>(registry, refusals, [name]))[0]?.count
  await expect.poll(count).toBeGreaterThan(50)
  expect(await count()).toBeLessThanOrEqual(100)
}, 30_000)

it('an empty repository of a refused push is in no list until its first manifest', async () => {
  const push = { repositories: ['left/list/**'], actions: ['push', 'pull'] }
  const { name, secret } = await makeCredential(registry, push)
  const own = { authorization: basic(name, secret) }
  const repository = 'left/list/a'
  const started = await registry.anonymous(`/v2/${repository}/blobs/uploads/`, {
    method: 'POST',
    headers: own,
  })
  expect(started.status).toBe(202)
  const manifest = (layer: string) => ({
    method: 'PUT',
    headers: { ...own, 'content-type': 'application/vnd.oci.image.manifest.v1+json' },
    body: JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: { mediaType: 'a/b', digest: digestOf(layer), size: layer.length },
      layers: [],
    }),
  })
  const path = `/v2/${repository}/manifests/v1`
  expect((await registry.anonymous(path, manifest('never sent'))).status).toBe(400)
  const listed = async (headers: Record<string, string>) => {
    const answer = await registry.anonymous('/v2/_catalog?n=1000', { headers })
    return ((await answer.json()) as { repositories: string[] }).repositories
  }
  const admin = { authorization: basic('admin', registry.password) }
  const stranger = await makeCredential(registry, { repositories: ['x'], actions: ['pull'] })
  const anyone = { authorization: basic(stranger.name, stranger.secret) }
  for (const headers of [own, admin, anyone])
    expect(await listed(headers)).not.toContain(repository)
  const blob = await registry.anonymous(
    `/v2/${repository}/blobs/uploads/?digest=${digestOf('layer')}`,
    { method: 'POST', headers: own, body: 'layer' },
  )
  expect(blob.status).toBe(201)
  expect((await registry.anonymous(path, manifest('layer'))).status).toBe(201)
  for (const headers of [own, admin, anyone]) expect(await listed(headers)).toContain(repository)
})

it('a credential has a limited number of refresh tokens, and a new one ends the oldest', async () => {
  const { name, secret } = await makeCredential(registry, {
    repositories: ['left/**'],
    actions: ['pull'],
  })
  const login = async () => {
    const answer = await registry.anonymous('/token?offline_token=true', {
      headers: { authorization: basic(name, secret) },
    })
    return ((await answer.json()) as { refresh_token: string }).refresh_token
  }
  const renew = async (token: string) => {
    const body = new URLSearchParams({ grant_type: 'refresh_token', refresh_token: token })
    return (await registry.anonymous('/token', { method: 'POST', body })).status
  }
  const first = await login()
  const second = await login()
  await sql(
    registry,
    `insert into refresh_tokens (secret_sha256, credential_id, expires_at)
     select sha256(i::text::bytea), id, now() + interval '1 day'
       from credentials, generate_series(3, $2::int) as i
      where name = $1`,
    [name, REFRESH_TOKENS_OF_CREDENTIAL_MAX],
  )
  expect([await renew(first), await renew(second)]).toEqual([200, 200])
  const third = await login()
  expect([await renew(first), await renew(second), await renew(third)]).toEqual([401, 200, 200])
  const count = `select count(*)::int as count from refresh_tokens t
                   join credentials c on c.id = t.credential_id where c.name = $1`
  expect(await sql(registry, count, [name])).toEqual([{ count: REFRESH_TOKENS_OF_CREDENTIAL_MAX }])
})

import { afterAll, beforeAll, expect, it } from 'vitest'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import { pushBlob, pushImage, pushImageBlobs, readPages } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { basic, bearer, claimsOf, makeCredential, requestToken } from './credentials-client.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_TRUSTED_PROXIES: '127.0.0.1' })
})

afterAll(() => registry.close())

type Entry = Record<string, unknown> & { id: number }

async function entries(query = ''): Promise<Entry[]> {
  const answer = await registry.request(`/api/v1/audit?n=1000${query}`)
  expect(answer.status).toBe(200)
  return ((await answer.json()) as { entries: Entry[] }).entries
}

/** Returns the newest entry of that action. */
const newest = async (action: string, decision = 'allowed') =>
  (await entries(`&action=${action}&decision=${decision}`))[0]

const FROM = { 'x-forwarded-for': '203.0.113.9' }

it('has a push and a delete with actor, action, repository, tags, digest, address and token', async () => {
  const { name, secret } = await makeCredential(registry, {
    repositories: ['audited/**'],
    actions: ['pull', 'push', 'delete'],
  })
  const scope = 'repository:audited/a:pull,push,delete'
  const token = await requestToken(registry, basic(name, secret), scope)
  const { jti, origin } = claimsOf(token)
  expect(await newest('mint')).toMatchObject({
    actor: name,
    origin,
    tokenId: jti,
    address: '127.0.0.1',
    detail: scope,
  })
  const headers = {
    authorization: bearer(token),
    'content-type': IMAGE_MANIFEST,
    ...FROM,
  }
  const manifest = await pushImageBlobs(registry, 'audited/a')
  const path = '/v2/audited/a/manifests/v1'
  const body = JSON.stringify(manifest)
  const pushed = await registry.anonymous(`${path}?tag=v2`, { method: 'PUT', headers, body })
  const digest = pushed.headers.get('docker-content-digest')
  const who = { actor: name, origin, tokenId: jti, address: FROM['x-forwarded-for'] }
  const requestId = pushed.headers.get('x-request-id')
  const what = { repository: 'audited/a', digest }
  expect(await newest('push')).toMatchObject({ ...who, ...what, requestId, tags: ['v1', 'v2'] })
  await registry.anonymous(path, { method: 'DELETE', headers })
  expect(await newest('delete-tag')).toMatchObject({ ...who, ...what, tags: ['v1'] })
  const byDigest = `/v2/audited/a/manifests/${digest}`
  await registry.anonymous(byDigest, { method: 'DELETE', headers })
  expect(await newest('delete-manifest')).toMatchObject({ ...who, ...what, tags: ['v2'] })
  const blob = await pushBlob(registry, 'audited/a')
  await registry.anonymous(`/v2/audited/a/blobs/${blob.digest}`, { method: 'DELETE', headers })
  expect(await newest('delete-blob')).toMatchObject({ ...who, digest: blob.digest })
})

it('has each token of an authenticated caller, for every kind of request', async () => {
  const { name, secret } = await makeCredential(registry, {
    repositories: ['audited/**'],
    actions: ['pull'],
    tags: ['v*'],
  })
  const form = (fields: Record<string, string>) =>
    registry.anonymous('/token', {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...FROM },
      body: new URLSearchParams(fields).toString(),
    })
  const scope = 'repository:audited/a:pull,push'
  const password = { grant_type: 'password', username: name, password: secret, scope }
  const first = await form({ ...password, access_type: 'offline' })
  const given = (await first.json()) as { token: string; refresh_token: string }
  const entry = {
    actor: name,
    address: FROM['x-forwarded-for'],
    requestId: first.headers.get('x-request-id'),
    detail: 'repository:audited/a:pull tag v*',
  }
  expect(await newest('mint')).toMatchObject({ ...entry, tokenId: claimsOf(given.token).jti })
  const second = await form({
    grant_type: 'refresh_token',
    refresh_token: given.refresh_token,
    scope,
  })
  const renewed = (await second.json()) as { token: string }
  const requestId = second.headers.get('x-request-id')
  const renewedId = claimsOf(renewed.token).jti
  expect(renewedId).not.toBe(claimsOf(given.token).jti)
  expect(await newest('mint')).toMatchObject({ ...entry, requestId, tokenId: renewedId })
  // A token that was requested with a token has the same id.
  await requestToken(registry, bearer(renewed.token))
  expect(await newest('mint')).toMatchObject({ actor: name, tokenId: renewedId, detail: '' })
})

it('has no tokens of anonymous callers', async () => {
  const before = await entries()
  const token = await requestToken(registry, undefined, 'repository:audited/a:pull')
  const headers = { authorization: bearer(token) }
  expect((await registry.anonymous('/v2/', { headers })).status).toBe(200)
  const refused = await registry.anonymous('/v2/a/blobs/uploads/', { method: 'POST', headers })
  expect(refused.status).toBe(401)
  const nobody = { authorization: basic('', '') }
  expect((await registry.anonymous('/v2/', { headers: nobody })).status).toBe(401)
  // Refusals are written in order: earlier ones are written before this one.
  const wrong = { authorization: basic('admin', 'wrong') }
  await registry.anonymous('/v2/', { headers: wrong })
  await expect.poll(async () => (await entries()).length).toBe(before.length + 1)
})

it('has a refused token with its id and the request', async () => {
  const { name, secret } = await makeCredential(registry, {
    repositories: ['audited/**'],
    actions: ['pull'],
  })
  const token = await requestToken(registry, basic(name, secret), 'repository:audited/a:pull')
  const headers = { authorization: bearer(token), ...FROM }
  const path = '/v2/audited/a/blobs/uploads/'
  const answer = await registry.anonymous(path, { method: 'POST', headers })
  expect(answer.status).toBe(401)
  const requestId = answer.headers.get('x-request-id')
  const { jti, origin } = claimsOf(token)
  await expect.poll(async () => (await newest('push', 'refused'))?.requestId).toBe(requestId)
  expect(await newest('push', 'refused')).toMatchObject({
    actor: name,
    origin,
    tokenId: jti,
    repository: 'audited/a',
    address: FROM['x-forwarded-for'],
    detail: expect.stringContaining('POST /v2/*repository/blobs/uploads/'),
  })
})

it('has no entry for a failed push', async () => {
  const before = (await entries('&action=push')).length
  const manifest = await pushImageBlobs(registry, 'audited/elsewhere')
  const answer = await registry.request('/v2/audited/b/manifests/v1', {
    method: 'PUT',
    headers: { 'content-type': IMAGE_MANIFEST },
    body: JSON.stringify(manifest),
  })
  expect(answer.status).toBe(400)
  expect((await entries('&action=push')).length).toBe(before)
})

it('has changes of rights', async () => {
  const { name } = await makeCredential(registry, { kind: 'admin' })
  expect(await newest('create-credential')).toMatchObject({ actor: 'admin', detail: name })
  await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
  expect(await newest('revoke-credential')).toMatchObject({ actor: 'admin', detail: name })
  const jti = '00000000-0000-4000-8000-000000000000'
  await registry.request(`/api/v1/tokens/${jti}`, { method: 'DELETE' })
  expect(await newest('revoke-token')).toMatchObject({ actor: 'admin', detail: jti })
  await registry.request('/api/v1/repositories/audited/c/settings', {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: '{"visibility":"private"}',
  })
  expect(await newest('change-repository')).toMatchObject({
    repository: 'audited/c',
    detail: '{"visibility":"private"}',
  })
})

it('has refusals, and no challenges to anonymous callers', async () => {
  const before = (await entries('&decision=refused')).length
  await registry.anonymous('/v2/')
  await registry.anonymous('/v2/audited/a/blobs/uploads/', { method: 'POST' })
  const { name, secret } = await makeCredential(registry, {
    repositories: ['audited/**'],
    actions: ['push'],
    tags: ['v*'],
  })
  const authorization = basic(name, secret)
  const headers = { authorization, ...FROM }
  await registry.anonymous('/v2/', { headers: { authorization: basic(name, 'wrong'), ...FROM } })
  await registry.anonymous('/v2/other/blobs/uploads/', { method: 'POST', headers })
  await registry.anonymous('/v2/audited/a/manifests/latest', { method: 'PUT', headers, body: '{}' })
  await registry.anonymous('/token', {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...FROM },
    body: 'grant_type=password&username=x&password=y',
  })
  await expect.poll(async () => (await entries('&decision=refused')).length).toBe(before + 4)
  const [oauth, tag, push, password] = await entries('&decision=refused')
  const address = FROM['x-forwarded-for']
  expect(password).toMatchObject({ action: 'authenticate', actor: null, address })
  expect(push).toMatchObject({ action: 'push', actor: name, repository: 'other', address })
  expect(tag).toMatchObject({ action: 'push', actor: name, tags: ['latest'], address })
  expect(oauth).toMatchObject({ action: 'authenticate', actor: null, address })
})

it('comes in pages, newest first, and filtered', async () => {
  for (const tag of ['a', 'b', 'c', 'd', 'e']) await pushImage(registry, 'audited/pages', tag)
  const query = '/api/v1/audit?n=2&action=push&repository=audited/pages'
  const { pages, links } = await readPages(registry, query)
  const tags = pages.flatMap((page) => (page.entries as Entry[]).flatMap((entry) => entry.tags))
  expect(tags).toEqual(['e', 'd', 'c', 'b', 'a'])
  expect(links).toBe(2)
  expect(await entries('&actor=nobody')).toEqual([])
  const since = new Date(Date.now() + 60_000).toISOString()
  expect(await entries(`&since=${since}`)).toEqual([])
  const all = await entries()
  expect(all.map(({ id }) => id)).toEqual([...all].map(({ id }) => id).sort((a, b) => b - a))
  const [newestOne] = all
  const time = encodeURIComponent(String(newestOne?.at))
  expect((await entries(`&since=${time}`)).at(0)).toEqual(newestOne)
  for (const [field, value] of [
    ['actor', 'admin'],
    ['action', 'mint'],
    ['decision', 'refused'],
    ['repository', 'audited/a'],
  ] as const) {
    const some = await entries(`&${field}=${value}`)
    expect(some).toEqual(all.filter((entry) => entry[field] === value))
    expect(some.length).toBeGreaterThan(0)
    expect(some.length).toBeLessThan(all.length)
  }
})

it.each([
  'before=x',
  'before=-1',
  'since=yesterday',
  'since=-271821-04-20T00:00:00Z',
  'n=-1',
  'actor=%00',
  'actor=a&actor=b',
])('refuses the query %s', async (query) => {
  expect((await registry.request(`/api/v1/audit?${query}`)).status).toBe(400)
})

import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { pushImage, pushImageBlobs } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  basic,
  bearer,
  claimsOf,
  makeCredential,
  openTokenMinter,
  requestToken,
  sql,
} from './credentials-client.ts'

let registry: TestRegistry
let builder: { name: string; secret: string }

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_TRUSTED_PROXIES: '127.0.0.1' })
  builder = await makeCredential(registry, {
    repositories: ['builds/**'],
    actions: ['pull', 'push'],
    tags: ['v*'],
  })
  await pushImage(registry, 'open/image', 'v1')
  await pushImage(registry, 'closed/image', 'v1')
  await pushImage(registry, 'builds/image', 'v1')
  for (const repository of ['closed/image', 'builds/image']) await hide(repository)
})

afterAll(() => registry.close())

async function hide(repository: string): Promise<void> {
  const answer = await registry.request(`/api/v1/repositories/${repository}/settings`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ visibility: 'private' }),
  })
  expect(answer.status).toBe(200)
}

type Answer = {
  token: string
  access_token: string
  expires_in: number
  issued_at: string
  refresh_token?: string
  scope: string
  error?: string
  errors?: { code: string }[]
}

const asBuilder = () => basic(builder.name, builder.secret)

async function fetchToken(query: string, authorization?: string) {
  const headers: Record<string, string> = authorization === undefined ? {} : { authorization }
  const answer = await registry.anonymous(`/token?${query}`, { headers })
  return { status: answer.status, headers: answer.headers, body: (await answer.json()) as Answer }
}

async function postForm(fields: Record<string, string> | [string, string][], type?: string) {
  const answer = await registry.anonymous('/token', {
    method: 'POST',
    headers: { 'content-type': type ?? 'application/x-www-form-urlencoded' },
    body: new URLSearchParams(fields).toString(),
  })
  return { status: answer.status, headers: answer.headers, body: (await answer.json()) as Answer }
}

const accessOf = ({ token }: { token: string }) => claimsOf(token).access

describe('GET /token', () => {
  it('several scopes in one parameter or in several have the same effect', async () => {
    const [a, b] = ['repository:builds/a:pull', 'repository:builds/b:push,delete']
    const one = await requestToken(registry, asBuilder(), `${a} ${b}`)
    const two = await requestToken(registry, asBuilder(), a ?? '', b ?? '')
    expect(claimsOf(one).access).toEqual([
      { type: 'repository', name: 'builds/a', actions: ['pull'], tags: ['v*'] },
      { type: 'repository', name: 'builds/b', actions: ['push'], tags: ['v*'] },
    ])
    expect(claimsOf(two).access).toEqual(claimsOf(one).access)
  })

  it('a request for more, for malformed or for very many scopes is never an error', async () => {
    const scopes = [
      'repository:other/x:pull,push,delete,admin,*',
      'registry:admin:*',
      'registry:everything:*',
      'repository:UPPER:pull',
      'repository:builds/*:pull',
      'repository:../x:pull',
      'nonsense',
      '::',
      'repository::pull',
      'repository:builds/a:',
      'repository:builds/a:fly',
      'x'.repeat(5000),
    ]
    const token = await requestToken(registry, asBuilder(), ...scopes)
    expect(claimsOf(token).access).toEqual([])
    const many = Array.from({ length: 1000 }, (_, index) => `repository:builds/n${index}:pull`)
    const form = { grant_type: 'password', username: builder.name, password: builder.secret }
    const { status, body } = await postForm({ ...form, scope: many.join(' ') })
    expect(status).toBe(200)
    expect(accessOf(body).length).toBeGreaterThan(50)
    const authorization = bearer(body.token)
    expect((await registry.anonymous('/v2/', { headers: { authorization } })).status).toBe(200)
  })

  it('the catalog has the repositories that the credential may pull', async () => {
    const token = await requestToken(registry, asBuilder(), 'registry:catalog:*')
    const headers = { authorization: bearer(token) }
    const answer = await registry.anonymous('/v2/_catalog', { headers })
    expect(await answer.json()).toEqual({ repositories: ['builds/image', 'open/image'] })
    // The token was requested for the catalog, and permits nothing else.
    const pull = await registry.anonymous('/v2/builds/image/manifests/v1', { headers })
    expect(pull.status).toBe(401)
  })

  it('an anonymous caller gets a token for public pulls, which reveals nothing private', async () => {
    const names = ['open/image', 'closed/image', 'never/was']
    const { status, body } = await fetchToken(
      names.map((name) => `scope=repository:${name}:pull,push`).join('&'),
    )
    expect(status).toBe(200)
    expect(accessOf(body)).toEqual([
      { type: 'repository', name: 'open/image', actions: ['pull'], public: true },
    ])
    expect(body.refresh_token).toBeUndefined()
    const statuses = names.map(async (name) => {
      const headers = { authorization: bearer(body.token) }
      return (await registry.anonymous(`/v2/${name}/manifests/v1`, { headers })).status
    })
    expect(await Promise.all(statuses)).toEqual([200, 401, 401])
  })

  it('a token requested with a token has no more access, no longer lifetime, and ends with it', async () => {
    const mint = await openTokenMinter(registry)
    const entry = { type: 'repository', name: 'builds/a', actions: ['pull'], tags: ['v*'] } as const
    const claims = { subject: 'brief', origin: 'credential:0', access: [entry] }
    const { token, tokenId } = await mint.tokens.mint(claims, 60)
    await mint.close()
    const again = await requestToken(registry, bearer(token), 'repository:builds/a:pull,push')
    expect(claimsOf(again).access).toEqual([entry])
    expect(claimsOf(again).exp).toBeLessThanOrEqual(claimsOf(token).exp)
    expect(claimsOf(again)).toMatchObject({ sub: 'brief', origin: 'credential:0', jti: tokenId })
  })

  it('a token never outlives its credential', async () => {
    const expiresAt = new Date(Date.now() + 60_000)
    const brief = await makeCredential(registry, {
      repositories: ['builds/**'],
      actions: ['pull'],
      expiresAt: expiresAt.toISOString(),
    })
    const token = await requestToken(registry, basic(brief.name, brief.secret))
    expect(claimsOf(token).exp * 1000).toBeLessThanOrEqual(expiresAt.getTime())
  })
})

describe('POST /token, as OAuth 2', () => {
  it('a password is exchanged, with a refresh token on request', async () => {
    const fields = {
      grant_type: 'password',
      service: 'x',
      client_id: 'docker',
      username: builder.name,
      password: builder.secret,
      scope: 'repository:builds/a:pull',
    }
    expect((await postForm(fields)).body.refresh_token).toBeUndefined()
    const { status, headers, body } = await postForm({ ...fields, access_type: 'offline' })
    expect(status).toBe(200)
    expect(headers.get('cache-control')).toBe('no-store')
    expect(body).toMatchObject({ token_type: 'Bearer', scope: 'repository:builds/a:pull' })
    const renewed = await postForm({
      grant_type: 'refresh_token',
      service: 'x',
      client_id: 'docker',
      refresh_token: body.refresh_token ?? '',
      scope: 'repository:builds/a:pull,push',
    })
    expect(renewed.status).toBe(200)
    expect(renewed.body.refresh_token).toBe(body.refresh_token)
    expect(accessOf(renewed.body)[0].actions).toEqual(['pull', 'push'])
  })

  it('refresh tokens end with their credential', async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['builds/**'],
      actions: ['pull'],
    })
    const { body } = await fetchToken('offline_token=true', basic(name, secret))
    const refresh = { grant_type: 'refresh_token', refresh_token: body.refresh_token ?? '' }
    expect((await postForm(refresh)).status).toBe(200)
    await sql(registry, `update credentials set expires_at = now() where name = $1`, [name])
    expect((await postForm(refresh)).status).toBe(401)
    await sql(registry, `update credentials set expires_at = null where name = $1`, [name])
    expect((await postForm(refresh)).status).toBe(200)
    await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
    const refused = await postForm(refresh)
    expect(refused.status).toBe(401)
    expect(refused.body).toMatchObject({
      error: 'invalid_grant',
      errors: [{ code: 'UNAUTHORIZED' }],
    })
  })

  it.each([
    ['no grant type', { username: 'a' }, 400],
    ['an unknown grant type', { grant_type: 'client_credentials' }, 400],
    ['no password', { grant_type: 'password', username: 'admin' }, 400],
    ['a wrong password', { grant_type: 'password', username: 'admin', password: 'x' }, 401],
    ['no refresh token', { grant_type: 'refresh_token' }, 400],
    ['a wrong refresh token', { grant_type: 'refresh_token', refresh_token: 'x' }, 401],
  ])('%s has the errors of both protocols', async (_what, fields, status) => {
    const answer = await postForm(fields as Record<string, string>)
    expect(answer.status).toBe(status)
    expect(answer.body.error).toBe(status === 401 ? 'invalid_grant' : 'invalid_request')
    expect(answer.body.errors).toHaveLength(1)
  })

  it('a body that is no form, or too long, is refused', async () => {
    expect((await postForm({}, 'application/json')).status).toBe(400)
    const long = await postForm({ grant_type: 'password', scope: 'x'.repeat(70_000) })
    expect(long.status).toBe(413)
  })
})

it('a credential for one network is refused elsewhere, and so are its tokens', async () => {
  const bound = await makeCredential(registry, {
    repositories: ['builds/**'],
    actions: ['pull', 'push'],
    networks: ['10.1.0.0/16', '2001:db8::/32'],
  })
  const from = (address: string, authorization: string) =>
    registry.anonymous('/v2/', { headers: { authorization, 'x-forwarded-for': address } })
  const authorization = basic(bound.name, bound.secret)
  expect((await from('10.1.2.3', authorization)).status).toBe(200)
  expect((await from('2001:db8::7', authorization)).status).toBe(200)
  expect((await from('10.2.2.3', authorization)).status).toBe(401)
  const headers = { authorization, 'x-forwarded-for': '10.1.2.3' }
  const minted = await registry.anonymous('/token', { headers })
  const { token } = (await minted.json()) as Answer
  expect((await from('10.1.9.9', bearer(token))).status).toBe(200)
  expect((await from('192.0.2.1', bearer(token))).status).toBe(401)
  expect((await from('10.1.9.9', basic('token', token))).status).toBe(200)
})

describe('an upload that began with a valid token', () => {
  const bytes = randomBytes(1000)
  const digest = digestOf(bytes)
  let mint: Awaited<ReturnType<typeof openTokenMinter>>
  const entry = { type: 'repository', name: 'builds/late', actions: ['pull', 'push'] } as const

  beforeAll(async () => {
    mint = await openTokenMinter(registry)
  })
  afterAll(() => mint.close())

  const send = (method: string, path: string, token: string, body?: Uint8Array) =>
    registry.anonymous(path, {
      method,
      headers: { authorization: bearer(token), 'content-type': 'application/octet-stream' },
      ...(body === undefined ? {} : { body: new Uint8Array(body) }),
    })

  async function start(token: string): Promise<string> {
    const answer = await send('POST', '/v2/builds/late/blobs/uploads/', token)
    expect(answer.status).toBe(202)
    return answer.headers.get('location') ?? ''
  }

  it('is finished after it expired; the manifest requires a valid one', async () => {
    const claims = { subject: 'late', access: [entry] }
    const { token } = await mint.tokens.mint(claims, 2)
    const location = await start(token)
    await expect
      .poll(async () => (await send('GET', '/v2/', token)).status, { timeout: 10_000 })
      .toBe(401)
    expect((await send('PATCH', location, token, bytes.subarray(0, 400))).status).toBe(202)
    expect((await send('GET', location, token)).status).toBe(204)
    const closing = `${location}?digest=${digest}`
    expect((await send('PUT', closing, token, bytes.subarray(400))).status).toBe(201)
    const begun = await send('POST', '/v2/builds/late/blobs/uploads/', token)
    expect(begun.status).toBe(401)
    expect(begun.headers.get('www-authenticate')).toContain('error="invalid_token"')
    const manifest = Buffer.from(JSON.stringify(await pushImageBlobs(registry, 'builds/late')))
    expect((await send('PUT', '/v2/builds/late/manifests/v1', token, manifest)).status).toBe(401)
    // A token that expired before the upload began cannot finish it.
    const live = await mint.tokens.mint(claims, 60)
    const other = await start(live.token)
    const old = await mint.tokens.mint(claims, -10)
    expect((await send('PATCH', other, old.token, bytes)).status).toBe(404)
    expect((await send('PATCH', other, live.token, bytes)).status).toBe(202)
  })

  it('belongs to its repository and to its creator', async () => {
    const mine = (await mint.tokens.mint({ subject: 'one', access: [entry] }, 60)).token
    const theirs = (await mint.tokens.mint({ subject: 'two', access: [entry] }, 60)).token
    const location = await start(mine)
    expect((await send('PATCH', location, theirs, bytes)).status).toBe(404)
    expect((await send('DELETE', location, theirs)).status).toBe(404)
    const elsewhere = location.replace('builds/late', 'builds/other')
    const admin = basic('admin', registry.password)
    const answer = await registry.anonymous(elsewhere, { headers: { authorization: admin } })
    expect(answer.status).toBe(404)
    expect((await send('PATCH', location, mine, bytes)).status).toBe(202)
  })
})

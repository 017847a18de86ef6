import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { basic, bearer, claimsOf, makeCredential } from './credentials-client.ts'
import { grantedBy, requestToken, type TokenEndpointRequest } from './token-endpoint.ts'

let registry: TestRegistry
let builder: { name: string; secret: string }
/** Returns the parameters that a client reads from the challenge. */
let service: string

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_DEFAULT_VISIBILITY: 'private',
    ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
  })
  builder = await makeCredential(registry, {
    repositories: ['builds/**'],
    actions: ['pull', 'push'],
  })
  const challenge = (await registry.anonymous('/v2/')).headers.get('www-authenticate') ?? ''
  service = /service="([^"]+)"/.exec(challenge)?.[1] ?? ''
  expect(service).not.toBe('')
  for (const name of ['builds/from', 'open/image', 'closed/image']) {
    await pushImage(registry, name, 'v1')
  }
  await setVisibility('open/image', 'public')
})

afterAll(() => registry.close())

async function setVisibility(repository: string, visibility: string): Promise<void> {
  const { status } = await registry.request(`/api/v1/repositories/${repository}/settings`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ visibility }),
  })
  expect(status).toBe(200)
}

const ask = (asked: TokenEndpointRequest) => requestToken(registry, asked)
const asBuilder = () => basic(builder.name, builder.secret)

const MOUNT = 'repository:builds/from:pull'
const PULL_PUSH = { 'builds/a': 'pull,push' }
const MOUNTING = { 'builds/a': 'pull,push', 'builds/from': 'pull' }

type Client = [client: string, how: 'GET' | 'POST', asks: string, granted: Record<string, string>]

/** The requests in the sources of the clients. NAME, SECRET and SERVICE are replaced. */
const CLIENTS: Client[] = [
  ['docker login', 'GET', 'account=NAME&client_id=docker&offline_token=true&service=SERVICE', {}],
  [
    'docker push, with a mount',
    'GET',
    `account=NAME&scope=${MOUNT}&scope=repository:builds/a:push,pull&service=SERVICE`,
    MOUNTING,
  ],
  [
    'docker plugin push',
    'GET',
    'account=NAME&scope=repository(plugin):builds/a:pull,push&service=SERVICE',
    PULL_PUSH,
  ],
  [
    'distribution’s client, by OAuth 2',
    'POST',
    `scope=repository:builds/a:pull,push+${MOUNT}&service=SERVICE&client_id=registry-client&grant_type=password&username=NAME&password=SECRET&access_type=offline`,
    MOUNTING,
  ],
  [
    'containerd, by OAuth 2',
    'POST',
    'client_id=containerd-client&grant_type=password&username=NAME&password=SECRET&scope=repository:builds/a:pull,push&service=SERVICE',
    PULL_PUSH,
  ],
  [
    'containerd, falling back',
    'GET',
    `scope=repository:builds/a:pull,push&scope=${MOUNT}&service=SERVICE`,
    MOUNTING,
  ],
  ['crane', 'GET', `scope=repository:builds/a:push,pull&scope=${MOUNT}&service=SERVICE`, MOUNTING],
  [
    'crane, by OAuth 2',
    'POST',
    'scope=repository:builds/a:push,pull&service=SERVICE&client_id=go-containerregistry&grant_type=password&username=NAME&password=SECRET&access_type=offline',
    PULL_PUSH,
  ],
  [
    'skopeo and podman',
    'GET',
    `account=NAME&scope=repository:builds/a:pull,push&scope=${MOUNT}&service=SERVICE`,
    MOUNTING,
  ],
  ['skopeo delete', 'GET', 'account=NAME&scope=repository:builds/a:*&service=SERVICE', PULL_PUSH],
  ['oras', 'GET', 'service=SERVICE&scope=repository:builds/a:delete,pull,push', PULL_PUSH],
  [
    'oras, by OAuth 2',
    'POST',
    'grant_type=password&username=NAME&password=SECRET&service=SERVICE&client_id=oras-go&scope=repository:builds/a:pull,push',
    PULL_PUSH,
  ],
  [
    'regctl',
    'POST',
    'scope=repository:builds/a:pull,push+repository:builds/a:pull&service=SERVICE&client_id=regclient&grant_type=password&username=NAME&password=SECRET',
    PULL_PUSH,
  ],
  [
    'regctl, falling back',
    'GET',
    'client_id=regclient&offline_token=true&service=SERVICE&scope=repository:builds/a:pull,push',
    PULL_PUSH,
  ],
  ['a catalog of any client', 'GET', 'scope=registry:catalog:*&service=SERVICE', { catalog: '*' }],
  [
    'a client of another service',
    'GET',
    'service=registry.docker.io&scope=repository:builds/a:pull,push',
    PULL_PUSH,
  ],
]

function asked(how: 'GET' | 'POST', text: string, secret: string): TokenEndpointRequest {
  const filled = text
    .replace('NAME', builder.name)
    .replace('SECRET', secret)
    .replace('SERVICE', service)
  return how === 'POST'
    ? { form: filled }
    : { query: filled, authorization: basic(builder.name, secret) }
}

describe('a token is issued to', () => {
  it.each(CLIENTS)('%s, by %s', async (_client, how, text, granted) => {
    const { status, headers, body } = await ask(asked(how, text, builder.secret))
    expect({ status, errors: body.errors }).toEqual({ status: 200 })
    expect(headers.get('cache-control')).toBe('no-store')
    expect(body.token).toBe(body.access_token)
    expect(body).toMatchObject({ token_type: 'Bearer', expires_in: 900 })
    expect(Math.abs(Date.now() - Date.parse(body.issued_at))).toBeLessThan(10_000)
    expect(grantedBy(body)).toEqual(granted)
    expect('refresh_token' in body).toBe(/offline/.test(text))
    const authorization = { authorization: bearer(body.token) }
    expect((await registry.anonymous('/v2/', { headers: authorization })).status).toBe(200)
    const push = { method: 'POST', headers: authorization }
    const started = await registry.anonymous('/v2/builds/a/blobs/uploads/', push)
    expect(started.status).toBe('builds/a' in granted ? 202 : 401)
  })

  it.each(CLIENTS)('nobody with a wrong secret: %s, by %s', async (client, how, text) => {
    const from = `192.0.2.${CLIENTS.findIndex(([name]) => name === client) + 1}`
    const { status, headers, body } = await ask({ ...asked(how, text, 'wrong'), from })
    expect(status).toBe(401)
    expect(body.errors).toMatchObject([{ code: 'UNAUTHORIZED' }])
    expect(JSON.stringify(body)).not.toMatch(/eyJ|rk[yr]_/)
    if (how === 'GET') expect(headers.get('www-authenticate')).toMatch(/^Basic /)
    else expect(body.error).toBe('invalid_grant')
  })
})

describe('without a credential', () => {
  const forPull = (name: string, authorization?: string) =>
    ask({
      query: `service=${service}&scope=repository:${name}:pull`,
      authorization,
    })

  it.each([
    ['no header', undefined],
    ['an empty user and password', basic('', '')],
  ])(
    'a token with %s does not distinguish private repositories from missing ones',
    async (_what, authorization) => {
      const hidden = await forPull('closed/image', authorization)
      const absent = await forPull('closed/absent', authorization)
      for (const { status, body } of [hidden, absent]) {
        expect(status).toBe(200)
        expect(body).toMatchObject({ scope: '', expires_in: 900 })
        expect(claimsOf(body.token)).toMatchObject({ sub: '', access: [] })
      }
      const shapeOf = ({ body }: typeof hidden) => ({
        keys: Object.keys(body),
        length: body.token.length,
        claims: Object.keys(claimsOf(body.token)),
      })
      expect(shapeOf(hidden)).toEqual(shapeOf(absent))
      expect((await forPull('open/image', authorization)).body.scope).toBe(
        'repository:open/image:pull',
      )
    },
  )

  it('there is no refresh token', async () => {
    const { body } = await ask({ query: 'offline_token=true' })
    expect(body).not.toHaveProperty('refresh_token')
  })
})

describe('access to a public repository', () => {
  it('ends when it becomes private, for every issued token', async () => {
    await pushImage(registry, 'seen/x', 'v1')
    await setVisibility('seen/x', 'public')
    const query = 'scope=repository:seen/x:pull,push'
    const anybody = await ask({ query })
    const somebody = await ask({ query, authorization: asBuilder() })
    const pull = async ({ body }: typeof anybody) => {
      const headers = { authorization: bearer(body.token) }
      const answer = await registry.anonymous('/v2/seen/x/manifests/v1', { headers })
      return answer.status
    }
    for (const answer of [anybody, somebody]) {
      expect(answer.body.scope).toBe('repository:seen/x:pull')
      expect(await pull(answer)).toBe(200)
    }
    await setVisibility('seen/x', 'private')
    for (const answer of [anybody, somebody]) {
      expect(await pull(answer)).toBe(401)
      const again = await ask({ query, authorization: bearer(answer.body.token) })
      expect(again.body.scope).toBe('')
    }
    const mount = await registry.anonymous(
      `/v2/builds/a/blobs/uploads/?mount=sha256:${'0'.repeat(64)}&from=seen/x`,
      { method: 'POST', headers: { authorization: asBuilder() } },
    )
    expect(mount.status).toBe(202)
  })
})

import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { basic, bearer, claimsOf, makeCredential, sql } from './credentials-client.ts'
import { grantedBy, requestToken, type TokenEndpointRequest } from './token-endpoint.ts'

let registry: TestRegistry
let builder: { name: string; secret: string }

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_TRUSTED_PROXIES: '127.0.0.1' })
  builder = await makeCredential(registry, {
    repositories: ['builds/**'],
    actions: ['pull', 'push'],
  })
})

afterAll(() => registry.close())

const ask = (asked: TokenEndpointRequest) => requestToken(registry, asked)
const asBuilder = () => basic(builder.name, builder.secret)
const PUSH = 'repository:builds/a:pull,push'
const PULL_PUSH = { 'builds/a': 'pull,push' }

describe('a refresh token', () => {
  const refresh = (
    token: string | undefined,
    more: Omit<TokenEndpointRequest, 'form'> = {},
    scope = PUSH,
  ) =>
    ask({
      form: [
        ['grant_type', 'refresh_token'],
        ['service', 'x'],
        ['client_id', 'containerd-client'],
        ['scope', scope],
        ['refresh_token', token ?? ''],
      ],
      ...more,
    })

  async function give(credential: { name: string; secret: string }, from = '127.0.0.1') {
    const { body } = await ask({
      query: 'offline_token=true',
      authorization: basic(credential.name, credential.secret),
      from,
    })
    expect(body.refresh_token).toMatch(/^rkr_/)
    return body.refresh_token ?? ''
  }

  it('needs no Authorization header, and ignores it', async () => {
    const token = await give(builder)
    for (const authorization of [undefined, asBuilder(), basic('admin', 'wrong')]) {
      const { status, body } = await refresh(token, { authorization })
      expect(status).toBe(200)
      expect(grantedBy(body)).toEqual(PULL_PUSH)
      expect(claimsOf(body.token)).toMatchObject({ sub: builder.name })
    }
  })

  it('has the rights of its credential, and no more', async () => {
    const { body } = await refresh(await give(builder), {}, 'repository:closed/image:pull,delete')
    expect(grantedBy(body)).toEqual({})
    expect((await refresh(await give(builder), {}, 'registry:admin:*')).body.scope).toBe('')
  })

  it('is not issued for the password of the environment, or for a token', async () => {
    const admin = basic('admin', registry.password)
    const first = await ask({ query: 'offline_token=true', authorization: admin })
    expect(first.body).not.toHaveProperty('refresh_token')
    const { body } = await ask({ authorization: asBuilder() })
    const second = await ask({
      query: 'offline_token=true',
      authorization: bearer(body.token),
    })
    expect(second.body).not.toHaveProperty('refresh_token')
  })

  it('expires after a month, and never later than its credential', async () => {
    const ends = async (token: string) => {
      const [row] = await sql<{ seconds: number }>(
        registry,
        `select extract(epoch from expires_at - now())::int as seconds
           from refresh_tokens
          where secret_sha256 = $1`,
        [createHash('sha256').update(token).digest()],
      )
      return row?.seconds ?? 0
    }
    expect(await ends(await give(builder))).toBeGreaterThan(29 * 86_400)
    const brief = await makeCredential(registry, {
      repositories: ['builds/**'],
      actions: ['pull'],
      expiresAt: new Date(Date.now() + 60_000).toISOString(),
    })
    const token = await give(brief)
    expect(await ends(token)).toBeLessThanOrEqual(60)
    const { body } = await refresh(token)
    expect(body.expires_in).toBeLessThanOrEqual(60)
    await sql(registry, `update refresh_tokens set expires_at = now()`)
    expect((await refresh(token, { from: '192.0.2.8' })).status).toBe(401)
  })

  it('works only in the networks of its credential, and so do its tokens', async () => {
    const bound = await makeCredential(registry, {
      repositories: ['builds/**'],
      actions: ['pull', 'push'],
      networks: ['10.0.0.0/8'],
    })
    const token = await give(bound, '10.1.1.1')
    const { status, body } = await refresh(token, { from: '10.9.9.9' })
    expect(status).toBe(200)
    expect((await refresh(token)).status).toBe(401)
    const at = async (from: string) => {
      const headers = { authorization: bearer(body.token), 'x-forwarded-for': from }
      return (await registry.anonymous('/v2/', { headers })).status
    }
    expect([await at('10.1.1.1'), await at('127.0.0.1')]).toEqual([200, 401])
  })
})

it('a credential with unreadable networks works nowhere', async () => {
  const bound = await makeCredential(registry, {
    repositories: ['builds/**'],
    actions: ['pull'],
    networks: ['127.0.0.0/8'],
  })
  const authorization = basic(bound.name, bound.secret)
  await sql(registry, `update credentials set networks = '{nonsense}' where name = $1`, [
    bound.name,
  ])
  expect((await registry.anonymous('/v2/', { headers: { authorization } })).status).toBe(401)
})

import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generateSecret } from '../../src/auth/secrets.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { basic, bearer, claimsOf, makeCredential, sql } from './credentials-client.ts'
import {
  grantedBy,
  requestToken,
  type TokenEndpointRequest,
  type TokenEndpointResponse,
} from './token-endpoint.ts'

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

  it('lives for half a year after its last use, and never longer than its credential', async () => {
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
    expect(await ends(await give(builder))).toBeGreaterThan(179 * 86_400)
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

  it('is prolonged by its use, with at most one write a day', async () => {
    const token = await give(builder)
    const row = async () => {
      const [found] = await sql<{ seconds: number; version: string }>(
        registry,
        `select extract(epoch from expires_at - now())::int as seconds, xmin::text as version
           from refresh_tokens
          where secret_sha256 = $1`,
        [createHash('sha256').update(token).digest()],
      )
      return found
    }
    await sql(registry, `update refresh_tokens set expires_at = now() + interval '2 days'`)
    expect((await refresh(token)).status).toBe(200)
    await expect.poll(async () => (await row())?.seconds).toBeGreaterThan(179 * 86_400)
    const { version } = (await row()) ?? {}
    for (let use = 0; use < 5; use += 1) expect((await refresh(token)).status).toBe(200)
    expect((await row())?.version).toBe(version)
  })

  it('that is used every day is kept when a credential logs in very often', async () => {
    const busy = await makeCredential(registry, { repositories: ['builds/**'], actions: ['pull'] })
    const token = await give(busy)
    await sql(
      registry,
      `insert into refresh_tokens (secret_sha256, credential_id, expires_at, used_at)
       select sha256(n::text::bytea), credential_id, expires_at, now() - interval '2 days'
         from refresh_tokens, generate_series(1, 1000) as n
        where secret_sha256 = $1`,
      [createHash('sha256').update(token).digest()],
    )
    await sql(
      registry,
      `update refresh_tokens set used_at = now() - interval '3 days' where secret_sha256 = $1`,
      [createHash('sha256').update(token).digest()],
    )
    expect((await refresh(token)).status).toBe(200)
    const used = `select used_at > now() - interval '1 day' as recent from refresh_tokens
                   where secret_sha256 = $1`
    const digest = createHash('sha256').update(token).digest()
    await expect
      .poll(async () => (await sql<{ recent: boolean }>(registry, used, [digest]))[0]?.recent)
      .toBe(true)
    await give(busy)
    expect((await refresh(token)).status).toBe(200)
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

describe('a login that has ended', () => {
  const host = () => new URL(registry.url).host
  const refresh = async (token: string, scope?: string) => {
    const fields: [string, string][] = [
      ['grant_type', 'refresh_token'],
      ['service', 'x'],
      ['refresh_token', token],
    ]
    return ask({ form: scope === undefined ? fields : [...fields, ['scope', scope]] })
  }
  const messageOf = ({ body }: { body: TokenEndpointResponse }) => body.errors?.[0]?.message

  const dead: Record<string, () => Promise<string>> = {
    'an expired refresh token': async () => {
      const token = await loginOf(builder)
      await sql(registry, `update refresh_tokens set expires_at = now() where secret_sha256 = $1`, [
        createHash('sha256').update(token).digest(),
      ])
      return token
    },
    'the refresh token of a revoked credential': async () => {
      const gone = await makeCredential(registry, { repositories: ['a/**'], actions: ['pull'] })
      const token = await loginOf(gone)
      expect((await refresh(token)).status).toBe(200)
      await registry.request(`/api/v1/credentials/${gone.name}`, { method: 'DELETE' })
      return token
    },
    'the refresh token of an expired credential': async () => {
      const gone = await makeCredential(registry, { repositories: ['a/**'], actions: ['pull'] })
      const token = await loginOf(gone)
      await sql(registry, `update credentials set expires_at = now() where name = $1`, [gone.name])
      return token
    },
    'a refresh token that is unknown': async () => generateSecret('refresh'),
    'a text that is no refresh token': async () => 'x',
  }

  async function loginOf({ name, secret }: { name: string; secret: string }): Promise<string> {
    const { body } = await ask({ query: 'offline_token=true', authorization: basic(name, secret) })
    return body.refresh_token ?? ''
  }

  beforeAll(async () => {
    await pushImage(registry, 'open/image', 'v1')
    await pushImage(registry, 'closed/image', 'v1')
    const { status } = await registry.request('/api/v1/repositories/closed/image/settings', {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ visibility: 'private' }),
    })
    expect(status).toBe(200)
  })

  it.each(Object.keys(dead))('still pulls what is public: %s', async (kind) => {
    const token = await dead[kind]?.()
    const { status, body } = await refresh(token ?? '', 'repository:open/image:pull')
    expect(status).toBe(200)
    expect(claimsOf(body.token)).toMatchObject({ sub: '' })
    expect(body).not.toHaveProperty('refresh_token')
    const headers = { authorization: bearer(body.token) }
    const pulled = await registry.anonymous('/v2/open/image/manifests/v1', { headers })
    expect(pulled.status).toBe(200)
  })

  it.each(Object.keys(dead))('otherwise says where to log in again: %s', async (kind) => {
    const token = (await dead[kind]?.()) ?? ''
    for (const scope of [
      undefined,
      'repository:open/image:pull,push',
      'repository:closed/image:pull',
      'repository:absent/image:pull',
      'repository:open/image:pull repository:closed/image:pull',
      'registry:catalog:*',
      'nonsense',
    ]) {
      const answer = await refresh(token, scope)
      expect([scope, answer.status, answer.body.error]).toEqual([scope, 401, 'invalid_grant'])
      expect(messageOf(answer)).toMatch(new RegExp(`: log in to ${host()} again$`))
    }
  })

  it('a wrong, expired or revoked password says so, also for what is public', async () => {
    const gone = await makeCredential(registry, { repositories: ['a/**'], actions: ['pull'] })
    await registry.request(`/api/v1/credentials/${gone.name}`, { method: 'DELETE' })
    const late = await makeCredential(registry, { repositories: ['a/**'], actions: ['pull'] })
    await sql(registry, `update credentials set expires_at = now() where name = $1`, [late.name])
    for (const [user, password] of [
      [builder.name, 'an old password'],
      [gone.name, gone.secret],
      [late.name, late.secret],
    ] as const) {
      const authorization = basic(user, password)
      const answers = [
        await ask({ query: 'scope=repository:open/image:pull', authorization }),
        await ask({ form: { grant_type: 'password', username: user, password } }),
      ]
      for (const path of ['/v2/', '/v2/open/image/manifests/v1', '/api/v1/credentials']) {
        const answer = await registry.anonymous(path, { headers: { authorization } })
        const body = (await answer.json()) as TokenEndpointResponse
        answers.push({ status: answer.status, headers: answer.headers, body })
      }
      for (const answer of answers) {
        expect(answer.status).toBe(401)
        expect(messageOf(answer)).toMatch(new RegExp(`: log in to ${host()} again$`))
      }
    }
  })

  it('is refused in the same words as a password, as containerd sends it again', async () => {
    const words: Record<string, string> = {
      'an expired refresh token': 'the refresh token has expired',
      'the refresh token of a revoked credential': 'the credential was revoked',
      'the refresh token of an expired credential': 'the credential or token has expired',
    }
    for (const [kind, text] of Object.entries(words)) {
      const authorization = basic(builder.name, (await dead[kind]?.()) ?? '')
      const answer = await ask({ query: 'scope=repository:open/image:pull,push', authorization })
      expect([kind, answer.status]).toEqual([kind, 401])
      expect(messageOf(answer)).toBe(`${text}: log in to ${host()} again`)
    }
  })

  it('is no guess of a password: many such machines behind one address lock nobody out', async () => {
    const from = '192.0.2.77'
    const tokens = Array.from({ length: 210 }, () => generateSecret('refresh'))
    await sql(
      registry,
      `insert into refresh_tokens (secret_sha256, credential_id, expires_at)
       select sha256(token::bytea), credentials.id, now()
         from unnest($1::text[]) as token, credentials
        where credentials.name = $2`,
      [tokens, builder.name],
    )
    for (const token of tokens) {
      const authorization = basic(builder.name, token)
      expect((await ask({ query: 'service=x', authorization, from })).status).toBe(401)
    }
    const admin = basic('admin', registry.password)
    expect((await ask({ authorization: admin, from })).status).toBe(200)
    expect((await ask({ authorization: asBuilder(), from })).status).toBe(200)
  })

  it('but a refresh token that is valid is no password', async () => {
    const authorization = basic(builder.name, await loginOf(builder))
    const answer = await ask({ query: 'service=x', authorization })
    expect(answer.status).toBe(401)
    expect(messageOf(answer)).toContain('POST it with grant_type=refresh_token')
  })

  it('names the public address of the registry', async () => {
    const elsewhere = await startRegistry({ ROOKERY_PUBLIC_URL: 'https://registry.example.org' })
    try {
      const headers = { authorization: basic('admin', 'wrong') }
      const answer = await elsewhere.anonymous('/v2/', { headers })
      expect(await answer.text()).toContain('log in to registry.example.org again')
    } finally {
      await elsewhere.close()
    }
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

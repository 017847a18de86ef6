import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { Authenticator } from '../../src/auth/authenticator.ts'
import { LoginThrottle } from '../../src/auth/login-throttle.ts'
import { openMasterKey } from '../../src/auth/master-key.ts'
import { RevocationList } from '../../src/auth/revocations.ts'
import { generateSecret, hashSecret } from '../../src/auth/secrets.ts'
import { rotateSigningKeys } from '../../src/auth/signing-keys.ts'
import { OPERATOR } from '../../src/cli/server/operator.ts'
import { parseConfig } from '../../src/config/config.ts'
import { Database, type Queryable } from '../../src/db/database.ts'
import { createLog } from '../../src/server/log.ts'
import { type RunningServer, startServer } from '../../src/server/server.ts'
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

const EVERYWHERE_MILLISECONDS_MAX = 5_000

describe('on every replica', () => {
  let registry: TestRegistry
  let second: RunningServer

  beforeAll(async () => {
    registry = await startRegistry()
    second = await startServer(parseConfig(registry.settings), createLog('silent'), () => {})
  })

  afterAll(async () => {
    await second.close()
    await registry.close()
  })

  const statusAt = async (url: string, authorization: string, path = '/v2/', method = 'GET') =>
    (await fetch(new URL(path, url), { method, headers: { authorization } })).status

  const builder = () =>
    makeCredential(registry, { repositories: ['a/**'], actions: ['pull', 'push'] })

  /** Accepted by both replicas, and then refused by both. */
  async function expectEnd(authorizations: string[], end: () => Promise<unknown>): Promise<void> {
    for (const authorization of authorizations) {
      for (const url of [registry.url, second.url]) {
        expect(await statusAt(url, authorization)).toBe(200)
      }
    }
    await end()
    for (const authorization of authorizations) {
      expect(await statusAt(registry.url, authorization)).toBe(401)
      await expect
        .poll(() => statusAt(second.url, authorization), { timeout: EVERYWHERE_MILLISECONDS_MAX })
        .toBe(401)
    }
  }

  it('a revoked credential ends within seconds, with all its tokens and uploads', async () => {
    const { name, secret } = await builder()
    const authorization = basic(name, secret)
    const token = await requestToken(registry, authorization, 'repository:a/b:pull,push')
    const began = await fetch(new URL('/v2/a/b/blobs/uploads/', second.url), {
      method: 'POST',
      headers: { authorization: bearer(token) },
    })
    expect(began.status).toBe(202)
    const location = began.headers.get('location') ?? ''
    const tokens = [bearer(token), basic('token', token), bearer(secret)]
    await expectEnd([authorization, ...tokens], () =>
      registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' }),
    )
    for (const method of ['GET', 'PATCH', 'DELETE']) {
      expect(await statusAt(second.url, bearer(token), location, method)).toBe(401)
    }
  })

  it('a revoked token ends alone', async () => {
    const { name, secret } = await builder()
    const one = await requestToken(registry, basic(name, secret))
    const other = await requestToken(registry, basic(name, secret))
    await expectEnd([bearer(one)], () =>
      registry.request(`/api/v1/tokens/${claimsOf(one).jti}`, { method: 'DELETE' }),
    )
    for (const url of [registry.url, second.url]) {
      expect(await statusAt(url, bearer(other))).toBe(200)
      expect(await statusAt(url, basic(name, secret))).toBe(200)
    }
  })

  it('a revoked token ends with all tokens that were requested with it, and their uploads', async () => {
    const { name, secret } = await builder()
    const scope = 'repository:a/f:pull,push'
    const parent = await requestToken(registry, basic(name, secret), scope)
    const child = await requestToken(registry, bearer(parent), scope)
    const grandchild = await requestToken(registry, basic('token', child), scope)
    const began = await fetch(new URL('/v2/a/f/blobs/uploads/', second.url), {
      method: 'POST',
      headers: { authorization: bearer(grandchild) },
    })
    const location = began.headers.get('location') ?? ''
    await expectEnd([bearer(parent), bearer(child), basic('token', grandchild)], () =>
      registry.request(`/api/v1/tokens/${claimsOf(parent).jti}`, { method: 'DELETE' }),
    )
    expect(await statusAt(second.url, bearer(grandchild), location)).toBe(401)
    expect(await statusAt(second.url, basic(name, secret))).toBe(200)
  })

  it('a refresh token ends with its credential', async () => {
    const { name, secret } = await builder()
    const headers = { authorization: basic(name, secret) }
    const given = await fetch(new URL('/token?offline_token=true', second.url), { headers })
    const { refresh_token: refresh } = (await given.json()) as { refresh_token: string }
    const renew = async (url: string) => {
      const body = new URLSearchParams({ grant_type: 'refresh_token', refresh_token: refresh })
      return (await fetch(new URL('/token', url), { method: 'POST', body })).status
    }
    expect([await renew(registry.url), await renew(second.url)]).toEqual([200, 200])
    await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
    expect([await renew(registry.url), await renew(second.url)]).toEqual([401, 401])
  })

  describe('keys are rotated while all replicas run', () => {
    const kidOf = (token: string) =>
      JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()).kid as string
    const admin = () => basic('admin', registry.password)

    async function rotate(atOnce: boolean): Promise<string> {
      const db = new Database({
        connection: registry.databaseUrl,
        connectionsMax: 1,
        onIdleError: () => {},
      })
      const masterKey = await openMasterKey(join(registry.folder, 'master-key'), false)
      const kid = await rotateSigningKeys(db, masterKey, 'EdDSA', atOnce, OPERATOR)
      await db.close()
      return kid
    }

    const publishedAt = async (url: string) => {
      const answer = await fetch(new URL('/.well-known/jwks.json', url))
      return ((await answer.json()) as { keys: { kid: string }[] }).keys.map(({ kid }) => kid)
    }

    it('and tokens of the previous key stay trusted', async () => {
      const before = await requestToken(registry, admin())
      const kid = await rotate(false)
      for (const url of [registry.url, second.url]) {
        await expect
          .poll(() => publishedAt(url), { timeout: EVERYWHERE_MILLISECONDS_MAX })
          .toEqual([kidOf(before), kid])
      }
      // Not yet: caches of the published keys must expire first.
      expect(kidOf(await requestToken(registry, admin()))).toBe(kidOf(before))
      await sql(registry, `update signing_keys set retired_at = now() where retired_at is not null`)
      await sql(registry, `update signing_keys set active_at = now() where kid = $1`, [kid])
      await expect
        .poll(async () => kidOf(await requestToken(registry, admin())), {
          timeout: EVERYWHERE_MILLISECONDS_MAX,
        })
        .toBe(kid)
      const after = await requestToken(registry, admin())
      for (const url of [registry.url, second.url]) {
        expect(await statusAt(url, bearer(before))).toBe(200)
        expect(await statusAt(url, bearer(after))).toBe(200)
      }
    })

    it('at once, and no earlier token is trusted anywhere', async () => {
      const before = await requestToken(registry, admin())
      for (const url of [registry.url, second.url]) {
        expect(await statusAt(url, bearer(before))).toBe(200)
      }
      const kid = await rotate(true)
      for (const url of [registry.url, second.url]) {
        await expect
          .poll(() => statusAt(url, bearer(before)), { timeout: EVERYWHERE_MILLISECONDS_MAX })
          .toBe(401)
        expect(await publishedAt(url)).toEqual([kid])
      }
      const after = await requestToken(registry, admin())
      expect(await statusAt(second.url, bearer(after))).toBe(200)
    })
  })

  it('revocations also apply to a process that starts later', async () => {
    const { name, secret } = await builder()
    const token = await requestToken(registry, basic(name, secret))
    await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
    const third = await startServer(parseConfig(registry.settings), createLog('silent'), () => {})
    expect(await statusAt(third.url, bearer(token))).toBe(401)
    expect(await statusAt(third.url, basic(name, secret))).toBe(401)
    await third.close()
  })

  it('a credential stays revoked after its revocation was removed from the list', async () => {
    const { name, secret } = await builder()
    await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
    const [row] = await sql<{ id: number }>(
      registry,
      `delete from revocations
        using credentials
        where subject = 'credential:' || credentials.id
          and name = $1
       returning credentials.id`,
      [name],
    )
    // A refresh token that was written while the credential was revoked.
    const refresh = generateSecret('refresh')
    await sql(
      registry,
      `insert into refresh_tokens (secret_sha256, credential_id, expires_at)
       values ($1, $2, now() + interval '1 day')`,
      [hashSecret(refresh), row?.id],
    )
    const third = await startServer(parseConfig(registry.settings), createLog('silent'), () => {})
    expect(await statusAt(third.url, basic(name, secret))).toBe(401)
    expect(await statusAt(third.url, bearer(secret))).toBe(401)
    const body = new URLSearchParams({ grant_type: 'refresh_token', refresh_token: refresh })
    expect((await fetch(new URL('/token', third.url), { method: 'POST', body })).status).toBe(401)
    await third.close()
  })

  it('each replica accepts the tokens of the other', async () => {
    const { name, secret } = await builder()
    const token = await requestToken(registry, basic(name, secret), 'repository:a/c:push')
    const path = '/v2/a/c/blobs/uploads/'
    expect(await statusAt(second.url, bearer(token), path, 'POST')).toBe(202)
  })
})

describe('a list of revocations', () => {
  afterEach(() => {
    vi.useRealTimers()
  })

  /** A database with one revocation, which tests can break. */
  function openList() {
    let broken = false
    let asked = 0
    const db: Queryable = {
      async query<Row>() {
        asked += 1
        if (broken) throw new Error('the database is away')
        const expiresAt = new Date(Date.now() + 3_600_000)
        return { rows: [{ subject: 'token:known', expiresAt }] as Row[] }
      },
    }
    const list = new RevocationList(db)
    return {
      list,
      breakDown: () => {
        broken = true
      },
      repair: () => {
        broken = false
      },
      asked: () => asked,
    }
  }

  it('that is older than a minute is not used, and all callers are refused', async () => {
    vi.useFakeTimers()
    const { list, breakDown, repair } = openList()
    await list.refresh()
    expect(list.hasWithoutRefresh(['token:known'])).toBe(true)
    expect(list.hasWithoutRefresh(['token:other'])).toBe(false)
    breakDown()
    vi.advanceTimersByTime(59_000)
    expect(list.hasWithoutRefresh(['token:other'])).toBe(false)
    vi.advanceTimersByTime(2_000)
    expect(list.hasWithoutRefresh(['token:other'])).toBeUndefined()
    await expect(list.has(['token:other'])).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      data: { retryAfterSeconds: expect.any(Number) },
    })
    repair()
    expect(await list.has(['token:other'])).toBe(false)
    expect(await list.has(['token:known'])).toBe(true)
  })

  it('is read once for concurrent calls', async () => {
    const { list, asked } = openList()
    const answers = await Promise.all(Array.from({ length: 50 }, () => list.has(['token:known'])))
    expect(new Set(answers)).toEqual(new Set([true]))
    expect(asked()).toBe(1)
  })
})

describe('while the database is away', () => {
  let registry: TestRegistry

  beforeAll(async () => {
    registry = await startRegistry()
  })

  afterAll(() => registry.close())

  afterEach(() => {
    vi.useRealTimers()
  })

  it('cached callers are accepted for a minute; then all that can be revoked are refused', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    const mint = await openTokenMinter(registry)
    let away = false
    const db: Queryable = {
      async query<Row>() {
        if (away) throw new Error('the database is away')
        return { rows: [] as Row[] }
      },
    }
    const revocations = new RevocationList(db)
    await revocations.refresh()
    const authenticator = new Authenticator({
      db: mint.db,
      tokens: mint.tokens,
      revocations,
      loginThrottle: new LoginThrottle(),
      adminPasswordSha256: hashSecret('password'),
    })
    const { token } = await mint.tokens.mint({ subject: 'somebody', access: [] }, 600)
    const { name, secret } = await makeCredential(registry, {
      repositories: ['**'],
      actions: ['pull'],
    })
    const headers = [bearer(token), basic('token', token), basic(name, secret)]
    const ask = (header: string | undefined) => authenticator.authenticate(header, '127.0.0.1')
    for (const header of headers) await ask(header)
    away = true
    vi.advanceTimersByTime(59_000)
    for (const header of headers) expect((await ask(header)).caller.kind).toBe('holder')
    vi.advanceTimersByTime(2_000)
    for (const header of headers) {
      await expect(ask(header)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    }
    // Neither can be revoked, so neither needs the database.
    expect((await ask(undefined)).caller.kind).toBe('anonymous')
    expect((await ask(basic('admin', 'password'))).caller.kind).toBe('admin')
    await mint.close()
  })

  it('a text that cannot be a secret is refused without a query', async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['**'],
      actions: ['pull'],
    })
    const statusOf = async (text: string) => {
      const headers = { authorization: basic(name, text) }
      return (await registry.anonymous('/v2/', { headers })).status
    }
    await sql(registry, 'alter table credentials rename to credentials_away')
    const mistyped = secret.replace(/.$/, (last) => (last === '0' ? '1' : '0'))
    for (const text of [mistyped, `rky_${'a'.repeat(43)}_00000000`, 'password', '']) {
      expect(await statusOf(text)).toBe(401)
    }
    expect(await statusOf(secret)).toBe(500)
    await sql(registry, 'alter table credentials_away rename to credentials')
    expect(await statusOf(secret)).toBe(200)
  })
})

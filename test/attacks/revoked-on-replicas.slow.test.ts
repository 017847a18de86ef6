import { createHash, randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { openMasterKey } from '../../src/auth/master-key.ts'
import { rotateSigningKeys } from '../../src/auth/signing-keys.ts'
import { OPERATOR } from '../../src/cli/server/operator.ts'
import { parseConfig } from '../../src/config/config.ts'
import { Database } from '../../src/db/database.ts'
import { claimUpload, UPLOAD_LEASE_SECONDS } from '../../src/db/registry/upload-leases.ts'
import { parseRepository } from '../../src/oci/reference.ts'
import { Lease } from '../../src/registry/uploads/lease.ts'
import { createLog } from '../../src/server/log.ts'
import { type RunningServer, startServer } from '../../src/server/server.ts'
import {
  basic,
  bearer,
  claimsOf,
  makeCredential,
  openTokenMinter,
  requestToken,
  sql,
} from '../auth/credentials-client.ts'
import { openStream, subjects, waitForBlocks } from '../feed/event-stream-client.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const SCOPE = 'repository:far/a:pull,push'
const STREAM_END_MILLISECONDS_MAX = 15_000
const digestOf = (bytes: string) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

let here: TestRegistry
/** Another replica. Nothing is revoked there, and everything is attempted there. */
let there: RunningServer

beforeAll(async () => {
  here = await startRegistry()
  there = await startServer(parseConfig(here.settings), createLog('silent'), () => {})
})
afterAll(async () => {
  await there.close()
  await here.close()
})

type Right = { readonly authorization: string; end(): Promise<unknown> }

async function expectStatus(answer: Promise<Response>, status: number): Promise<void> {
  expect((await answer).status).toBe(status)
}

const remove = (path: string) => () => expectStatus(here.request(path, { method: 'DELETE' }), 204)

async function newCredential() {
  const { name, secret } = await makeCredential(here, {
    repositories: ['far/**'],
    actions: ['pull', 'push'],
  })
  return { name, authorization: basic(name, secret) }
}

/** A token of a trust policy, as its exchange issues it. */
async function newPolicyToken(): Promise<Right> {
  const name = `ci-${randomUUID().slice(0, 8)}`
  const body = JSON.stringify({
    name,
    issuer: 'https://ci.example.org',
    audience: 'rookery',
    conditions: { sub: 'repo:acme/kernel:main' },
    repositories: ['far/**'],
    actions: ['push'],
  })
  const headers = { 'content-type': 'application/json' }
  await expectStatus(here.request('/api/v1/policies', { method: 'POST', headers, body }), 201)
  const [row] = await sql<{ id: string }>(here, 'select id from trust_policies where name = $1', [
    name,
  ])
  const minter = await openTokenMinter(here)
  const access = [{ type: 'repository', name: 'far/a', actions: ['pull', 'push'] }] as const
  const { token } = await minter.tokens.mint(
    { subject: 'repo:acme/kernel:main', origin: `policy:${row?.id}`, access: [...access] },
    300,
  )
  await minter.close()
  return { authorization: bearer(token), end: remove(`/api/v1/policies/${name}`) }
}

async function withDatabase<T>(work: (db: Database) => Promise<T>): Promise<T> {
  const connection = here.databaseUrl
  const db = new Database({ connection, connectionsMax: 2, onIdleError: () => {} })
  return work(db).finally(() => db.close())
}

/** As `rookery key rotate --now` does. */
async function rotateKeys(): Promise<void> {
  const masterKey = await openMasterKey(join(here.folder, 'master-key'), false)
  await withDatabase((db) => rotateSigningKeys(db, masterKey, 'ES256', true, OPERATOR))
}

const RIGHTS: Record<string, () => Promise<Right>> = {
  'its credential': async () => {
    const { name, authorization } = await newCredential()
    return { authorization, end: remove(`/api/v1/credentials/${name}`) }
  },
  'the credential of its token': async () => {
    const { name, authorization } = await newCredential()
    const token = await requestToken(here, authorization, SCOPE)
    return { authorization: bearer(token), end: remove(`/api/v1/credentials/${name}`) }
  },
  'its token': async () => {
    const { authorization } = await newCredential()
    const token = await requestToken(here, authorization, SCOPE)
    return {
      authorization: bearer(token),
      end: remove(`/api/v1/tokens/${claimsOf(token).jti}`),
    }
  },
  'the trust policy of its token': newPolicyToken,
  'the key that signed its token': async () => {
    const { authorization } = await newCredential()
    const token = await requestToken(here, authorization, SCOPE)
    return { authorization: bearer(token), end: rotateKeys }
  },
}

/** A body of two parts; `between` runs after the first. */
function held(between: () => Promise<unknown>): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async start(controller) {
      controller.enqueue(Buffer.from('first '))
      await new Promise((resolve) => setTimeout(resolve, 100))
      await between()
      controller.enqueue(Buffer.from('last'))
      controller.close()
    },
  })
}

const at = (path: string, init: RequestInit) => fetch(new URL(path, there.url), init)

describe('a caller of another replica loses', () => {
  it.each(Object.entries(RIGHTS))(
    '%s while it pushes: the push is refused, and its streams and upload URLs end',
    async (_what, make) => {
      const { authorization, end } = await make()
      const events = await at('/api/v1/events', {
        headers: { authorization, accept: 'text/event-stream' },
      })
      expect(events.status).toBe(200)
      const created = await at('/api/v1/repositories/far/a/tags/v1/upload-urls', {
        method: 'POST',
        headers: { authorization },
      })
      const { url } = (await created.json()) as { url: string }
      const type = 'application/octet-stream'
      const pushed = await at(`/v2/far/a/blobs/uploads/?digest=${digestOf('first last')}`, {
        method: 'POST',
        headers: { authorization, 'content-type': type },
        body: held(end),
        duplex: 'half',
      } as RequestInit)
      expect(pushed.status).toBe(401)
      const blob = `select 1 from blobs where digest = $1`
      expect(await sql(here, blob, [digestOf('first last')])).toEqual([])
      const used = await at(new URL(url).pathname, { method: 'PUT', body: 'a kernel' })
      expect(used.status).toBe(410)
      const from = Date.now()
      for await (const _ of events.body ?? []) {
        // Read to its end.
      }
      expect(Date.now() - from).toBeLessThan(STREAM_END_MILLISECONDS_MAX)
      await expectStatus(at('/v2/', { headers: { authorization } }), 401)
    },
    30_000,
  )
})

it('strangers of another replica get no event of a repository that becomes private', async () => {
  const [repository, other] = [newRepository(), newRepository()]
  await pushImage(here, repository, 'v1')
  const elsewhere = await makeCredential(here, { repositories: ['x'], actions: ['pull'] })
  const login = basic(elsewhere.name, elsewhere.secret)
  const token = await requestToken(here, login, `repository:${repository}:pull`)
  const anonymous = await requestToken(here, undefined, `repository:${repository}:pull`)
  const streams = await Promise.all(
    [{}, login, bearer(token), bearer(anonymous)].map((one) =>
      openStream(
        there.url,
        `?repository=${repository}&repository=${other}`,
        typeof one === 'string' ? { authorization: one } : {},
      ),
    ),
  )
  try {
    for (const stream of streams) await expect.poll(() => stream.lastId).toBeDefined()
    await pushImage(here, repository, 'v2')
    for (const stream of streams) await waitForBlocks(stream, 2)
    const settings = `/api/v1/repositories/${repository}/settings`
    const body = JSON.stringify({ visibility: 'private' })
    const headers = { 'content-type': 'application/json' }
    await expectStatus(here.request(settings, { method: 'PUT', headers, body }), 200)
    await pushImage(here, repository, 'secret')
    // An event of another repository, which is later, shows that the streams still run.
    await pushImage(here, other, 'seen')
    for (const stream of streams) {
      await waitForBlocks(stream, 4)
      expect(subjects(stream).slice(2).join()).not.toContain(repository)
    }
  } finally {
    for (const stream of streams) stream.close()
  }
})

it('a key that is removed waits for the commit of a write that its token allowed', async () => {
  const [key] = await sql<{ kid: string }>(here, 'select kid from signing_keys')
  await withDatabase(async (db) => {
    let rotated: Promise<void> | undefined
    let isRotated = false
    await db.transaction(async (tx) => {
      await tx.query('select assert_unrevoked(null, null, $1)', [key?.kid])
      rotated = rotateKeys().then(() => {
        isRotated = true
      })
      const waiting = `select 1 from pg_locks where locktype = 'advisory' and not granted`
      await expect.poll(() => sql(here, waiting)).toHaveLength(1)
      expect(isRotated).toBe(false)
    })
    await rotated
    const again = db.query('select assert_unrevoked(null, null, $1)', [key?.kid])
    await expect(again).rejects.toMatchObject({ code: 'UNAUTHORIZED' })
  })
})

it.each(['token', 'key'])(
  'the renewal of the lease ends a long upload when its %s is revoked',
  async (kind) => {
    const actor = {
      ...OPERATOR,
      name: 'orb',
      tokenId: randomUUID(),
      keyId: randomUUID(),
    }
    const [upload] = await sql<{ id: string; name: string }>(
      here,
      `insert into uploads (id, repository_id, actor, algorithm, stage, expires_at)
       select gen_random_uuid(), id, $1, 'sha256', '{}', now() + interval '1 hour'
         from repositories
        limit 1
       returning id, (select name from repositories r where r.id = repository_id) as name`,
      [`token:${actor.tokenId}`],
    )
    const { id = '', name = '' } = upload ?? {}
    await withDatabase(async (db) => {
      const token = randomUUID()
      const where = { id, repository: parseRepository(name), actor }
      const writer = { lease: token, process: null }
      const claim = await claimUpload(db, where, writer, undefined, undefined)
      expect(claim?.claimed).toBe(true)
      vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
      const lease = new Lease(db, {
        ...{ id, token, process: () => null },
        ...{ rights: actor, isSingleRequest: false },
      })
      try {
        const subject = kind === 'token' ? `token:${actor.tokenId}` : `key:${actor.keyId}`
        const revoke = `insert into revocations (subject, expires_at) values ($1, now() + interval '1 day')`
        lease.assertHeld()
        await sql(here, revoke, [subject])
        vi.advanceTimersByTime(UPLOAD_LEASE_SECONDS * 1000)
      } finally {
        vi.useRealTimers()
      }
      await expect
        .poll(() => {
          try {
            lease.assertHeld()
            return 'held'
          } catch (error) {
            return (error as { code?: string }).code
          }
        })
        .toBe('UNAUTHORIZED')
      lease.stop()
    })
  },
)

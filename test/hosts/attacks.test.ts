import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential, sql } from '../auth/credentials-client.ts'
import { assertionOf, enrolHost, makeCode, makeHostKey, type TestHost } from '../support/hosts.ts'
import { expectError, pushImage } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { HostsClient } from './hosts-client.ts'

let client: HostsClient
let registry: TestRegistry
let audience: string
let host: TestHost

beforeAll(async () => {
  client = await HostsClient.open()
  ;({ registry, audience } = client)
  host = await enrolHost(registry, { repositories: ['builds/*'] })
  await pushImage(registry, 'builds/www', 'live')
  await pushImage(registry, 'secret/www', 'live')
})

afterAll(() => registry.close())

describe('a code', () => {
  it('makes one host when several use it at once', async () => {
    const code = await makeCode(registry, { name: 'race' })
    const statuses = await Promise.all(
      Array.from(
        { length: 8 },
        async () => (await client.enrol(client.keyed(makeHostKey(), { code }))).status,
      ),
    )
    expect(statuses.filter((status) => status === 201)).toHaveLength(1)
    // A loser that came later sees that the code was used.
    expect(statuses.filter((status) => status === 410 || status === 409)).toHaveLength(7)
    await expectError(await client.enrol(client.keyed(makeHostKey(), { code })), 410, 'GONE')
    const hosts = await sql(registry, `select 1 from hosts where name = 'race'`)
    expect(hosts).toHaveLength(1)
  })

  it('is refused from another network, and then works from its own', async () => {
    const code = await makeCode(registry, { name: 'near', networks: ['192.0.2.0/24'] })
    const key = makeHostKey()
    await expectError(
      await client.enrol(client.keyed(key, { code }), '198.51.100.1'),
      403,
      'DENIED',
    )
    expect((await client.enrol(client.keyed(key, { code }), '192.0.2.9')).status).toBe(201)
  })

  it('for a name that is taken is 409, stays unused, and the old key still works', async () => {
    const code = await makeCode(registry, { name: 'taken' })
    const taken = await enrolHost(registry, { name: 'taken' })
    const key = makeHostKey()
    await expectError(await client.enrol(client.keyed(key, { code })), 409, 'CONFLICT')
    const assertion = assertionOf(taken.key, audience)
    const answer = await client.exchange(assertion)
    expect(answer.status).toBe(200)
    expect((await registry.request('/api/v1/hosts/taken', { method: 'DELETE' })).status).toBe(204)
    expect((await client.enrol(client.keyed(key, { code }))).status).toBe(201)
  })

  it('is not made for the name of an active host, and again when that was revoked', async () => {
    const request = { method: 'POST', headers: { 'content-type': 'application/json' } }
    const body = JSON.stringify({ name: 'active', repositories: ['builds/*'] })
    const make = () => registry.request('/api/v1/enrolments', { ...request, body })
    await enrolHost(registry, { name: 'active' })
    const refused = await make()
    expect(await refused.clone().text()).toContain('revoke it first, or use another name')
    await expectError(refused, 409, 'CONFLICT')
    expect((await registry.request('/api/v1/hosts/active', { method: 'DELETE' })).status).toBe(204)
    expect((await make()).status).toBe(201)
  })

  it('is for its name, and for a key that no other host has', async () => {
    const code = await makeCode(registry, { name: 'named' })
    await expectError(
      await client.enrol(client.keyed(makeHostKey(), { code, name: 'x' })),
      400,
      'REQUEST_INVALID',
    )
    await expectError(await client.enrol(client.keyed(host.key, { code })), 409, 'CONFLICT')
  })

  it('is void when its creator was revoked, and after its end', async () => {
    const lead = await makeCredential(registry, {
      repositories: ['builds/**'],
      actions: ['admin', 'pull'],
    })
    const make = async (name: string, networks?: string[]) => {
      const answer = await registry.anonymous('/api/v1/enrolments', {
        method: 'POST',
        headers: {
          authorization: basic(lead.name, lead.secret),
          'content-type': 'application/json',
        },
        body: JSON.stringify({ name, repositories: ['builds/*'], networks }),
      })
      expect(answer.status).toBe(201)
      return ((await answer.json()) as { code: string }).code
    }
    const [before, after, late] = [await make('before'), await make('after'), await make('late')]
    const key = makeHostKey()
    expect((await client.enrol(client.keyed(key, { code: before }))).status).toBe(201)
    await sql(registry, `update enrolments set expires_at = now() where name = 'late'`)
    await expectError(await client.enrol(client.keyed(makeHostKey(), { code: late })), 410, 'GONE')
    const path = `/api/v1/credentials/${lead.name}`
    expect((await registry.request(path, { method: 'DELETE' })).status).toBe(204)
    const refused = await client.enrol(client.keyed(makeHostKey(), { code: after }))
    await expectError(refused, 410, 'GONE')
    // A host that enrolled before stays: it runs for its operator, and not for a credential.
    const assertion = assertionOf(key, audience)
    const answer = await client.exchange(assertion)
    expect(answer.status).toBe(200)
  })

  it('never gives more than its creator has', async () => {
    const make = async (
      holder: Parameters<typeof makeCredential>[1],
      wanted: object,
      from = '10.1.2.3',
    ) => {
      const { name, secret } = await makeCredential(registry, holder)
      const answer = await registry.anonymous('/api/v1/enrolments', {
        method: 'POST',
        headers: {
          authorization: basic(name, secret),
          'content-type': 'application/json',
          'x-forwarded-for': from,
        },
        body: JSON.stringify({ name: 'more', ...wanted }),
      })
      const body = (await answer.json()) as { networks?: string[] }
      return { status: answer.status, networks: body.networks }
    }
    const admin = { repositories: ['team/*'], actions: ['admin', 'pull'] }
    const bound = { ...admin, networks: ['10.0.0.0/8'] }
    const team = { repositories: ['team/*'] }
    expect((await make(admin, team)).status).toBe(201)
    expect((await make(admin, { repositories: ['team/**'] })).status).toBe(403)
    expect((await make(admin, { repositories: ['team/*', 'other/*'] })).status).toBe(403)
    expect((await make({ ...admin, actions: ['push', 'pull'] }, team)).status).toBe(403)
    expect((await make({ ...admin, actions: ['admin'] }, team)).status).toBe(403)
    expect(await make(bound, team)).toEqual({ status: 201, networks: ['10.0.0.0/8'] })
    expect((await make(bound, { ...team, networks: ['10.7.0.0/16'] })).status).toBe(201)
    expect((await make(bound, { ...team, networks: ['0.0.0.0/0'] })).status).toBe(403)
    expect((await make(bound, { ...team, networks: ['10.0.0.0/7'] })).status).toBe(403)
  })
})

describe('a token of a host', () => {
  const rotate = (name: string, authorization: string) =>
    registry.anonymous(`/api/v1/hosts/${name}/keys`, {
      method: 'POST',
      headers: { authorization },
      body: new URLSearchParams(client.keyed(makeHostKey())),
    })

  it('speaks for no other host, and an administrator for none', async () => {
    const other = await enrolHost(registry)
    const authorization = `Bearer ${await host.token()}`
    await expectError(await rotate(other.name, authorization), 403, 'DENIED')
    await expectError(await rotate('never-was', authorization), 403, 'DENIED')
    const asAdmin = basic('admin', registry.password)
    const answer = await rotate(host.name, asAdmin)
    const { errors } = (await answer.json()) as { errors: { message: string }[] }
    expect(answer.status).toBe(403)
    expect(errors[0]?.message).toMatch(/may not speak as this host/)
  })

  it('reads its repositories and nothing else', async () => {
    const statuses: Record<string, number> = {}
    const requests: [method: string, path: string][] = [
      ['GET', '/v2/builds/www/manifests/live'],
      ['GET', '/v2/secret/www/manifests/live'],
      ['GET', '/api/v1/repositories/secret/www/images'],
      ['POST', '/v2/builds/www/blobs/uploads/'],
      ['DELETE', '/v2/builds/www/manifests/live'],
      ['DELETE', '/api/v1/repositories/builds/www'],
      ['POST', '/api/v1/repositories/builds/www/tags/live/rollback'],
      ['POST', '/api/v1/repositories/builds/www/tags/live/upload-urls'],
      ['GET', '/api/v1/audit'],
      ['GET', '/api/v1/credentials'],
      ['GET', `/api/v1/hosts/${host.name}`],
      ['DELETE', `/api/v1/hosts/${host.name}`],
      ['GET', '/metrics'],
    ]
    for (const [method, path] of requests) {
      statuses[`${method} ${path.replace(host.name, 'HOST')}`] = (
        await host.request(path, { method })
      ).status
    }
    expect(statuses).toEqual({
      'GET /v2/builds/www/manifests/live': 200,
      'GET /v2/secret/www/manifests/live': 401,
      'GET /api/v1/repositories/secret/www/images': 401,
      'POST /v2/builds/www/blobs/uploads/': 401,
      'DELETE /v2/builds/www/manifests/live': 401,
      'DELETE /api/v1/repositories/builds/www': 403,
      'POST /api/v1/repositories/builds/www/tags/live/rollback': 403,
      'POST /api/v1/repositories/builds/www/tags/live/upload-urls': 403,
      'GET /api/v1/audit': 403,
      'GET /api/v1/credentials': 403,
      'GET /api/v1/hosts/HOST': 404,
      'DELETE /api/v1/hosts/HOST': 404,
      'GET /metrics': 403,
    })
    const code = await host.request('/api/v1/enrolments', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name: 'child', repositories: ['builds/*'] }),
    })
    expect(code.status).toBe(403)
  })

  it('gives no more by another request at /token', async () => {
    const authorization = `Bearer ${await host.token()}`
    const scopes = [
      'registry:admin:*',
      'host:another:report',
      'repository:secret/www:pull,push',
      'repository:builds/www:pull,push,delete,admin',
    ]
    const query = scopes.map((scope) => `scope=${scope}`).join('&')
    const answer = await registry.anonymous(`/token?${query}`, { headers: { authorization } })
    expect(await answer.json()).toMatchObject({ scope: 'repository:builds/www:pull' })
  })

  it('that was revoked after the door writes nothing', async () => {
    const revoked = await enrolHost(registry)
    await sql(
      registry,
      `insert into revocations (subject, revoked_at, expires_at)
       values ($1, now() - interval '1 hour', now() + interval '1 day')`,
      [`host:${revoked.id}`],
    )
    const key = makeHostKey()
    const answer = await revoked.request(`/api/v1/hosts/${revoked.name}/keys`, {
      method: 'POST',
      body: new URLSearchParams(
        client.keyed(key, { assertion: assertionOf(revoked.key, audience) }),
      ),
    })
    await expectError(answer, 401, 'UNAUTHORIZED')
    const keys = 'select 1 from host_keys where thumbprint = $1'
    expect(await sql(registry, keys, [key.thumbprint])).toEqual([])
  })
})

it('refusals of hosts are in the audit log, without codes and assertions', async () => {
  const assertion = assertionOf(makeHostKey(), audience)
  const refused = await client.exchange(assertion)
  expect(refused.status).toBe(400)
  await expect
    .poll(async () => {
      const answer = await registry.request('/api/v1/audit?decision=refused&n=1000')
      const { entries } = (await answer.json()) as { entries: { detail: string }[] }
      const text = entries.map(({ detail }) => detail).join('\n')
      expect(text).not.toMatch(/rke_|eyJ/)
      return [
        /POST \/token: assertion:/,
        /hosts\/enrol: host near: this code may not be used/,
      ].every((one) => one.test(text))
    })
    .toBe(true)
  expect(registry.log.join('')).not.toMatch(/rke_|eyJ/)
})

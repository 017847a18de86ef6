import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential, sql } from '../auth/credentials-client.ts'
import { validateEvent } from '../events/event-schema.ts'
import type { SentEvent } from '../support/events.ts'
import { enrolHost, makeHostKey } from '../support/hosts.ts'
import { expectError, pushImage } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { HostsClient } from './hosts-client.ts'

let client: HostsClient
let registry: TestRegistry

beforeAll(async () => {
  client = await HostsClient.open({ ROOKERY_HOST_ENROLMENT: 'approve' })
  ;({ registry } = client)
})

afterAll(() => registry.close())

async function shown(path: string): Promise<Record<string, unknown>> {
  const answer = await registry.request(path)
  expect(answer.status).toBe(200)
  return (await answer.json()) as Record<string, unknown>
}

async function names(query: string, authorization?: string): Promise<string[]> {
  const headers = authorization === undefined ? {} : { authorization }
  const answer = await client.send('GET', `/api/v1/hosts?${query}`, undefined, headers)
  expect(answer.status).toBe(200)
  return ((await answer.json()) as { hosts: { name: string }[] }).hosts.map(({ name }) => name)
}

describe('a host without a code', () => {
  it('waits until somebody approves its fingerprint', async () => {
    const key = makeHostKey()
    const enrolled = await client.ask('waits', key)
    expect(enrolled.status).toBe(202)
    expect(await enrolled.json()).toEqual({
      host: 'waits',
      state: 'pending',
      fingerprint: key.thumbprint,
    })
    expect((await client.ask('waits', key)).status).toBe(202)
    const refused = await client.mint(key)
    expect(refused.status).toBe(400)
    expect(await refused.json()).toMatchObject({
      error: 'invalid_grant',
      error_description: 'assertion: the host waits for its approval: rookery host approve',
    })
    expect(await shown('/api/v1/hosts/waits')).toMatchObject({
      state: 'pending',
      fingerprint: key.thumbprint,
      createdBy: null,
      requestedFrom: '192.0.2.1',
    })
    const approve = (fingerprint: string) =>
      client.send('POST', '/api/v1/hosts/waits/approve', {
        fingerprint,
        repositories: ['builds/*'],
        labels: { site: 'a' },
      })
    await expectError(await approve(makeHostKey().thumbprint), 409, 'CONFLICT')
    const approved = await approve(key.thumbprint)
    expect(approved.status).toBe(200)
    expect(await approved.json()).toMatchObject({
      state: 'active',
      repositories: ['builds/*'],
      labels: { site: 'a' },
      createdBy: 'admin',
      requestedFrom: null,
      expiresAt: null,
    })
    expect((await client.mint(key)).status).toBe(200)
    expect((await client.ask('waits', key)).status).toBe(201)
    await expectError(await approve(key.thumbprint), 409, 'CONFLICT')
  })

  it('is seen by those who may approve it, and refused by its revocation', async () => {
    const key = makeHostKey()
    expect((await client.ask('refused', key)).status).toBe(202)
    const pull = await makeCredential(registry, { repositories: ['**'], actions: ['pull'] })
    const admin = await makeCredential(registry, {
      repositories: ['builds/**'],
      actions: ['admin', 'pull'],
    })
    const as = (made: { name: string; secret: string }) => basic(made.name, made.secret)
    expect(await names('state=pending', as(pull))).toEqual([])
    expect(await names('state=pending', as(admin))).toContain('refused')
    const approve = (repositories: string[]) =>
      client.send(
        'POST',
        '/api/v1/hosts/refused/approve',
        { fingerprint: key.thumbprint, repositories },
        { authorization: as(admin) },
      )
    await expectError(await approve(['other/*']), 403, 'DENIED')
    await expectError(await approve([]), 400, 'REQUEST_INVALID')
    expect((await client.send('DELETE', '/api/v1/hosts/refused')).status).toBe(204)
    await expectError(await approve(['builds/*']), 404, 'NOT_FOUND')
  })

  it('cannot use up the places of others', async () => {
    let last = 0
    for (let index = 0; index <= 20; index += 1) {
      last = (await client.ask(`many-${index}`, makeHostKey(), '198.51.100.7')).status
    }
    expect(last).toBe(429)
    expect((await client.ask('another', makeHostKey(), '198.51.100.8')).status).toBe(202)
  })

  it('expires, and gives way to a host with a code', async () => {
    const late = makeHostKey()
    expect((await client.ask('late', late)).status).toBe(202)
    const hour = `update hosts set expires_at = now() - interval '1 s' where name = 'late'`
    await sql(registry, hour)
    expect((await client.ask('late', makeHostKey())).status).toBe(202)
    const host = await enrolHost(registry, { name: 'late' })
    expect((await client.mint(host.key)).status).toBe(200)
    await expectError(await client.ask('late', makeHostKey()), 409, 'CONFLICT')
  })
})

describe('the list of hosts', () => {
  it('has filters and pages', async () => {
    for (const [name, site] of [
      ['l-1', 'a'],
      ['l-2', 'b'],
      ['l-3', 'a'],
    ] as const) {
      await enrolHost(registry, { name, labels: { site, list: 'yes' } })
    }
    expect(await names('label=list=yes')).toEqual(['l-1', 'l-2', 'l-3'])
    expect(await names('label=list=yes&label=site=a')).toEqual(['l-1', 'l-3'])
    expect(await names('label=list=yes&state=active')).toHaveLength(3)
    expect(await names('label=list=yes&repository=builds/www')).toEqual([])
    expect(await names(`kernel=sha256:${'0'.repeat(64)}`)).toEqual([])
    const found: string[] = []
    let next: string | undefined = '/api/v1/hosts?label=list=yes&n=2'
    while (next !== undefined) {
      const answer: Response = await registry.request(next)
      const { hosts } = (await answer.json()) as { hosts: { name: string }[] }
      found.push(...hosts.map(({ name }) => name))
      next = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1]
    }
    expect(found).toEqual(['l-1', 'l-2', 'l-3'])
  })

  it('has the hosts whose repositories the caller administers', async () => {
    await enrolHost(registry, { name: 'm-1', repositories: ['team/a/*'], labels: { m: 'y' } })
    await enrolHost(registry, { name: 'm-2', repositories: ['team/**', 'x'], labels: { m: 'y' } })
    const lead = await makeCredential(registry, {
      repositories: ['team/**'],
      actions: ['admin', 'pull'],
    })
    const authorization = basic(lead.name, lead.secret)
    expect(await names('label=m=y', authorization)).toEqual(['m-1'])
    const get = (name: string) =>
      client.send('GET', `/api/v1/hosts/${name}`, undefined, { authorization })
    expect((await get('m-1')).status).toBe(200)
    await expectError(await get('m-2'), 404, 'NOT_FOUND')
    const remove = await client.send('DELETE', '/api/v1/hosts/m-2', undefined, { authorization })
    await expectError(remove, 404, 'NOT_FOUND')
  })
})

describe('a change of a host', () => {
  it('of its repositories ends its tokens at once, and the next one has the new grant', async () => {
    await pushImage(registry, 'one/www', 'live')
    await pushImage(registry, 'two/www', 'live')
    const host = await enrolHost(registry, { repositories: ['one/*'] })
    const head = (authorization: string, name: string) =>
      registry.anonymous(`/v2/${name}/manifests/live`, {
        method: 'HEAD',
        headers: { authorization },
      })
    const before = `Bearer ${await host.token()}`
    expect((await head(before, 'one/www')).status).toBe(200)
    const changed = await client.send('PATCH', `/api/v1/hosts/${host.name}`, {
      repositories: ['two/*'],
    })
    expect(await changed.json()).toMatchObject({ repositories: ['two/*'], networks: null })
    expect((await head(before, 'one/www')).status).toBe(401)
    const answer = (await (await client.mint(host.key)).json()) as { access_token: string }
    const after = `Bearer ${answer.access_token}`
    expect((await head(after, 'two/www')).status).toBe(200)
    expect((await head(after, 'one/www')).status).toBe(401)
  })

  it('of its labels leaves its tokens', async () => {
    const host = await enrolHost(registry, { networks: ['127.0.0.0/8'], repositories: ['one/*'] })
    const path = `/api/v1/hosts/${host.name}`
    const changed = await client.send('PATCH', path, { labels: { rack: '7' } })
    expect(await changed.json()).toMatchObject({ labels: { rack: '7' }, networks: ['127.0.0.0/8'] })
    const pull = await host.request('/v2/one/www/manifests/live', { method: 'HEAD' })
    expect(pull.status).toBe(200)
    expect((await client.send('PATCH', path, { networks: null })).status).toBe(200)
    expect(await shown(path)).toMatchObject({ networks: null })
    await expectError(await client.send('PATCH', path, {}), 400, 'REQUEST_INVALID')
  })
})

describe('the revocation of a host', () => {
  it('ends its tokens and its key, and frees its name', async () => {
    const host = await enrolHost(registry, { name: 'gone' })
    expect((await client.send('DELETE', '/api/v1/hosts/gone')).status).toBe(204)
    expect((await host.request('/v2/one/www/manifests/live')).status).toBe(401)
    const refused = (await (await client.mint(host.key)).json()) as { error_description: string }
    expect(refused.error_description).toBe('assertion: the host was revoked')
    await expectError(await client.send('DELETE', '/api/v1/hosts/gone'), 404, 'NOT_FOUND')
    await expectError(await client.ask('gone', host.key), 409, 'CONFLICT')
    const next = await enrolHost(registry, { name: 'gone' })
    expect((await client.mint(next.key)).status).toBe(200)
    const revoked = await registry.request('/api/v1/hosts?state=revoked')
    const { hosts } = (await revoked.json()) as { hosts: { name: string; revokedAt: string }[] }
    expect(hosts.find(({ name }) => name === 'gone')?.revokedAt).toMatch(/^20/)
  })
})

describe('a host with a secret', () => {
  const create = async (name: string, more: object = {}) => {
    const body = { name, repositories: ['one/*'], ...more }
    const created = await client.send('POST', '/api/v1/hosts', body)
    expect(created.status).toBe(201)
    return (await created.json()) as { secret: string; trust: string; fingerprint: null }
  }
  const head = (authorization: string) =>
    registry.anonymous('/v2/one/www/manifests/live', { method: 'HEAD', headers: { authorization } })

  it('pulls by it, and gets tokens that speak for it', async () => {
    const { secret, trust, fingerprint } = await create('weak')
    expect({ trust, fingerprint }).toEqual({ trust: 'secret', fingerprint: null })
    expect((await head(basic('weak', secret))).status).toBe(200)
    expect((await head(`Bearer ${secret}`)).status).toBe(200)
    const answer = await registry.anonymous('/token?offline_token=true', {
      headers: { authorization: basic('weak', secret) },
    })
    const token = (await answer.json()) as Record<string, string>
    expect(token.scope).toBe('host:weak:report repository:one/*:pull')
    expect(token).not.toHaveProperty('refresh_token')
    expect((await head(`Bearer ${token.token}`)).status).toBe(200)
    await expectError(
      await client.send('POST', '/api/v1/hosts', { name: 'weak', repositories: ['x'] }),
      409,
      'CONFLICT',
    )
  })

  it('has another grant at once, and ends with its revocation', async () => {
    const { secret } = await create('weak-2')
    expect((await head(basic('weak-2', secret))).status).toBe(200)
    const path = '/api/v1/hosts/weak-2'
    expect((await client.send('PATCH', path, { repositories: ['two/*'] })).status).toBe(200)
    expect((await head(basic('weak-2', secret))).status).toBe(404)
    expect((await client.send('PATCH', path, { repositories: ['one/*'] })).status).toBe(200)
    expect((await head(basic('weak-2', secret))).status).toBe(200)
    expect((await client.send('DELETE', path)).status).toBe(204)
    expect((await head(basic('weak-2', secret))).status).toBe(401)
  })

  it('is no credential of the list', async () => {
    await create('weak-3')
    const answer = await registry.request('/api/v1/credentials')
    const { credentials } = (await answer.json()) as { credentials: { kind: string }[] }
    expect(credentials.map(({ kind }) => kind)).not.toContain('host')
  })
})

it('every change is in the audit log, and new hosts are events', async () => {
  const answer = await registry.request('/api/v1/audit?n=1000')
  const { entries } = (await answer.json()) as { entries: { action: string; decision: string }[] }
  const actions = new Set(
    entries.filter((one) => one.decision === 'allowed').map((one) => one.action),
  )
  for (const action of [
    'create-enrolment',
    'enrol-host',
    'request-host',
    'approve-host',
    'change-host',
    'revoke-host',
    'create-host',
  ]) {
    expect(actions).toContain(action)
  }
  const read = () =>
    sql<{ body: string }>(
      registry,
      `select body from events where type = 'host.enrolled' order by position`,
    )
  const ofHost = async (name: string) =>
    (await read())
      .map(({ body }) => JSON.parse(body) as SentEvent)
      .filter(({ subject }) => subject === name)
  await expect.poll(async () => (await ofHost('waits')).length).toBe(2)
  for (const { body } of await read()) validateEvent(body)
  expect((await ofHost('waits')).map(({ data }) => data.state)).toEqual(['pending', 'active'])
})

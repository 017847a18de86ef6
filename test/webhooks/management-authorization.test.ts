import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, bearer, makeCredential, requestToken, sql } from '../auth/credentials-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  adminWebhookClient,
  createWebhookAs,
  credentialWebhookClient,
  errorMessage,
  type WebhookClient,
  webhookClient,
  webhookRequest,
} from './webhook-client.ts'

let registry: TestRegistry
let admin: WebhookClient

beforeAll(async () => {
  registry = await startRegistry()
  admin = adminWebhookClient(registry)
})
afterAll(() => registry.close())

const EVERYTHING = ['pull', 'push', 'delete', 'admin']
const namesOf = ({ body }: { body: { webhooks: { name: string }[] } }) =>
  body.webhooks.map(({ name }) => name)

describe('a holder of admin and pull', () => {
  it('creates webhooks for these repositories', async () => {
    const { name, client } = await credentialWebhookClient(registry, {
      repositories: ['team/**', 'other/kernel'],
      actions: ['admin', 'pull'],
    })
    for (const repositories of [['team/**'], ['team/a', 'other/kernel'], ['team/*/www']]) {
      expect(await createWebhookAs(client, { repositories })).toMatchObject({
        repositories,
        owner: name,
      })
    }
  })

  it('creates none for other repositories, nor with only one of the two', async () => {
    const within = { repositories: ['team/**'], actions: EVERYTHING }
    const { client } = await credentialWebhookClient(registry, within)
    for (const repositories of [['**'], ['team/a', 'team*/**'], ['other/kernel'], ['*/a']]) {
      const answer = await client('POST', '', webhookRequest({ repositories }))
      expect({ repositories, status: answer.status }).toEqual({ repositories, status: 403 })
      expect(errorMessage(answer, 'DENIED')).toMatch(/may not admin all of /)
    }
    const { client: settings } = await credentialWebhookClient(registry, {
      repositories: ['team/**'],
      actions: ['admin'],
    })
    const answer = await settings('POST', '', webhookRequest({ repositories: ['team/a'] }))
    expect(errorMessage(answer, 'DENIED')).toContain('may not pull all of team/a')
    const { client: puller } = await credentialWebhookClient(registry, {
      repositories: ['team/**'],
      actions: ['pull', 'push', 'delete'],
    })
    expect((await puller('POST', '', webhookRequest({ repositories: ['team/a'] }))).status).toBe(
      403,
    )
  })

  it('receives no events about the registry', async () => {
    const { client } = await credentialWebhookClient(registry, {
      repositories: ['**'],
      actions: EVERYTHING,
    })
    const refused = await client('POST', '', webhookRequest({ types: ['webhook.disabled'] }))
    expect(errorMessage(refused, 'DENIED')).toContain('only administrators')
    const { name } = await createWebhookAs(client)
    const changed = await client('PATCH', `/${name}`, { types: ['webhook.disabled'] })
    expect(changed.status).toBe(403)
    const { name: others } = await createWebhookAs(admin, {
      types: ['image.pushed', 'webhook.disabled'],
    })
    expect((await client('GET', `/${others}`)).status).toBe(404)
  })

  it('reads and changes the webhooks of others for these repositories, and no others', async () => {
    const { name: inside } = await createWebhookAs(admin, { repositories: ['seen/a', 'seen/b/*'] })
    const { name: outside } = await createWebhookAs(admin, { repositories: ['seen/a', 'hidden/b'] })
    const { name: me, client } = await credentialWebhookClient(registry, {
      repositories: ['seen/**'],
      actions: EVERYTHING,
    })
    expect(namesOf(await client('GET', ''))).toEqual([inside])
    const hidden = await client('GET', `/${outside}`)
    const missing = await client('GET', '/nothing')
    const renamed = JSON.parse(JSON.stringify(missing).replaceAll('nothing', outside))
    expect(hidden).toEqual(renamed)
    for (const [method, path, sent] of [
      ['PATCH', '', { paused: true }],
      ['DELETE', '', undefined],
      ['POST', '/rotate-secret', undefined],
      ['POST', '/test', undefined],
      ['GET', '/deliveries', undefined],
      ['POST', '/redeliver', { after: '2030-01-01T00:00:00Z' }],
    ] as const) {
      expect((await client(method, `/${outside}${path}`, sent)).status).toBe(404)
    }
    expect((await admin('GET', `/${outside}`)).body).toMatchObject({ state: 'active' })
    const { body } = await client('PATCH', `/${inside}`, { description: 'seen', paused: true })
    expect(body).toMatchObject({ state: 'paused', owner: me })
    expect((await client('PATCH', `/${inside}`, { repositories: ['hidden/b'] })).status).toBe(403)
    expect((await client('DELETE', `/${inside}`)).status).toBe(204)
  })

  it('finds its own webhooks among many that it may not see', async () => {
    await sql(
      registry,
      `insert into webhooks (name, url, repositories, types, format, secrets_jwe, owner_name)
       select 'many-' || i, 'https://receiver.example/', '{elsewhere/**}', '{image.pushed}',
              'cloudevents', 'x', 'admin'
         from generate_series(1, 1200) as i`,
    )
    const { client } = await credentialWebhookClient(registry, {
      repositories: ['mine/**'],
      actions: EVERYTHING,
    })
    for (const name of ['aaa', 'many-5', 'zzz-1', 'zzz-2']) {
      const mine = { name: `${name}-mine`, repositories: ['mine/a'] }
      await createWebhookAs(client, mine)
    }
    const { body } = await client('GET', '?n=3')
    expect(namesOf({ body })).toEqual(['aaa-mine', 'many-5-mine', 'zzz-1-mine'])
    expect(namesOf(await client('GET', '?n=3&last=zzz-1-mine'))).toEqual(['zzz-2-mine'])
    await sql(registry, "delete from webhooks where repositories = '{elsewhere/**}'")
  })

  it('has the permissions of its token, and no more', async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['team/**'],
      actions: EVERYTHING,
    })
    const tokenFor = (scope: string) => requestToken(registry, basic(name, secret), scope)
    const token = webhookClient(registry, bearer(await tokenFor('repository:team/a:pull,admin')))
    await createWebhookAs(token, { repositories: ['team/a'] })
    expect((await token('POST', '', webhookRequest({ repositories: ['team/b'] }))).status).toBe(403)
    const puller = webhookClient(registry, bearer(await tokenFor('repository:team/a:pull')))
    expect((await puller('POST', '', webhookRequest({ repositories: ['team/a'] }))).status).toBe(
      403,
    )
    expect(namesOf(await puller('GET', ''))).toEqual([])
  })
})

describe('the owner of a webhook', () => {
  const ownerOf = async (name: string) => {
    const [row] = await sql<{ origin: string | null; grants: unknown }>(
      registry,
      'select owner_origin as origin, owner_grants as grants from webhooks where name = $1',
      [name],
    )
    return row
  }

  it('is the last writer, with its permissions', async () => {
    const { name } = await createWebhookAs(admin, { repositories: ['team/a'] })
    expect(await ownerOf(name)).toMatchObject({ grants: null })
    const { name: holder, client } = await credentialWebhookClient(registry, {
      repositories: ['team/**'],
      actions: EVERYTHING,
    })
    // Pausing and resuming does not change the owner.
    for (const paused of [true, false]) {
      expect((await client('PATCH', `/${name}`, { paused })).body).toMatchObject({ owner: 'admin' })
    }
    const described = await client('PATCH', `/${name}`, { description: 'mine' })
    expect(described.body).toMatchObject({ owner: holder })
    expect(await ownerOf(name)).toEqual({
      origin: expect.stringMatching(/^credential:\d+$/),
      grants: [{ repositories: ['team/**'], actions: expect.any(Array), tags: null }],
    })
    await admin('PATCH', `/${name}`, { paused: true })
    expect(await ownerOf(name)).toMatchObject({ grants: [{}] })
    await admin('PATCH', `/${name}`, { description: 'ours' })
    expect(await ownerOf(name)).toMatchObject({ grants: null })
  })

  it('has at most 100 webhooks, an administrator more, and a registry 10 000', async () => {
    const { name, client } = await credentialWebhookClient(registry, {
      repositories: ['team/**'],
      actions: EVERYTHING,
    })
    const { name: first } = await createWebhookAs(client, { repositories: ['team/a'] })
    const fill = (count: number, origin: string, grants: string | null) =>
      sql(
        registry,
        `insert into webhooks (name, url, repositories, types, format, secrets_jwe, owner_name,
                               owner_origin, owner_grants)
         select $2 || i, 'https://receiver.example/', '{full/**}', '{image.pushed}',
                'cloudevents', 'x', $4, $2, $3::jsonb
           from generate_series(1, $1::int) as i`,
        [count, origin, grants, name],
      )
    const { origin } = (await ownerOf(first)) ?? {}
    await fill(99, String(origin), '[]')
    const answer = await client('POST', '', webhookRequest({ repositories: ['team/a'] }))
    expect(answer.status).toBe(409)
    expect(errorMessage(answer, 'CONFLICT')).toContain('at most 100 webhooks')
    await createWebhookAs(admin)
    await fill(10_000, 'many', null)
    expect(errorMessage(await admin('POST', '', webhookRequest()), 'CONFLICT')).toContain('10000')
    await sql(registry, "delete from webhooks where repositories = '{full/**}'")
    await createWebhookAs(client, { repositories: ['team/a'] })
  })
})

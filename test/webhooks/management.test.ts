import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { openSigningKeys } from '../../src/server/signing-keys.ts'
import { openTokenMinter, sql } from '../auth/credentials-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  adminWebhookClient,
  createWebhookAs,
  errorMessage,
  newName,
  type WebhookClient,
  webhookClient,
  webhookRequest,
} from './webhook-client.ts'

let registry: TestRegistry
let admin: WebhookClient

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_PUBLIC_URL: 'https://registry.example' })
  admin = adminWebhookClient(registry)
})
afterAll(() => registry.close())

const REPOSITORY_TYPES = [
  'image.pushed',
  'image.tag.updated',
  'image.tag.deleted',
  'image.deleted',
  'image.referrer.added',
  'image.unwrapped',
  'repository.deleted',
  'build.reproduced',
  'build.diverged',
  'build.failed',
  'deployment.created',
  'deployment.updated',
  'deployment.finished',
]

describe('a webhook', () => {
  it('needs a name, a URL and repositories, and receives all events of its repositories by default', async () => {
    const { secret, ...webhook } = await createWebhookAs(admin)
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{32,}={0,2}$/)
    expect(webhook).toMatchObject({
      url: 'https://receiver.example/hook',
      repositories: ['builds/**'],
      tags: null,
      types: REPOSITORY_TYPES,
      format: 'cloudevents',
      authentication: { signatures: [], publicKey: null, authorization: false, readable: true },
      headers: {},
      state: 'active',
      owner: 'admin',
      health: { failures: 0, succeededAt: null, waiting: 0 },
    })
    expect(await admin('GET', `/${webhook.name}`)).toEqual({ status: 200, body: webhook })
  })

  it('accepts every setting, and returns them', async () => {
    const settings = {
      tags: ['v*', 'live'],
      types: ['image.tag.updated', 'webhook.disabled'],
      format: 'docker',
      headers: { 'X-Team': 'unikernels', 'x-empty': '' },
      description: 'For the deployers.\nAsk them first.',
      maxAgeSeconds: 3600,
      coalesceTags: true,
    }
    const authentication = {
      signatures: ['x-signature', 'v1a', 'v1a'],
      secret: `whsec_${Buffer.alloc(24, 7).toString('base64')}`,
      webhookSecret: 'hush',
      oidcAudience: 'flux',
    }
    const webhook = await createWebhookAs(admin, { ...settings, authentication, paused: true })
    expect(webhook).toMatchObject({
      ...settings,
      secret: authentication.secret,
      state: 'paused',
      authentication: {
        signatures: ['v1a', 'x-signature'],
        publicKey: expect.stringMatching(/^whpk_[A-Za-z0-9+/]{43}=$/),
        webhookSecret: true,
        authorization: false,
        oidcAudience: 'flux',
      },
    })
  })

  it('changes the given fields, and resets those that are null', async () => {
    const before = await createWebhookAs(admin, {
      tags: ['v*'],
      description: 'one',
      maxAgeSeconds: 60,
    })
    const change = { url: 'https://other.example/', tags: null, description: 'two' }
    const { status, body } = await admin('PATCH', `/${before.name}`, change)
    expect(status).toBe(200)
    // A new URL is a new subject of identity tokens.
    const { secret: _, updatedAt: __, authentication: ___, ...rest } = before
    expect(body).toMatchObject({ ...rest, ...change, maxAgeSeconds: 60 })
    expect(body.updatedAt >= before.updatedAt).toBe(true)
    const all = {
      types: null,
      format: null,
      headers: null,
      description: null,
      maxAgeSeconds: null,
      coalesceTags: null,
      authentication: { signatures: null, authorization: null, oidcAudience: null },
    }
    const { body: cleared } = await admin('PATCH', `/${before.name}`, all)
    expect(cleared).toMatchObject({
      types: REPOSITORY_TYPES,
      maxAgeSeconds: null,
      description: null,
    })
    expect(await admin('PATCH', `/${before.name}`, {})).toMatchObject({ status: 200 })
  })

  it('is paused and resumed', async () => {
    const { name } = await createWebhookAs(admin)
    const setPaused = async (paused: boolean) => (await admin('PATCH', `/${name}`, { paused })).body
    expect(await setPaused(true)).toMatchObject({ state: 'paused' })
    expect(await setPaused(false)).toMatchObject({ state: 'active' })
  })

  it('clears its failures when it is resumed after it was disabled', async () => {
    const { name } = await createWebhookAs(admin)
    await sql(
      registry,
      `with disabled as (
         update webhooks
            set state = 'disabled',
                disabled_reason = 'failing: no answer'
          where name = $1
         returning id
       )
       insert into webhook_health (webhook_id, failures, failing_since, open_until)
       select id, 7, now() - interval '6 days', now() + interval '10 minutes'
         from disabled`,
      [name],
    )
    const { body: seen } = await admin('GET', `/${name}`)
    expect(seen).toMatchObject({
      state: 'disabled',
      disabledReason: 'failing: no answer',
      health: { failures: 7 },
    })
    const { body: same } = await admin('PATCH', `/${name}`, { description: 'still' })
    expect(same).toMatchObject({ state: 'disabled', disabledReason: 'failing: no answer' })
    const { body } = await admin('PATCH', `/${name}`, { paused: false })
    expect(body).toMatchObject({
      state: 'active',
      disabledReason: null,
      health: { failures: 0, failingSince: null, retryingAt: null },
    })
  })

  it('is removed, and its name can be used again', async () => {
    const { name } = await createWebhookAs(admin)
    expect(await admin('DELETE', `/${name}`)).toEqual({ status: 204, body: undefined })
    for (const [method, path] of [
      ['GET', name],
      ['PATCH', name],
      ['DELETE', name],
      ['POST', `${name}/rotate-secret`],
      ['POST', `${name}/test`],
      ['GET', `${name}/deliveries`],
    ] as const) {
      const answer = await admin(method, `/${path}`, method === 'PATCH' ? {} : undefined)
      expect(answer.status).toBe(404)
      expect(errorMessage(answer, 'NOT_FOUND')).toBe(`there is no webhook ${name}`)
    }
    await createWebhookAs(admin, { name })
    const again = await admin('POST', '', webhookRequest({ name }))
    expect(again.status).toBe(409)
    expect(errorMessage(again, 'CONFLICT')).toContain(`there is a webhook named ${name}`)
  })

  it('is listed by name, in pages', async () => {
    const names = ['zz-b', 'zz-c', 'zz-a']
    for (const name of names) await createWebhookAs(admin, { name })
    const { body } = await admin('GET', '?n=2&last=zz')
    expect(body.webhooks.map(({ name }: { name: string }) => name)).toEqual(['zz-a', 'zz-b'])
    const { body: rest } = await admin('GET', '?n=2&last=zz-b')
    expect(rest.webhooks.map(({ name }: { name: string }) => name)).toEqual(['zz-c'])
    expect((await admin('GET', '?n=0')).body).toEqual({ webhooks: [] })
  })
})

describe('the secrets of a webhook', () => {
  const SECRETS = {
    secret: `whsec_${Buffer.from('never to be seen again 123').toString('base64')}`,
    authorization: 'Bearer never-to-be-seen-either',
    webhookSecret: 'nor-this-one',
  }

  it('are in no later response, no log and no audit entry', async () => {
    const { name, secret } = await createWebhookAs(admin, { authentication: SECRETS })
    expect(secret).toBe(SECRETS.secret)
    const answers = [
      await admin('GET', `/${name}`),
      await admin('GET', ''),
      await admin('PATCH', `/${name}`, {
        description: 'x',
        authentication: { signatures: ['v1a'] },
      }),
      await admin('POST', '', webhookRequest({ name, authentication: SECRETS })),
      await admin('POST', `/${name}/rotate-secret`),
    ]
    const [first] = answers
    expect(first?.body.authentication).toMatchObject({ authorization: true, webhookSecret: true })
    const audit = await registry.request('/api/v1/audit?n=1000')
    const kept = await sql(registry, 'select w::text from webhooks w')
    const text = JSON.stringify([answers, await audit.text(), kept, registry.log])
    for (const value of Object.values(SECRETS)) expect(text).not.toContain(value)
    // A generated secret is only in its own response.
    const generated = answers[4]?.body.secret
    expect(text.split(generated).length).toBe(2)
    expect(text).not.toContain('whsk_')
  })

  it('are not quoted when they are refused', async () => {
    for (const authentication of [
      { secret: 'whsec_tooshort' },
      { secret: 'plain-tooshort' },
      { authorization: 'tooshort\r\nX-Evil: 1' },
      { webhookSecret: ' tooshort ' },
      { webhookSecret: 'tooshort\u20ac' },
      { authorization: `tooshort${'x'.repeat(4096)}` },
    ]) {
      const answer = await admin('POST', '', webhookRequest({ authentication }))
      expect(answer.status).toBe(400)
      expect(errorMessage(answer, 'REQUEST_INVALID')).not.toContain('tooshort')
    }
  })

  it('are encrypted with the master key', async () => {
    const { name, secret } = await createWebhookAs(admin)
    const [row] = await sql<{ jwe: string }>(
      registry,
      'select secrets_jwe as jwe from webhooks where name = $1',
      [name],
    )
    const mint = await openTokenMinter(registry)
    const state = { db: mint.db, dataFolder: registry.folder }
    const { masterKey } = await openSigningKeys(state, parseConfig(registry.settings))
    const opened = JSON.parse((await masterKey.decrypt(row?.jwe ?? '')) ?? '')
    await mint.close()
    expect(opened.signing).toEqual([{ secret, until: null }])
    expect(readFileSync(`${registry.folder}/master-key`, 'utf8')).not.toContain(secret)
  })

  it('are rotated: the earlier one keeps signing for a while', async () => {
    const { name, secret: first } = await createWebhookAs(admin)
    const path = `/${name}/rotate-secret`
    const started = Date.now()
    const { status, body } = await admin('POST', path, { overlapSeconds: 3600 })
    expect(status).toBe(200)
    expect(body.secret).not.toBe(first)
    const [until = ''] = body.authentication.earlierUntil
    expect(Math.abs(Date.parse(until) - started - 3_600_000)).toBeLessThan(60_000)
    const given = `whsec_${Buffer.alloc(32, 9).toString('base64')}`
    const { body: second } = await admin('POST', path, { secret: given })
    expect(second.secret).toBe(given)
    // The end of the first secret stays; the default of a day applies to the second.
    expect(second.authentication.earlierUntil).toHaveLength(2)
    expect(second.authentication.earlierUntil).toContain(until)
    const { body: none } = await admin('POST', path, { overlapSeconds: 0 })
    expect(none.authentication.earlierUntil).toEqual([])
  })

  it('are at most four at once, and never the same twice', async () => {
    const { name, secret } = await createWebhookAs(admin)
    const path = `/${name}/rotate-secret`
    const same = await admin('POST', path, { secret })
    expect(errorMessage(same, 'REQUEST_INVALID')).toContain('secret is in use already')
    for (let round = 0; round < 2; round += 1) expect((await admin('POST', path)).status).toBe(200)
    const third = await admin('POST', path)
    expect(third.status).toBe(409)
    expect(errorMessage(third, 'CONFLICT')).toContain('overlapSeconds 0')
  })

  it.each([-1, 1.5, 2_592_001, '1d'])('do not overlap for %s seconds', async (overlapSeconds) => {
    const { name } = await createWebhookAs(admin)
    const answer = await admin('POST', `/${name}/rotate-secret`, { overlapSeconds })
    expect(answer.status).toBe(400)
    expect(errorMessage(answer, 'REQUEST_INVALID')).toContain('overlapSeconds')
  })

  it('are replaced by a rotation when the master key has changed', async () => {
    const authentication = { authorization: 'Bearer x', signatures: ['v1a'] }
    const { name } = await createWebhookAs(admin, { authentication })
    await sql(registry, "update webhooks set secrets_jwe = 'of another key' where name = $1", [
      name,
    ])
    const { body: lost } = await admin('GET', `/${name}`)
    expect(lost.authentication).toMatchObject({ readable: false, authorization: false })
    expect((await admin('PATCH', `/${name}`, { description: 'x' })).status).toBe(200)
    const refused = await admin('PATCH', `/${name}`, { authentication: { authorization: 'y' } })
    expect(refused.status).toBe(409)
    expect(errorMessage(refused, 'CONFLICT')).toContain(
      'another master key: rotate its secret first',
    )
    const { status, body } = await admin('POST', `/${name}/rotate-secret`)
    expect(status).toBe(200)
    expect(body.authentication).toMatchObject({
      readable: true,
      authorization: false,
      publicKey: expect.stringMatching(/^whpk_/),
    })
  })

  it('must be given again when the URL changes', async () => {
    for (const authentication of [{ authorization: 'Bearer x' }, { webhookSecret: 'x' }]) {
      const [field = ''] = Object.keys(authentication)
      const { name } = await createWebhookAs(admin, { authentication })
      const moved = { url: 'https://elsewhere.example/hook' }
      const refused = await admin('PATCH', `/${name}`, moved)
      expect(refused.status).toBe(400)
      expect(errorMessage(refused, 'REQUEST_INVALID')).toContain(
        `authentication.${field} must be given`,
      )
      const within = await admin('PATCH', `/${name}`, { url: 'https://receiver.example/other' })
      expect(within.status).toBe(400)
      const given = await admin('PATCH', `/${name}`, { ...moved, authentication })
      expect(given.body.authentication).toMatchObject({ [field]: true })
      const without = { url: 'https://third.example/', authentication: { [field]: null } }
      expect((await admin('PATCH', `/${name}`, without)).body.authentication).toMatchObject({
        [field]: false,
      })
    }
  })
})

it('every change is in the audit log, with its actor', async () => {
  const { name } = await createWebhookAs(admin)
  await admin('PATCH', `/${name}`, { paused: true })
  await admin('POST', `/${name}/rotate-secret`)
  await admin('DELETE', `/${name}`)
  const answer = await registry.request('/api/v1/audit?n=10&actor=admin')
  const { entries } = (await answer.json()) as { entries: { action: string; detail: string }[] }
  const actions = entries.filter(({ detail }) => detail === name).map(({ action }) => action)
  expect(actions).toEqual([
    'remove-webhook',
    'rotate-webhook-secret',
    'update-webhook',
    'create-webhook',
  ])
})

it('every change invalidates the caches', async () => {
  const count = async () => {
    const [row] = await sql<{ count: string }>(registry, 'select count from webhook_changes')
    return Number(row?.count)
  }
  const name = newName()
  let before = await count()
  for (const [method, path, sent] of [
    ['POST', '', webhookRequest({ name })],
    ['PATCH', `/${name}`, {}],
    ['POST', `/${name}/rotate-secret`, undefined],
    ['DELETE', `/${name}`, undefined],
  ] as const) {
    await admin(method, path, sent)
    const after = await count()
    expect(after).toBeGreaterThan(before)
    before = after
  }
})

it('an anonymous caller is asked to authenticate', async () => {
  const anonymous = webhookClient(registry, undefined)
  for (const [method, path] of [
    ['GET', ''],
    ['POST', ''],
    ['GET', '/none'],
    ['DELETE', '/none'],
  ] as const) {
    expect((await anonymous(method, path)).status).toBe(401)
  }
})

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential, sql } from '../auth/credentials-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { call, listAll, type RequestFunction } from './described-request.ts'
import { seen } from './expect-answer.ts'
import { OPERATIONS, partsOf } from './openapi-document.ts'
import { isWebhook } from './wrong-requests.ts'

let registry: TestRegistry
let admin: RequestFunction

const PATH = '/api/v1/webhooks'
const EVENT = '0c5d8f0e-6f0e-4d0a-9b57-6d7c5f9a1b2c'

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_PUBLIC_URL: 'https://registry.example' })
  admin = registry.request
})
afterAll(() => registry.close())

let names = 0
async function createWebhook(more: Record<string, unknown> = {}): Promise<string> {
  names += 1
  const request = {
    name: `hook-${names}`,
    url: 'https://receiver.example/hook',
    repositories: ['a/**'],
    ...more,
  }
  const { status, headers } = await call(admin, 'POST', PATH, request)
  expect(status).toBe(201)
  return headers.get('location') ?? ''
}

async function expectStatus(
  status: number,
  ask: RequestFunction,
  method: string,
  path: string,
  sent?: unknown,
) {
  const answer = await call(ask, method, path, sent)
  expect({ path, status: answer.status }).toEqual({ path, status })
}

/** Inserts an event with a delivery to a webhook, and the response. */
async function insertDelivery(
  webhook: string,
  event: string,
  status: number | null,
): Promise<void> {
  await sql(
    registry,
    `with next as (
       update feed
          set position = position + 1
       returning position
     ), event as (
       insert into events (position, event_id, type, occurred_at, body)
       select position, $2, 'webhook.disabled', now(), '{"subject":"other"}'
         from next
     ), delivery as (
       insert into deliveries (webhook_id, event_position, state, round_attempts, attempts, finished_at)
       select w.id, p.position, case when $3::int = 200 then 'delivered' else 'failed' end, 1, 1, now()
         from next p, webhooks w
        where w.name = $1
       returning webhook_id, event_position
     )
     insert into delivery_attempts (webhook_id, event_position, attempt, milliseconds, status, error,
                                    request_headers, response_headers, response_body)
     select webhook_id, event_position, 1, 12, $3::int, case when $3::int = 200 then null else 'no' end,
            '{"webhook-id":"x"}', case when $3::int is null then null else '{"server":"x"}'::jsonb end,
            case when $3::int is null then null else 'thanks' end
       from delivery`,
    [webhook.replace(`${PATH}/`, ''), event, status],
  )
}

describe('responses about webhooks match the API description', () => {
  it('for every setting', async () => {
    await createWebhook()
    await createWebhook({
      tags: ['v*'],
      types: ['image.tag.updated', 'webhook.disabled'],
      format: 'docker',
      authentication: {
        signatures: ['v1a', 'x-signature', 'x-hub-signature-256'],
        secret: `whsec_${Buffer.alloc(64, 1).toString('base64')}`,
        webhookSecret: 'hush',
        oidcAudience: 'flux',
      },
      headers: { 'x-team': 'kernels' },
      description: 'For people.\n',
      maxAgeSeconds: 60,
      coalesceTags: true,
      paused: true,
    })
    await createWebhook({ types: ['image.tag.updated'], body: { a: ['{{tag}}', 7, null] } })
    const path = await createWebhook({ authentication: { authorization: 'Bearer x' } })
    expect((await call(admin, 'GET', path)).status).toBe(200)
    const changes = [
      {},
      { paused: true, tags: ['v1'], authentication: { webhookSecret: 'x' } },
      {
        paused: false,
        tags: null,
        types: null,
        format: null,
        body: null,
        authentication: {
          signatures: null,
          authorization: null,
          webhookSecret: null,
          oidcAudience: null,
        },
        headers: null,
        description: null,
        maxAgeSeconds: null,
        coalesceTags: null,
      },
    ]
    for (const change of changes) {
      expect((await call(admin, 'PATCH', path, change)).status).toBe(200)
    }
    expect(await listAll(admin, `${PATH}?n=1`, 'webhooks')).toHaveLength(4)
    await expectStatus(204, admin, 'DELETE', path)
  })

  it('in every state of health', async () => {
    const path = await createWebhook()
    await sql(
      registry,
      `insert into webhook_health (webhook_id, failures, failing_since, open_until, succeeded_at, failed_at)
       select id, 3, now(), now(), now(), now()
         from webhooks`,
    )
    await sql(registry, "update webhooks set state = 'disabled', disabled_reason = 'gone: bye'")
    expect((await call(admin, 'GET', path)).body).toMatchObject({ state: 'disabled' })
  })

  it('after a rotation', async () => {
    const path = `${await createWebhook()}/rotate-secret`
    const secret = `whsec_${Buffer.alloc(24, 2).toString('base64')}`
    for (const sent of [undefined, {}, { overlapSeconds: 0 }, { secret, overlapSeconds: 60 }]) {
      await expectStatus(200, admin, 'POST', path, sent)
    }
  })

  it('after a test', async () => {
    const path = await createWebhook()
    const { status, body } = await call(admin, 'POST', `${path}/test`)
    expect({ status, body }).toEqual({ status: 202, body: { event: expect.any(String) } })
    const deliveries = () => listAll(admin, `${path}/deliveries`, 'deliveries')
    await expect.poll(deliveries).toMatchObject([{ event: body.event, type: 'webhook.ping' }])
  })

  it('with deliveries and redeliveries', async () => {
    const path = await createWebhook()
    const others = [EVENT.replace('0', '1'), EVENT.replace('0', '2')]
    await insertDelivery(path, EVENT, 200)
    await insertDelivery(path, others[0] ?? '', 500)
    await insertDelivery(path, others[1] ?? '', null)
    const all = await listAll(admin, `${path}/deliveries?n=2`, 'deliveries')
    expect(all).toMatchObject([
      { event: others[1], state: 'failed', status: null, error: 'no', subject: 'other' },
      { event: others[0], state: 'failed', status: 500 },
      { event: EVENT, state: 'delivered', status: 200, error: null, attempts: 1 },
    ])
    expect(await listAll(admin, `${path}/deliveries?state=delivered`, 'deliveries')).toHaveLength(1)
    const answers = [null, null, 'thanks']
    for (const event of [EVENT, ...others]) {
      const { body } = await call(admin, 'GET', `${path}/deliveries/${event}`)
      expect(body).toMatchObject({ event, body: '{"subject":"other"}', attemptLog: [{}] })
    }
    expect(answers).toContain('thanks')
    await expectStatus(202, admin, 'POST', `${path}/deliveries/${EVENT}/redeliver`)
    const range = {
      after: '2026-01-01T00:00:00Z',
      until: '2100-01-01T00:00:00Z',
      states: ['failed'],
    }
    const again = await call(admin, 'POST', `${path}/redeliver`, range)
    expect(again).toMatchObject({ status: 202, body: { next: null } })
  })
})

describe('refusals of webhook operations match the API description', () => {
  const holder = async (actions: string[], repositories = ['a/**']): Promise<RequestFunction> => {
    const { name, secret } = await makeCredential(registry, { repositories, actions })
    return (path, init = {}) => {
      const headers = { ...init.headers, authorization: basic(name, secret) }
      return registry.anonymous(path, { ...init, headers })
    }
  }

  it('403 for repositories outside the credential', async () => {
    const path = await createWebhook()
    const settings = await holder(['admin'])
    const request = { name: 'beyond', url: 'https://receiver.example/', repositories: ['a/b'] }
    await expectStatus(403, settings, 'POST', PATH, request)
    await expectStatus(403, settings, 'PATCH', path, { paused: true })
    await expectStatus(403, settings, 'POST', `${path}/rotate-secret`)
  })

  it('409 for a name in use, and for a state that does not permit the operation', async () => {
    const path = await createWebhook({ paused: true })
    const request = { name: path.replace(`${PATH}/`, ''), url: 'https://a.example/' }
    await expectStatus(409, admin, 'POST', PATH, { ...request, repositories: ['a'] })
    await expectStatus(409, admin, 'POST', `${path}/test`)
    for (const status of [200, 200, 409]) {
      await expectStatus(status, admin, 'POST', `${path}/rotate-secret`)
    }
    await sql(registry, "update webhooks set secrets_jwe = 'of another key'")
    await expectStatus(409, admin, 'PATCH', path, { authentication: { signatures: [] } })
  })
})

it('every described response of webhook operations was seen', () => {
  const described = OPERATIONS.filter(isWebhook).flatMap(({ method, path, place }) =>
    partsOf(place, 'responses')
      .filter(([status]) => /^2|403|409/.test(status))
      .map(([status]) => `${method} ${path} ${status}`),
  )
  expect(described.length).toBeGreaterThan(15)
  expect(described.filter((one) => !seen.has(one))).toEqual([])
})

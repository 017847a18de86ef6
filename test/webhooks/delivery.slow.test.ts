import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { Receivers, respondWith, waitForRequests } from './receiver.ts'
import {
  createWebhook,
  type DeliveryJson,
  listDeliveries,
  requestWebhooks,
  waitForEndedDeliveries,
} from './webhook-client.ts'

let registry: TestRegistry
let client: pg.Client
const receivers = new Receivers()
const receive = receivers.start

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1' })
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
})

afterEach(async () => {
  await receivers.close()
})

afterAll(async () => {
  await client.end()
  await registry.close()
})

const ended = (name: string, count: number) => waitForEndedDeliveries(registry, name, count)
const deliveries = (name: string) => listDeliveries(registry, name)
const tagUpdates = { types: ['image.tag.updated'] }
/** Makes pending retries due now. */
const retryNow = () =>
  client.query(`update deliveries set due_at = now() where state = 'pending' and lease is null`)

describe('a delivery', () => {
  it('is sent once, and the API returns its request and response without secrets', async () => {
    const receiver = await receive((_, res) => {
      res.writeHead(202, { 'x-received': 'yes' }).end('thank you')
    })
    const repository = newRepository()
    const { name } = await createWebhook(registry, `${receiver.url}/hook?a=b`, repository, {
      ...tagUpdates,
      headers: { 'X-Team': 'falcons' },
      authentication: { authorization: 'Bearer s3cret', webhookSecret: 'hush' },
    })
    await pushImage(registry, repository, 'live')
    const [delivery] = await ended(name, 1)
    expect(receiver.received).toHaveLength(1)
    expect(receiver.received[0]).toMatchObject({
      path: '/hook?a=b',
      headers: { authorization: 'Bearer s3cret', 'x-webhook-secret': 'hush', 'x-team': 'falcons' },
    })
    expect(delivery).toMatchObject({ state: 'delivered', attempts: 1, status: 202, error: null })
    const { body } = await requestWebhooks(
      registry,
      'GET',
      `/${name}/deliveries/${delivery?.event}`,
    )
    expect(body.attemptLog).toMatchObject([
      {
        status: 202,
        request: { headers: { 'webhook-id': delivery?.event, authorization: 'Bearer …' } },
        response: { headers: { 'x-received': 'yes' }, body: 'thank you' },
      },
    ])
    expect(JSON.stringify(body)).not.toMatch(/s3cret|hush|falcons/)
    expect(body.body).toBe(receiver.received[0]?.body)
  })

  it('that fails is sent again with the same id and body', async () => {
    const receiver = await receive(respondWith(500))
    const repository = newRepository()
    const { name } = await createWebhook(registry, receiver.url, repository, tagUpdates)
    await pushImage(registry, repository, 'live')
    await waitForRequests(receiver, 1)
    await expect
      .poll(() => deliveries(name))
      .toMatchObject([{ state: 'pending', attempts: 1, status: 500 }])
    const [{ dueAt }] = (await deliveries(name)) as [DeliveryJson]
    const seconds = (new Date(dueAt ?? '').getTime() - Date.now()) / 1000
    expect(seconds).toBeLessThan(2.5)
    receiver.respond = (_, res) => res.writeHead(200).end()
    await waitForRequests(receiver, 2)
    const [first, second] = receiver.received
    expect(second?.headers['webhook-id']).toBe(first?.headers['webhook-id'])
    expect(second?.body).toBe(first?.body)
    expect(await ended(name, 1)).toMatchObject([{ state: 'delivered', attempts: 2 }])
  })

  it.each([
    ['a number of seconds', '3600', 3600],
    ['a date', () => new Date(Date.now() + 7_200_000).toUTCString(), 7200],
    ['neither of them', 'soon', 2],
    ['more than a day', '900000', 86_400],
  ])('waits as long as Retry-After: %s', async (_, header, seconds) => {
    const text = typeof header === 'string' ? header : header()
    const receiver = await receive(respondWith(429, { 'retry-after': text }))
    const repository = newRepository()
    const { name } = await createWebhook(registry, receiver.url, repository, tagUpdates)
    await pushImage(registry, repository, 'live')
    await expect.poll(async () => (await deliveries(name))[0]?.attempts).toBeGreaterThan(0)
    const [delivery] = await deliveries(name)
    const wait = (new Date(delivery?.dueAt ?? '').getTime() - Date.now()) / 1000
    expect(wait).toBeGreaterThan(seconds * 0.75 - 2)
    // There may be a second attempt already.
    expect(wait).toBeLessThan(seconds * 1.25 + 5)
  })

  it('does not follow redirects, and has the reason', async () => {
    const elsewhere = await receive()
    const receiver = await receive(respondWith(307, { location: elsewhere.url }))
    const repository = newRepository()
    const { name } = await createWebhook(registry, receiver.url, repository, tagUpdates)
    await pushImage(registry, repository, 'live')
    await expect
      .poll(async () => (await deliveries(name))[0]?.error)
      .toBe('the receiver answered 307: redirects are not followed')
    expect(elsewhere.received).toEqual([])
  })

  it('fails after its last attempt, and can be redelivered', async () => {
    const receiver = await receive(respondWith(503))
    const repository = newRepository()
    const settings = { ...tagUpdates, paused: true }
    const { name } = await createWebhook(registry, receiver.url, repository, settings)
    await pushImage(registry, repository, 'live')
    await expect.poll(() => deliveries(name)).toHaveLength(1)
    await client.query(`update deliveries set round_attempts = 12 where state = 'pending'`)
    await client.query(
      `update events
          set occurred_at = now() - interval '4 days'
        where repository_id = (select id from repositories where name = $1)`,
      [repository],
    )
    await requestWebhooks(registry, 'PATCH', `/${name}`, { paused: false })
    const [failed] = await ended(name, 1)
    expect(failed).toMatchObject({ state: 'failed', status: 503, dueAt: null })
    receiver.respond = (_, res) => res.writeHead(200).end()
    const path = `/${name}/deliveries/${failed?.event}/redeliver`
    expect((await requestWebhooks(registry, 'POST', path)).status).toBe(202)
    await expect.poll(async () => (await deliveries(name))[0]?.state).toBe('delivered')
    const ids = receiver.received.map(({ headers }) => headers['webhook-id'])
    expect(new Set(ids)).toEqual(new Set([failed?.event]))
  })

  it('that is older than maxAgeSeconds is not sent, except when a user redelivers it', async () => {
    const receiver = await receive(respondWith(500, { 'retry-after': '3600' }))
    const repository = newRepository()
    const more = { ...tagUpdates, maxAgeSeconds: 3600 }
    const { name } = await createWebhook(registry, receiver.url, repository, more)
    await pushImage(registry, repository, 'live')
    await expect.poll(async () => (await deliveries(name))[0]?.attempts).toBe(1)
    await client.query(
      `update events
          set occurred_at = now() - interval '61 minutes'
        where repository_id = (select id from repositories where name = $1)`,
      [repository],
    )
    await retryNow()
    const [late] = await ended(name, 1)
    expect(late).toMatchObject({ state: 'expired', attempts: 1 })
    receiver.respond = (_, res) => res.writeHead(200).end()
    await requestWebhooks(registry, 'POST', `/${name}/deliveries/${late?.event}/redeliver`)
    await expect.poll(async () => (await deliveries(name))[0]?.state).toBe('delivered')
  })

  it('of a superseded tag update is skipped with coalesceTags', async () => {
    const receiver = await receive(respondWith(500))
    const repository = newRepository()
    const more = { ...tagUpdates, coalesceTags: true }
    const { name } = await createWebhook(registry, receiver.url, repository, more)
    const all = await createWebhook(registry, receiver.url, repository, tagUpdates)
    await pushImage(registry, repository, 'live')
    await waitForRequests(receiver, 2)
    receiver.respond = (_, res) => res.writeHead(200).end()
    await pushImage(registry, repository, 'live')
    await pushImage(registry, repository, 'other')
    await retryNow()
    const states = (shown: DeliveryJson[]) => shown.map(({ state }) => state)
    const listed = await ended(name, 3)
    expect(states(listed)).toEqual(['delivered', 'delivered', 'superseded'])
    expect(states(await ended(all.name, 3))).toEqual(['delivered', 'delivered', 'delivered'])
    // A redelivery of one event sends it; a redelivery of a range sends the latest update of each tag.
    await requestWebhooks(registry, 'POST', `/${name}/deliveries/${listed[2]?.event}/redeliver`)
    await expect.poll(async () => (await deliveries(name))[2]?.state).toBe('delivered')
    await requestWebhooks(registry, 'PATCH', `/${name}`, { paused: true })
    await requestWebhooks(registry, 'POST', `/${name}/redeliver`, { after: '2000-01-01T00:00:00Z' })
    await requestWebhooks(registry, 'PATCH', `/${name}`, { paused: false })
    expect(states(await ended(name, 3))).toEqual(['delivered', 'delivered', 'superseded'])
  })

  it('is not superseded by an update that the webhook does not receive', async () => {
    const receiver = await receive()
    const repository = newRepository()
    const settings = { ...tagUpdates, coalesceTags: true, tags: ['v*'], paused: true }
    const { name } = await createWebhook(registry, receiver.url, repository, settings)
    await pushImage(registry, repository, 'v1')
    await expect.poll(() => deliveries(name)).toHaveLength(1)
    await requestWebhooks(registry, 'PATCH', `/${name}`, { tags: ['live'] })
    await pushImage(registry, repository, 'v1')
    // Its position is after that of the update before it.
    await pushImage(registry, repository, 'live')
    await expect.poll(() => deliveries(name)).toHaveLength(2)
    await requestWebhooks(registry, 'PATCH', `/${name}`, { tags: ['v*'], paused: false })
    expect(await ended(name, 2)).toMatchObject([{ state: 'delivered' }, { state: 'delivered' }])
  })

  it('in the docker format has the same id and the same bytes in each attempt', async () => {
    const receiver = await receive(respondWith(500))
    const repository = newRepository()
    const more = { ...tagUpdates, format: 'docker' }
    const { name } = await createWebhook(registry, receiver.url, repository, more)
    await pushImage(registry, repository, 'live')
    await waitForRequests(receiver, 1)
    receiver.respond = (_, res) => res.writeHead(200).end()
    await ended(name, 1)
    const [first, second] = receiver.received
    expect(first?.headers['content-type']).toBe(
      'application/vnd.docker.distribution.events.v1+json',
    )
    expect(second?.body).toBe(first?.body)
    const { events } = JSON.parse(first?.body ?? '')
    expect(events).toMatchObject([{ id: first?.headers['webhook-id'], target: { tag: 'live' } }])
  })

  it('ends when a receiver never ends its response', async () => {
    const receiver = await receive((_, res) => {
      res.writeHead(200)
      const more = setInterval(() => res.write('x'.repeat(10_000)), 5)
      res.on('close', () => clearInterval(more))
    })
    const repository = newRepository()
    const { name } = await createWebhook(registry, receiver.url, repository, tagUpdates)
    await pushImage(registry, repository, 'live')
    const [delivery] = await ended(name, 1)
    expect(delivery).toMatchObject({ state: 'delivered' })
    const { body } = await requestWebhooks(
      registry,
      'GET',
      `/${name}/deliveries/${delivery?.event}`,
    )
    const [attempt] = body.attemptLog as unknown as { response: { body: string } }[]
    expect(attempt?.response.body).toHaveLength(4096)
  })
})

describe('a webhook', () => {
  it('whose receiver answers 410 is disabled, and administrators receive an event', async () => {
    const administrator = await receive()
    await createWebhook(registry, administrator.url, 'none', { types: ['webhook.disabled'] })
    const receiver = await receive(respondWith(410))
    const repository = newRepository()
    const { name } = await createWebhook(registry, receiver.url, repository, tagUpdates)
    await pushImage(registry, repository, 'live')
    await waitForRequests(administrator, 1)
    expect(JSON.parse(administrator.received[0]?.body ?? '')).toMatchObject({
      type: 'webhook.disabled',
      data: { webhook: name, reason: 'gone' },
    })
    const { body } = await requestWebhooks(registry, 'GET', `/${name}`)
    expect(body).toMatchObject({ state: 'disabled', disabledReason: expect.stringMatching(/410/) })
    await pushImage(registry, repository, 'next')
    await retryNow()
    await new Promise((resolve) => setTimeout(resolve, 1_500))
    expect(receiver.received).toHaveLength(1)
    // Its deliveries are still pending.
    receiver.respond = (_, res) => res.writeHead(200).end()
    await requestWebhooks(registry, 'PATCH', `/${name}`, { paused: false })
    expect(await ended(name, 2)).toMatchObject([{ state: 'delivered' }, { state: 'delivered' }])
  })

  it('that keeps failing is paused, and then attempted by one delivery at a time', async () => {
    const receiver = await receive(respondWith(500))
    const repository = newRepository()
    const { name } = await createWebhook(registry, receiver.url, repository, tagUpdates)
    for (let count = 0; count < 6; count += 1) await pushImage(registry, repository, `t${count}`)
    const health = async () => (await requestWebhooks(registry, 'GET', `/${name}`)).body.health
    await expect.poll(health).toMatchObject({ retryingAt: expect.any(String) })
    const before = receiver.received.length
    await retryNow()
    await new Promise((resolve) => setTimeout(resolve, 1_500))
    expect(receiver.received).toHaveLength(before)
    // After the open time one delivery is attempted; its success releases the others.
    receiver.respond = (_, res) => res.writeHead(200).end()
    await client.query(
      `update webhook_health set open_until = now()
        where webhook_id = (select id from webhooks where name = $1)`,
      [name],
    )
    const shown = await ended(name, 6)
    expect(shown.every(({ state }) => state === 'delivered')).toBe(true)
    expect(await health()).toMatchObject({ failures: 0, retryingAt: null })
  })

  it('that failed for five days is disabled by the next failure, and not before', async () => {
    const receiver = await receive(respondWith(500))
    const repository = newRepository()
    const { name } = await createWebhook(registry, receiver.url, repository, tagUpdates)
    const since = (days: number) =>
      client.query(
        `update webhook_health
            set failing_since = now() - make_interval(days => $2), open_until = null, failures = 1
          where webhook_id = (select id from webhooks where name = $1)`,
        [name, days],
      )
    const state = async () => (await requestWebhooks(registry, 'GET', `/${name}`)).body.state
    await pushImage(registry, repository, 'live')
    await waitForRequests(receiver, 1)
    await expect.poll(async () => (await deliveries(name))[0]?.attempts).toBe(1)
    await since(4)
    await retryNow()
    await waitForRequests(receiver, 2)
    await expect.poll(async () => (await deliveries(name))[0]?.attempts).toBe(2)
    expect(await state()).toBe('active')
    await since(6)
    await retryNow()
    await expect.poll(state).toBe('disabled')
    expect((await deliveries(name))[0]).toMatchObject({ state: 'pending' })
  })

  it('that is paused keeps its deliveries', async () => {
    const receiver = await receive()
    const repository = newRepository()
    const { name } = await createWebhook(registry, receiver.url, repository, {
      ...tagUpdates,
      paused: true,
    })
    await pushImage(registry, repository, 'live')
    await expect.poll(async () => (await deliveries(name)).length).toBe(1)
    await new Promise((resolve) => setTimeout(resolve, 1_200))
    expect(receiver.received).toEqual([])
    await requestWebhooks(registry, 'PATCH', `/${name}`, { paused: false })
    await waitForRequests(receiver, 1)
  })

  it('whose receiver hangs does not delay others', async () => {
    const hanging = await receive(() => {})
    const quick = await receive()
    const repository = newRepository()
    for (let count = 0; count < 3; count += 1) {
      await createWebhook(registry, hanging.url, repository, tagUpdates)
    }
    await createWebhook(registry, quick.url, repository, tagUpdates)
    for (let count = 0; count < 20; count += 1) await pushImage(registry, repository, `t${count}`)
    await waitForRequests(quick, 20, 5)
    expect(hanging.received.length).toBeLessThanOrEqual(24)
  })

  it('in a network that is not allowed receives nothing, and the log has the reason', async () => {
    const repository = newRepository()
    const { name } = await createWebhook(registry, 'http://127.0.0.1:4/', repository, tagUpdates)
    await client.query(`update webhooks set url = 'http://127.0.0.2:4/' where name = $1`, [name])
    await client.query('update webhook_changes set count = count + 1')
    await pushImage(registry, repository, 'live')
    await expect
      .poll(async () => (await deliveries(name))[0]?.error)
      .toMatch(/127\.0\.0\.2.* is neither a public address.*ROOKERY_WEBHOOK_ALLOW_NETWORKS/)
  })
})

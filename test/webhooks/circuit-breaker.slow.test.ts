import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { recordFailures } from '../../src/db/webhooks/health.ts'
import { DeliveryFixture, type TestEvent, type TestWebhook } from './delivery-fixture.ts'
import { Receivers, type Responder, respondWith, waitForRequests } from './receiver.ts'

let fixture: DeliveryFixture
const receivers = new Receivers()
const receive = receivers.start

beforeAll(async () => {
  fixture = await DeliveryFixture.open()
})

afterEach(async () => {
  await fixture.clear()
  await receivers.close()
})

afterAll(() => fixture.close())

const ACCEPT: Responder = (_, res) => void res.writeHead(204).end()

async function events(webhook: TestWebhook, count: number): Promise<TestEvent[]> {
  const made: TestEvent[] = []
  for (let index = 0; index < count; index += 1) made.push(await fixture.event([webhook]))
  return made
}

async function waitFor(milliseconds: number): Promise<void> {
  const until = performance.now() + milliseconds
  await expect.poll(() => performance.now() > until, { timeout: 2 * milliseconds }).toBe(true)
}

/** Ends the time that the circuit stays open. */
async function endOpenTime(webhook: TestWebhook): Promise<void> {
  await fixture.client.query(
    `update webhook_health set open_until = now() - interval '1 second' where webhook_id = $1`,
    [webhook.id],
  )
}

it('five consecutive failures open the circuit, and the other deliveries use no attempts', async () => {
  const receiver = await receive(respondWith(500))
  const webhook = await fixture.webhook({ url: receiver.url })
  const waiting = await events(webhook, 20)
  fixture.startWorker({ retrySeconds: [0, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01] })
  await expect.poll(async () => (await fixture.health(webhook))?.failures).toBe(5)
  const health = await fixture.health(webhook)
  expect(health).toMatchObject({ failing: true })
  expect(health?.openFor).toBeGreaterThan(22)
  expect(health?.openFor).toBeLessThan(31)
  await waitFor(300)
  expect(receiver.received).toHaveLength(5)
  let attempts = 0
  for (const event of waiting) {
    const delivery = await fixture.delivery(webhook, event)
    expect(delivery.state).toBe('pending')
    attempts += delivery.roundAttempts
  }
  expect(attempts).toBe(5)
})

it('after the open time one delivery is attempted, and no other while it fails', async () => {
  const receiver = await receive(respondWith(500))
  const webhook = await fixture.webhook({ url: receiver.url })
  await events(webhook, 20)
  const options = { retrySeconds: [0, ...Array(20).fill(0.01)] }
  // The circuit is shared by all processes.
  fixture.startWorker(options)
  fixture.startWorker(options)
  await expect.poll(async () => (await fixture.health(webhook))?.openFor ?? 0).toBeGreaterThan(20)
  await waitFor(200)
  const before = receiver.received.length
  const failures = (await fixture.health(webhook))?.failures ?? 0
  for (let probe = 1; probe <= 3; probe += 1) {
    await endOpenTime(webhook)
    await waitForRequests(receiver, before + probe)
    // No other delivery is in flight meanwhile. The attempt has ended when its failure is counted.
    await expect.poll(async () => (await fixture.health(webhook))?.failures).toBe(failures + probe)
    await expect.poll(async () => (await fixture.health(webhook))?.openFor ?? 0).toBeGreaterThan(20)
    await waitFor(200)
    expect(receiver.received).toHaveLength(before + probe)
  }
})

it('a success closes the circuit, and all other deliveries are sent immediately', async () => {
  const receiver = await receive(respondWith(500))
  const webhook = await fixture.webhook({ url: receiver.url })
  const waiting = await events(webhook, 50)
  // The next poll is far away, so that only the success can cause the other deliveries.
  const worker = fixture.startWorker({
    pollMilliseconds: 60_000,
    retrySeconds: [0, ...Array(20).fill(0.01)],
  })
  const failed = async () => (await fixture.health(webhook))?.failures ?? 0
  await expect
    .poll(async () => {
      worker.poll()
      return failed()
    })
    .toBeGreaterThanOrEqual(5)
  receiver.respond = ACCEPT
  await endOpenTime(webhook)
  worker.poll()
  for (const event of waiting) await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  expect(await fixture.health(webhook)).toEqual({ failures: 0, failing: false, openFor: null })
})

it('a success between failures resets their count', async () => {
  let count = 0
  const receiver = await receive((_, res) => {
    count += 1
    res.writeHead(count % 3 === 0 ? 204 : 500).end()
  })
  const webhook = await fixture.webhook({ url: receiver.url })
  const all = await events(webhook, 10)
  fixture.startWorker({ retrySeconds: [0, ...Array(50).fill(0.01)] })
  for (const event of all) await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  expect(count).toBeGreaterThan(25)
})

it('a refused ping is sent once, and does not count as a failure of the webhook', async () => {
  const receiver = await receive(respondWith(400))
  const webhook = await fixture.webhook({ url: receiver.url, types: ['webhook.ping'] })
  const ping = await fixture.event([webhook], { type: 'webhook.ping', repository: null, tag: null })
  fixture.startWorker()
  await fixture.waitForDelivery(webhook, ping, { state: 'failed', roundAttempts: 1 })
  expect((await fixture.health(webhook))?.failures ?? 0).toBe(0)
})

it('an open circuit does not delay other webhooks', async () => {
  const receiver = await receive(respondWith(500))
  const fine = await receive()
  const [broken, webhook] = [
    await fixture.webhook({ url: receiver.url }),
    await fixture.webhook({ url: fine.url }),
  ]
  await events(broken, 20)
  fixture.startWorker()
  await expect.poll(async () => (await fixture.health(broken))?.openFor ?? 0).toBeGreaterThan(20)
  const mine = await events(webhook, 20)
  for (const event of mine) await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
})

it('the open time is half a minute however long the receiver is down, or what it requests, up to ten minutes', async () => {
  const webhook = await fixture.webhook({ url: 'http://127.0.0.1:1' })
  const record = (failures: number, retryAfterSeconds = 0, jitter = 0) =>
    recordFailures(fixture.db, [{ webhookId: webhook.id, failures, retryAfterSeconds }], {
      ...{ failuresMax: 5, openSeconds: 30 },
      jitter,
    })
  const openFor = async () => (await fixture.health(webhook))?.openFor
  await record(4)
  expect(await fixture.health(webhook)).toMatchObject({ failures: 4, openFor: null })
  for (const hours of [0, 1, 24, 100]) {
    await fixture.client.query(
      `update webhook_health set failing_since = now() - make_interval(hours => $2)
        where webhook_id = $1`,
      [webhook.id, hours],
    )
    await record(8)
    expect(await openFor(), `${hours} h`).toBeCloseTo(30, -0.5)
  }
  await record(1, 0, 0.2)
  expect(await openFor()).toBeCloseTo(24, -0.5)
  for (const [requested, seconds] of [
    [10, 30],
    [120, 120],
    [86_400, 600],
  ] as const) {
    await record(1, requested)
    expect(await openFor(), `${requested} s`).toBeCloseTo(seconds, -0.5)
  }
})

it('a receiver that was down for hours gets all that waits, in order, within seconds of its return', async () => {
  const receiver = await receive(respondWith(503))
  const webhook = await fixture.webhook({ url: receiver.url })
  const waiting = await events(webhook, 30)
  fixture.startWorker({ retrySeconds: [0, ...Array(12).fill(3 * 3600)] })
  await expect.poll(async () => (await fixture.health(webhook))?.failures).toBe(5)
  // All of them have failed by now, and the schedule has hours left.
  await fixture.client.query(
    `update deliveries set round_attempts = 8, due_at = now() + interval '3 hours'
      where webhook_id = $1`,
    [webhook.id],
  )
  const sent = receiver.received.length
  await endOpenTime(webhook)
  await waitForRequests(receiver, sent + 1)
  await expect.poll(async () => (await fixture.health(webhook))?.failures).toBe(6)
  // An attempt before its time is no attempt of the schedule.
  for (const event of waiting) {
    const { roundAttempts, dueIn } = await fixture.delivery(webhook, event)
    expect(roundAttempts).toBe(8)
    expect(dueIn).toBeGreaterThan(10_000)
  }
  receiver.respond = ACCEPT
  await endOpenTime(webhook)
  for (const event of waiting) await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  const order = receiver.received.slice(sent + 1).map(({ headers }) => headers['webhook-id'])
  expect(order).toHaveLength(30)
  // Up to eight are in flight at once.
  for (const [index, id] of order.entries()) {
    const position = waiting.findIndex((event) => event.id === id)
    expect(Math.abs(position - index), `${index}`).toBeLessThanOrEqual(8)
  }
})

it('a delivery that needs no request does not keep the circuit open', async () => {
  const receiver = await receive(respondWith(500))
  const webhook = await fixture.webhook({ url: receiver.url, maxAgeSeconds: 3600 })
  await events(webhook, 5)
  fixture.startWorker({ retrySeconds: [0, ...Array(12).fill(3600)] })
  await expect.poll(async () => (await fixture.health(webhook))?.failures).toBe(5)
  const old = new Date(Date.now() - 7_200_000)
  const expired: TestEvent[] = []
  for (let index = 0; index < 5; index += 1) {
    expired.push(await fixture.event([webhook], { occurredAt: old }))
  }
  const fresh = await fixture.event([webhook])
  receiver.respond = ACCEPT
  await endOpenTime(webhook)
  for (const event of expired) await fixture.waitForDelivery(webhook, event, { state: 'expired' })
  await fixture.waitForDelivery(webhook, fresh, { state: 'delivered' })
})

it('the log of a delivery has its last hundred attempts', async () => {
  const receiver = await receive(respondWith(500))
  const webhook = await fixture.webhook({ url: receiver.url })
  const event = await fixture.event([webhook])
  await fixture.client.query('update deliveries set attempts = 99 where webhook_id = $1', [
    webhook.id,
  ])
  await fixture.client.query(
    `insert into delivery_attempts (webhook_id, event_position, attempt, milliseconds, request_headers)
     select $1, $2, n, 1, '{}'
       from generate_series(1, 99) as n`,
    [webhook.id, event.position],
  )
  fixture.startWorker({ retrySeconds: [0, 0.01, 0.01, 0.01] })
  await fixture.waitForDelivery(webhook, event, { state: 'failed', attempts: 103 })
  const kept = (await fixture.attempts(webhook, event)).map(({ attempt }) => attempt)
  expect(kept).toEqual(Array.from({ length: 100 }, (_, index) => 4 + index))
})

it('health is written rarely while deliveries succeed', async () => {
  const receiver = await receive()
  const webhook = await fixture.webhook({ url: receiver.url })
  fixture.startWorker()
  for (const event of await events(webhook, 30))
    await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  const { rows } = await fixture.client.query<{ xmin: string; fresh: boolean }>(
    `select xmin, succeeded_at > now() - interval '1 minute' as fresh
       from webhook_health
      where webhook_id = $1`,
    [webhook.id],
  )
  expect(rows).toMatchObject([{ fresh: true }])
  for (const event of await events(webhook, 30))
    await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  const again = await fixture.client.query(
    'select xmin from webhook_health where webhook_id = $1',
    [webhook.id],
  )
  expect(again.rows).toEqual([{ xmin: rows[0]?.xmin }])
})

it('a webhook that failed for five days and fails again is disabled, with an event', async () => {
  const receiver = await receive(respondWith(502))
  const webhook = await fixture.webhook({ url: receiver.url })
  const failSince = (interval: string) =>
    fixture.client.query(
      `insert into webhook_health (webhook_id, failures, failing_since)
       values ($1, 3, now() - $2::interval)
           on conflict (webhook_id) do update
          set failing_since = excluded.failing_since`,
      [webhook.id, interval],
    )
  await failSince('4 days 23 hours')
  const event = await fixture.event([webhook])
  fixture.startWorker({ retrySeconds: [0, 0.01, 0.01, 0.01, 0.01] })
  // With the three earlier failures, these open the circuit, so that no delivery is in flight.
  await waitForRequests(receiver, 2)
  await expect.poll(async () => (await fixture.health(webhook))?.failures).toBe(5)
  expect(fixture.disabled).toEqual([])
  await failSince('5 days 1 hour')
  await endOpenTime(webhook)
  await expect.poll(() => fixture.disabled).toEqual([expect.stringMatching(/5 days.*502/)])
  expect(await fixture.listOutbox()).toMatchObject([
    { type: 'webhook.disabled', webhook: webhook.name, reason: 'failing' },
  ])
  expect(await fixture.delivery(webhook, event)).toMatchObject({ finished: false })
})

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { redeliver } from '../../src/db/webhooks/deliveries.ts'
import { DeliveryFixture } from './delivery-fixture.ts'
import { Receivers, type Responder, respondWith, waitForRequests } from './receiver.ts'

let fixture: DeliveryFixture
const receivers = new Receivers()
const receive = receivers.start
/** Keeps the circuit closed. */
const CLOSED = { breakerLimits: { failuresMax: 1000 } }

beforeAll(async () => {
  fixture = await DeliveryFixture.open()
})

afterEach(async () => {
  await fixture.clear()
  await receivers.close()
})

afterAll(() => fixture.close())

const ACCEPT: Responder = (_, res) => void res.writeHead(204).end()

it('a delivery that fails twice is attempted a third time, and the log has all three attempts', async () => {
  const receiver = await receive(respondWith(503))
  const webhook = await fixture.webhook({ url: receiver.url })
  const event = await fixture.event([webhook])
  receiver.respond = (_, res) => {
    res.writeHead(receiver.received.length < 3 ? 503 : 200).end()
  }
  fixture.startWorker(CLOSED)
  await fixture.waitForDelivery(webhook, event, {
    state: 'delivered',
    roundAttempts: 3,
    attempts: 3,
    lease: null,
  })
  const attempts = await fixture.attempts(webhook, event)
  expect(attempts.map(({ attempt, status }) => [attempt, status])).toEqual([
    [1, 503],
    [2, 503],
    [3, 200],
  ])
  expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id']))).toEqual(
    new Set([event.id]),
  )
  expect(fixture.outcomes).toEqual(['failed', 'failed', 'delivered'])
})

it('after the last attempt the delivery has failed, and nothing more is sent', async () => {
  const receiver = await receive(respondWith(500))
  const webhook = await fixture.webhook({ url: receiver.url })
  const event = await fixture.event([webhook])
  fixture.startWorker({ ...CLOSED, retrySeconds: [0, 0.01, 0.01, 0.01] })
  await fixture.waitForDelivery(webhook, event, {
    state: 'failed',
    roundAttempts: 4,
    attempts: 4,
    finished: true,
  })
  const other = await fixture.event([webhook])
  await fixture.waitForDelivery(webhook, other, { state: 'failed' })
  expect(receiver.received).toHaveLength(8)
})

it('the next attempt waits as long as the schedule', async () => {
  const receiver = await receive(respondWith(500))
  const webhook = await fixture.webhook({ url: receiver.url })
  const event = await fixture.event([webhook])
  fixture.startWorker({ ...CLOSED, retrySeconds: [0, 1000] })
  await fixture.waitForDelivery(webhook, event, { state: 'pending', roundAttempts: 1, lease: null })
  const { dueIn } = await fixture.delivery(webhook, event)
  expect(dueIn).toBeGreaterThan(790)
  expect(dueIn).toBeLessThan(1200)
})

it.each([
  [429, '3000', 2990, 3000],
  [503, '3000', 2990, 3000],
  [500, '3000', 2990, 3000],
  [503, new Date(Date.now() + 5_000_000).toUTCString(), 4000, 5000],
  [503, '1', 790, 1200],
  [503, '-5', 790, 1200],
  [503, 'in a while', 790, 1200],
  [503, '999999999', 86_390, 86_400],
])('after status %i with Retry-After: %s the next attempt waits accordingly', async (...row) => {
  const [status, header, min, max] = row
  const receiver = await receive(respondWith(status, { 'retry-after': header }))
  const webhook = await fixture.webhook({ url: receiver.url })
  const event = await fixture.event([webhook])
  fixture.startWorker({ ...CLOSED, retrySeconds: [0, 1000] })
  await fixture.waitForDelivery(webhook, event, { state: 'pending', roundAttempts: 1, lease: null })
  const { dueIn } = await fixture.delivery(webhook, event)
  expect(dueIn).toBeGreaterThan(min)
  expect(dueIn).toBeLessThan(max)
})

it('a receiver that was down gets every event when it is back', async () => {
  const first = await receive()
  const port = Number(new URL(first.url).port)
  await first.close()
  const webhook = await fixture.webhook({ url: first.url })
  const events = []
  for (let count = 0; count < 20; count += 1) events.push(await fixture.event([webhook]))
  fixture.startWorker({
    breakerLimits: { openSeconds: 0.2 },
    retrySeconds: Array(200).fill(0.1),
  })
  await expect.poll(async () => (await fixture.health(webhook))?.failures ?? 0).toBeGreaterThan(5)
  const receiver = await receive(ACCEPT, port)
  for (const event of events) await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  const ids = new Set(receiver.received.map(({ headers }) => headers['webhook-id']))
  expect([...ids].sort()).toEqual(events.map(({ id }) => id).sort())
})

it('410 disables the webhook immediately, with an event, and keeps its deliveries', async () => {
  const receiver = await receive(respondWith(410))
  const webhook = await fixture.webhook({ url: receiver.url })
  let committed = 0
  const event = await fixture.event([webhook])
  fixture.startWorker({
    retrySeconds: [0, 0.01, 0.01],
    onCommitted() {
      committed += 1
    },
  })
  await expect.poll(() => fixture.disabled).toHaveLength(1)
  const later = await fixture.event([webhook])
  const { rows } = await fixture.client.query(
    'select state, disabled_reason as reason from webhooks where id = $1',
    [webhook.id],
  )
  expect(rows).toEqual([{ state: 'disabled', reason: expect.stringMatching(/^gone: .*410/) }])
  expect(await fixture.listOutbox()).toEqual([
    {
      type: 'webhook.disabled',
      webhook: webhook.name,
      reason: 'gone',
      detail: expect.stringContaining('410'),
    },
  ])
  expect(committed).toBe(1)
  // The delivery of another webhook proves that the worker continued.
  const fine = await receive()
  const other = await fixture.webhook({ url: fine.url })
  await fixture.event([other])
  await waitForRequests(fine, 1)
  expect(receiver.received).toHaveLength(1)
  for (const one of [event, later]) {
    expect(await fixture.delivery(webhook, one)).toMatchObject({ state: 'pending' })
  }

  receiver.respond = ACCEPT
  await fixture.client.query(`update webhooks set state = 'active' where id = $1`, [webhook.id])
  await fixture.incrementChangeCount()
  for (const one of [event, later])
    await fixture.waitForDelivery(webhook, one, { state: 'delivered' })
})

it('several concurrent 410 responses cause one event', async () => {
  const receiver = await receive(respondWith(410))
  const webhook = await fixture.webhook({ url: receiver.url })
  for (let count = 0; count < 8; count += 1) await fixture.event([webhook])
  // Two processes, each with one delivery in flight.
  const first = fixture.worker()
  const second = fixture.worker()
  first.start()
  second.start()
  await expect.poll(() => fixture.disabled.length).toBe(1)
  await Promise.all([first.stop(), second.stop()])
  expect(await fixture.listOutbox()).toHaveLength(1)
})

it('a redelivery begins a new round of attempts, and keeps the log', async () => {
  const receiver = await receive(respondWith(500))
  const webhook = await fixture.webhook({ url: receiver.url })
  const event = await fixture.event([webhook])
  const worker = fixture.startWorker(CLOSED)
  await fixture.waitForDelivery(webhook, event, { state: 'failed', roundAttempts: 3, attempts: 3 })
  await fixture.db.transaction((tx) => redeliver(tx, webhook.id, event.position))
  worker.poke([webhook.id])
  await fixture.waitForDelivery(webhook, event, { state: 'failed', roundAttempts: 3, attempts: 6 })
  receiver.respond = ACCEPT
  await fixture.db.transaction((tx) => redeliver(tx, webhook.id, event.position))
  await fixture.waitForDelivery(webhook, event, {
    state: 'delivered',
    roundAttempts: 1,
    attempts: 7,
  })
  const attempts = await fixture.attempts(webhook, event)
  expect(attempts.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4, 5, 6, 7])
})

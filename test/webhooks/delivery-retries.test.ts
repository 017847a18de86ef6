import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { redeliver } from '../../src/db/webhooks/deliveries.ts'
import { DeliveryFixture } from './delivery-fixture.ts'
import { Receivers, type Responder, respondWith, waitForRequests } from './receiver.ts'

let desk: DeliveryFixture
const receivers = new Receivers()
const receive = receivers.start
/** So that the breaker leaves alone nobody of whom these tests speak. */
const PATIENT = { breakerLimits: { failuresMax: 1000 } }

beforeAll(async () => {
  desk = await DeliveryFixture.open()
})

afterEach(async () => {
  await desk.clear()
  await receivers.close()
})

afterAll(() => desk.close())

const ACCEPT: Responder = (_, res) => void res.writeHead(204).end()

it('a receiver that fails twice gets it a third time, and the log has all three', async () => {
  const receiver = await receive(respondWith(503))
  const hook = await desk.webhook({ url: receiver.url })
  const event = await desk.event([hook])
  receiver.answer = (_, res) => {
    res.writeHead(receiver.received.length < 3 ? 503 : 200).end()
  }
  desk.startWorker(PATIENT)
  await desk.waitForDelivery(hook, event, {
    state: 'delivered',
    roundAttempts: 3,
    attempts: 3,
    lease: null,
  })
  const attempts = await desk.attempts(hook, event)
  expect(attempts.map(({ attempt, status }) => [attempt, status])).toEqual([
    [1, 503],
    [2, 503],
    [3, 200],
  ])
  expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id']))).toEqual(
    new Set([event.id]),
  )
  expect(desk.outcomes).toEqual(['failed', 'failed', 'delivered'])
})

it('after the last try it has failed, and nothing more is sent', async () => {
  const receiver = await receive(respondWith(500))
  const hook = await desk.webhook({ url: receiver.url })
  const event = await desk.event([hook])
  desk.startWorker({ ...PATIENT, retrySeconds: [0, 0.01, 0.01, 0.01] })
  await desk.waitForDelivery(hook, event, {
    state: 'failed',
    roundAttempts: 4,
    attempts: 4,
    finished: true,
  })
  const other = await desk.event([hook])
  await desk.waitForDelivery(hook, other, { state: 'failed' })
  expect(receiver.received).toHaveLength(8)
})

it('the next try waits as long as the schedule says', async () => {
  const receiver = await receive(respondWith(500))
  const hook = await desk.webhook({ url: receiver.url })
  const event = await desk.event([hook])
  desk.startWorker({ ...PATIENT, retrySeconds: [0, 1000] })
  await desk.waitForDelivery(hook, event, { state: 'pending', roundAttempts: 1, lease: null })
  const { dueIn } = await desk.delivery(hook, event)
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
])('with status %i and Retry-After: %s it waits accordingly', async (...row) => {
  const [status, header, min, max] = row
  const receiver = await receive(respondWith(status, { 'retry-after': header }))
  const hook = await desk.webhook({ url: receiver.url })
  const event = await desk.event([hook])
  desk.startWorker({ ...PATIENT, retrySeconds: [0, 1000] })
  await desk.waitForDelivery(hook, event, { state: 'pending', roundAttempts: 1, lease: null })
  const { dueIn } = await desk.delivery(hook, event)
  expect(dueIn).toBeGreaterThan(min)
  expect(dueIn).toBeLessThan(max)
})

it('a receiver that was not there gets everything once it is', async () => {
  const first = await receive()
  const port = Number(new URL(first.url).port)
  await first.close()
  const hook = await desk.webhook({ url: first.url })
  const events = []
  for (let count = 0; count < 20; count += 1) events.push(await desk.event([hook]))
  desk.startWorker({
    breakerLimits: { openSecondsMin: 0.2, openSecondsMax: 0.3 },
    retrySeconds: Array(200).fill(0.1),
  })
  await expect.poll(async () => (await desk.health(hook))?.failures ?? 0).toBeGreaterThan(5)
  const receiver = await receive(ACCEPT, port)
  for (const event of events) await desk.waitForDelivery(hook, event, { state: 'delivered' })
  const heard = new Set(receiver.received.map(({ headers }) => headers['webhook-id']))
  expect([...heard].sort()).toEqual(events.map(({ id }) => id).sort())
})

it('410 disables the endpoint at once, which is told, and what it missed is kept', async () => {
  const receiver = await receive(respondWith(410))
  const hook = await desk.webhook({ url: receiver.url })
  let committed = 0
  const event = await desk.event([hook])
  desk.startWorker({
    retrySeconds: [0, 0.01, 0.01],
    onCommitted() {
      committed += 1
    },
  })
  await expect.poll(() => desk.disabled).toHaveLength(1)
  const later = await desk.event([hook])
  const { rows } = await desk.client.query(
    'select state, disabled_reason as reason from webhooks where id = $1',
    [hook.id],
  )
  expect(rows).toEqual([{ state: 'disabled', reason: expect.stringMatching(/^gone: .*410/) }])
  expect(await desk.listOutbox()).toEqual([
    {
      type: 'webhook.disabled',
      webhook: hook.name,
      reason: 'gone',
      detail: expect.stringContaining('410'),
    },
  ])
  expect(committed).toBe(1)
  // Somebody else's delivery shows that the deliverer went on meanwhile.
  const fine = await receive()
  const other = await desk.webhook({ url: fine.url })
  await desk.event([other])
  await waitForRequests(fine, 1)
  expect(receiver.received).toHaveLength(1)
  for (const one of [event, later]) {
    expect(await desk.delivery(hook, one)).toMatchObject({ state: 'pending' })
  }

  receiver.answer = ACCEPT
  await desk.client.query(`update webhooks set state = 'active' where id = $1`, [hook.id])
  await desk.incrementChangeCount()
  for (const one of [event, later]) await desk.waitForDelivery(hook, one, { state: 'delivered' })
})

it('410 to several at once is told once', async () => {
  const receiver = await receive(respondWith(410))
  const hook = await desk.webhook({ url: receiver.url })
  for (let count = 0; count < 8; count += 1) await desk.event([hook])
  // Two processes, each with one under way.
  const first = desk.worker()
  const second = desk.worker()
  first.start()
  second.start()
  await expect.poll(() => desk.disabled.length).toBe(1)
  await Promise.all([first.stop(), second.stop()])
  expect(await desk.listOutbox()).toHaveLength(1)
})

it('a redelivery begins a new round of tries, and the log goes on', async () => {
  const receiver = await receive(respondWith(500))
  const hook = await desk.webhook({ url: receiver.url })
  const event = await desk.event([hook])
  const deliverer = desk.startWorker(PATIENT)
  await desk.waitForDelivery(hook, event, { state: 'failed', roundAttempts: 3, attempts: 3 })
  await desk.db.transaction((tx) => redeliver(tx, hook.id, event.position))
  deliverer.poke([hook.id])
  await desk.waitForDelivery(hook, event, { state: 'failed', roundAttempts: 3, attempts: 6 })
  receiver.answer = ACCEPT
  await desk.db.transaction((tx) => redeliver(tx, hook.id, event.position))
  await desk.waitForDelivery(hook, event, { state: 'delivered', roundAttempts: 1, attempts: 7 })
  const attempts = await desk.attempts(hook, event)
  expect(attempts.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4, 5, 6, 7])
})

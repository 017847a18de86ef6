import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { recordFailures } from '../../src/db/webhooks/health.ts'
import { DeliveryFixture, type TestEvent, type TestWebhook } from './delivery-fixture.ts'
import { Receivers, type Responder, respondWith, waitForRequests } from './receiver.ts'

let desk: DeliveryFixture
const receivers = new Receivers()
const receive = receivers.start

beforeAll(async () => {
  desk = await DeliveryFixture.open()
})

afterEach(async () => {
  await desk.clear()
  await receivers.close()
})

afterAll(() => desk.close())

const ACCEPT: Responder = (_, res) => void res.writeHead(204).end()

async function events(hook: TestWebhook, count: number): Promise<TestEvent[]> {
  const made: TestEvent[] = []
  for (let index = 0; index < count; index += 1) made.push(await desk.event([hook]))
  return made
}

async function passed(milliseconds: number): Promise<void> {
  const until = performance.now() + milliseconds
  await expect.poll(() => performance.now() > until, { timeout: 2 * milliseconds }).toBe(true)
}

/** As if the endpoint had been left alone for long enough. */
async function over(hook: TestWebhook): Promise<void> {
  await desk.client.query(
    `update webhook_health set open_until = now() - interval '1 second' where webhook_id = $1`,
    [hook.id],
  )
}

it('after five failures in a row an endpoint is left alone, and no tries are used up', async () => {
  const receiver = await receive(respondWith(500))
  const hook = await desk.webhook({ url: receiver.url })
  const waiting = await events(hook, 20)
  desk.startWorker({ retrySeconds: [0, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01] })
  await expect.poll(async () => (await desk.health(hook))?.failures).toBe(5)
  const health = await desk.health(hook)
  expect(health).toMatchObject({ failing: true })
  expect(health?.openFor).toBeGreaterThan(28)
  expect(health?.openFor).toBeLessThan(37)
  await passed(300)
  expect(receiver.received).toHaveLength(5)
  let tries = 0
  for (const event of waiting) {
    const delivery = await desk.delivery(hook, event)
    expect(delivery.state).toBe('pending')
    tries += delivery.roundAttempts
  }
  expect(tries).toBe(5)
})

it('then one delivery tries it: while it fails, no other is sent', async () => {
  const receiver = await receive(respondWith(500))
  const hook = await desk.webhook({ url: receiver.url })
  await events(hook, 20)
  const options = { retrySeconds: [0, ...Array(20).fill(0.01)] }
  // The rule holds for all processes together.
  desk.startWorker(options)
  desk.startWorker(options)
  await expect.poll(async () => (await desk.health(hook))?.openFor ?? 0).toBeGreaterThan(20)
  await passed(200)
  const before = receiver.received.length
  const failures = (await desk.health(hook))?.failures ?? 0
  for (let probe = 1; probe <= 3; probe += 1) {
    await over(hook)
    await waitForRequests(receiver, before + probe)
    // While one is under way, nothing else is either: it is over when it is counted.
    await expect.poll(async () => (await desk.health(hook))?.failures).toBe(failures + probe)
    await expect.poll(async () => (await desk.health(hook))?.openFor ?? 0).toBeGreaterThan(20)
    await passed(200)
    expect(receiver.received).toHaveLength(before + probe)
  }
})

it('when that one is taken, everything flows at once', async () => {
  const receiver = await receive(respondWith(500))
  const hook = await desk.webhook({ url: receiver.url })
  const waiting = await events(hook, 50)
  // Only what was noticed at once is sent soon: the next look is far away.
  const deliverer = desk.startWorker({
    pollMilliseconds: 60_000,
    retrySeconds: [0, ...Array(20).fill(0.01)],
  })
  const failed = async () => (await desk.health(hook))?.failures ?? 0
  await expect
    .poll(async () => {
      deliverer.poll()
      return failed()
    })
    .toBeGreaterThanOrEqual(5)
  receiver.answer = ACCEPT
  await over(hook)
  deliverer.poll()
  for (const event of waiting) await desk.waitForDelivery(hook, event, { state: 'delivered' })
  expect(await desk.health(hook)).toEqual({ failures: 0, failing: false, openFor: null })
})

it('one success between failures makes them no row', async () => {
  let count = 0
  const receiver = await receive((_, res) => {
    count += 1
    res.writeHead(count % 3 === 0 ? 204 : 500).end()
  })
  const hook = await desk.webhook({ url: receiver.url })
  const all = await events(hook, 10)
  desk.startWorker({ retrySeconds: [0, ...Array(50).fill(0.01)] })
  for (const event of all) await desk.waitForDelivery(hook, event, { state: 'delivered' })
  expect(count).toBeGreaterThan(25)
})

it('a ping that is refused is sent once, and says nothing of the endpoint', async () => {
  const receiver = await receive(respondWith(400))
  const hook = await desk.webhook({ url: receiver.url, types: ['webhook.ping'] })
  const ping = await desk.event([hook], { type: 'webhook.ping', repository: null, tag: null })
  desk.startWorker()
  await desk.waitForDelivery(hook, ping, { state: 'failed', roundAttempts: 1 })
  expect((await desk.health(hook))?.failures ?? 0).toBe(0)
})

it('others get theirs while one is left alone', async () => {
  const receiver = await receive(respondWith(500))
  const fine = await receive()
  const [broken, hook] = [
    await desk.webhook({ url: receiver.url }),
    await desk.webhook({ url: fine.url }),
  ]
  await events(broken, 20)
  desk.startWorker()
  await expect.poll(async () => (await desk.health(broken))?.openFor ?? 0).toBeGreaterThan(20)
  const mine = await events(hook, 20)
  for (const event of mine) await desk.waitForDelivery(hook, event, { state: 'delivered' })
})

it('the time doubles from half a minute to ten minutes', async () => {
  const hook = await desk.webhook({ url: 'http://127.0.0.1:1' })
  const limits = { failuresMax: 5, openSecondsMin: 30, openSecondsMax: 600, jitter: 0 }
  const note = (failures: number) =>
    recordFailures(desk.db, [{ webhookId: hook.id, failures }], limits)
  await note(4)
  expect(await desk.health(hook)).toMatchObject({ failures: 4, openFor: null })
  // Many that were under way together make it no longer.
  await note(8)
  let at = 0
  for (const [index, seconds] of [30, 30, 60, 120, 240, 480, 600, 600].entries()) {
    expect((await desk.health(hook))?.openFor, `${index}`).toBeCloseTo(seconds, -0.5)
    at += seconds
    await desk.client.query(
      `update webhook_health set failing_since = now() - make_interval(secs => $2::int)
        where webhook_id = $1`,
      [hook.id, at],
    )
    await note(1)
  }
  await recordFailures(desk.db, [{ webhookId: hook.id, failures: 1 }], { ...limits, jitter: 0.2 })
  expect((await desk.health(hook))?.openFor).toBeGreaterThan(600)
})

it('health is written seldom while all goes well', async () => {
  const receiver = await receive()
  const hook = await desk.webhook({ url: receiver.url })
  desk.startWorker()
  for (const event of await events(hook, 30))
    await desk.waitForDelivery(hook, event, { state: 'delivered' })
  const { rows } = await desk.client.query<{ xmin: string; fresh: boolean }>(
    `select xmin, succeeded_at > now() - interval '1 minute' as fresh
       from webhook_health
      where webhook_id = $1`,
    [hook.id],
  )
  expect(rows).toMatchObject([{ fresh: true }])
  for (const event of await events(hook, 30))
    await desk.waitForDelivery(hook, event, { state: 'delivered' })
  const again = await desk.client.query('select xmin from webhook_health where webhook_id = $1', [
    hook.id,
  ])
  expect(again.rows).toEqual([{ xmin: rows[0]?.xmin }])
})

it('what failed for five days and fails again is disabled, and told so', async () => {
  const receiver = await receive(respondWith(502))
  const hook = await desk.webhook({ url: receiver.url })
  const failSince = (interval: string) =>
    desk.client.query(
      `insert into webhook_health (webhook_id, failures, failing_since)
       values ($1, 3, now() - $2::interval)
           on conflict (webhook_id) do update
          set failing_since = excluded.failing_since`,
      [hook.id, interval],
    )
  await failSince('4 days 23 hours')
  const event = await desk.event([hook])
  desk.startWorker({ retrySeconds: [0, 0.01, 0.01, 0.01, 0.01] })
  // With the three from before these open the breaker, so that nothing is under way.
  await waitForRequests(receiver, 2)
  await expect.poll(async () => (await desk.health(hook))?.failures).toBe(5)
  expect(desk.disabled).toEqual([])
  await failSince('5 days 1 hour')
  await over(hook)
  await expect.poll(() => desk.disabled).toEqual([expect.stringMatching(/5 days.*502/)])
  expect(await desk.listOutbox()).toMatchObject([
    { type: 'webhook.disabled', webhook: hook.name, reason: 'failing' },
  ])
  expect(await desk.delivery(hook, event)).toMatchObject({ finished: false })
})

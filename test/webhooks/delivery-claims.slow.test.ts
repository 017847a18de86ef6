import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { redeliver } from '../../src/db/webhooks/deliveries.ts'
import {
  claimDeliveries,
  listDueWebhooks,
  settleDeliveries,
} from '../../src/db/webhooks/delivery-claims.ts'
import { DeliveryFixture, type TestEvent, type TestWebhook } from './delivery-fixture.ts'
import { Receivers, type Responder, waitForRequests } from './receiver.ts'

let fixture: DeliveryFixture
const receivers = new Receivers()
const receive = receivers.start
const HANG: Responder = () => {}
const ACCEPT: Responder = (_, res) => void res.writeHead(204).end()
const LEASES = ['0', '1'].map((digit) => `00000000-0000-0000-0000-00000000000${digit}`)

beforeAll(async () => {
  fixture = await DeliveryFixture.open()
})

afterEach(async () => {
  await fixture.clear()
  await receivers.close()
})

afterAll(() => fixture.close())

async function events(webhooks: TestWebhook[], count: number): Promise<TestEvent[]> {
  const made: TestEvent[] = []
  for (let index = 0; index < count; index += 1) made.push(await fixture.event(webhooks))
  return made
}

function claim(lease: string | undefined, webhooks: TestWebhook[], slots: number) {
  return claimDeliveries(fixture.db, {
    lease: lease ?? '',
    leaseSeconds: 60,
    webhooks: webhooks.map(({ id }) => ({ webhookId: id, slots })),
    failuresMax: 5,
    openSeconds: 30,
  })
}

it('three processes send a hundred deliveries to each of ten webhooks, once', async () => {
  const receiver = await receive()
  const webhooks: TestWebhook[] = []
  for (let index = 0; index < 10; index += 1) {
    webhooks.push(await fixture.webhook({ url: `${receiver.url}/${index}` }))
  }
  const made = await events(webhooks, 100)
  for (let count = 0; count < 3; count += 1) fixture.startWorker()
  await waitForRequests(receiver, 1000, 90)
  for (const event of made)
    await fixture.waitForDelivery(webhooks[9] as TestWebhook, event, { finished: true })
  const requests = receiver.received.map(({ path, headers }) => `${path} ${headers['webhook-id']}`)
  expect(requests).toHaveLength(1000)
  expect(new Set(requests).size).toBe(1000)
}, 120_000)

it('another process sends the deliveries of a dead process after their lease ends', async () => {
  const receiver = await receive()
  const webhook = await fixture.webhook({ url: receiver.url })
  const [event] = (await events([webhook], 1)) as [TestEvent]
  expect(await claim(LEASES[0], [webhook], 8)).toHaveLength(1)
  expect(await claim(LEASES[1], [webhook], 8)).toEqual([])
  const { dueIn } = await fixture.delivery(webhook, event)
  expect(dueIn).toBeGreaterThan(55)
  expect(dueIn).toBeLessThanOrEqual(60)
  fixture.startWorker()
  await fixture.client.query('update deliveries set due_at = now()')
  await fixture.waitForDelivery(webhook, event, { state: 'delivered', attempts: 1 })
})

it('a result without the lease changes nothing but the log', async () => {
  const webhook = await fixture.webhook({ url: 'http://127.0.0.1:1' })
  const [event] = (await events([webhook], 1)) as [TestEvent]
  const [slow] = await claim(LEASES[0], [webhook], 8)
  await fixture.client.query('update deliveries set due_at = now()')
  const [quick] = await claim(LEASES[1], [webhook], 8)
  if (slow === undefined || quick === undefined) throw new Error('nothing was claimed')
  const attempt = {
    at: new Date(),
    milliseconds: 70_000,
    status: 500,
    error: 'late',
    requestHeaders: {},
    responseHeaders: {},
    responseBody: '',
    isInternal: false,
  }
  const failed = { state: 'failed', roundAttempts: 13, delaySeconds: 0, attempt } as const
  await settleDeliveries(fixture.db, [{ ...slow, ...failed }])
  expect(await fixture.delivery(webhook, event)).toMatchObject({
    state: 'pending',
    lease: LEASES[1],
    roundAttempts: 0,
    attempts: 1,
  })
  const delivered = { state: 'delivered', roundAttempts: 1, delaySeconds: 0 } as const
  await settleDeliveries(fixture.db, [
    { ...quick, ...delivered, attempt: { ...attempt, status: 204 } },
  ])
  expect(await fixture.delivery(webhook, event)).toMatchObject({ state: 'delivered', attempts: 2 })
  await settleDeliveries(fixture.db, [{ ...slow, ...failed }])
  expect(await fixture.delivery(webhook, event)).toMatchObject({ state: 'delivered', attempts: 3 })
  const attempts = await fixture.attempts(webhook, event)
  expect(attempts.map((one) => [one.attempt, one.status])).toEqual([
    [1, 500],
    [2, 204],
    [3, 500],
  ])
})

it('a redelivery of an event in flight sends it once more', async () => {
  const receiver = await receive(HANG)
  const webhook = await fixture.webhook({ url: receiver.url })
  const [event] = (await events([webhook], 1)) as [TestEvent]
  fixture.startWorker({ client: fixture.outgoingClient(1_000) })
  await waitForRequests(receiver, 1)
  receiver.respond = ACCEPT
  await fixture.db.transaction((tx) => redeliver(tx, webhook.id, event.position))
  await waitForRequests(receiver, 2)
  await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
})

it('a stopping process waits for requests that end soon, and releases the others', async () => {
  const receiver = await receive((_, res) => {
    // The first request ends soon; the others never end.
    if (receiver.received.length === 1) setTimeout(() => res.writeHead(204).end(), 100)
  })
  const [soon, never] = [
    await fixture.webhook({ url: receiver.url }),
    await fixture.webhook({ url: receiver.url }),
  ]
  const quick = await fixture.event([soon])
  const worker = fixture.startWorker({ stopMilliseconds: 500 })
  await waitForRequests(receiver, 1)
  const slow = await fixture.event([never])
  await waitForRequests(receiver, 2)
  const waiting = await events([soon, never], 5)
  await worker.stop()
  expect(await fixture.delivery(soon, quick)).toMatchObject({ state: 'delivered' })
  expect(await fixture.delivery(never, slow)).toMatchObject({
    state: 'pending',
    lease: null,
    roundAttempts: 0,
  })
  const { rows } = await fixture.client.query('select 1 from deliveries where lease is not null')
  expect(rows).toEqual([])
  const before = receiver.received.length
  worker.poke([soon.id, never.id])
  worker.poll()
  receiver.respond = ACCEPT
  fixture.startWorker()
  for (const event of [slow, ...waiting])
    await fixture.waitForDelivery(never, event, { state: 'delivered' })
  expect(receiver.received.length - before).toBeLessThanOrEqual(11)
})

it.each(['paused', 'disabled'] as const)(
  'a %s webhook keeps its pending deliveries',
  async (state) => {
    const receiver = await receive()
    const webhook = await fixture.webhook({ url: receiver.url, state })
    const other = await fixture.webhook({ url: receiver.url })
    const [event] = (await events([webhook, other], 1)) as [TestEvent]
    fixture.startWorker()
    await fixture.waitForDelivery(other, event, { state: 'delivered' })
    expect(await fixture.delivery(webhook, event)).toMatchObject({
      state: 'pending',
      roundAttempts: 0,
    })
    await fixture.client.query(`update webhooks set state = 'active'`)
    await fixture.incrementChangeCount()
    await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  },
)

it('a removed webhook receives nothing', async () => {
  const receiver = await receive()
  const [gone, other] = [
    await fixture.webhook({ url: `${receiver.url}/gone` }),
    await fixture.webhook({ url: receiver.url }),
  ]
  await fixture.client.query('update webhooks set removed_at = now() where id = $1', [gone.id])
  await fixture.incrementChangeCount()
  const [event] = (await events([gone, other], 1)) as [TestEvent]
  fixture.startWorker()
  await fixture.waitForDelivery(other, event, { state: 'delivered' })
  expect(receiver.received.map(({ path }) => path)).toEqual(['/'])
})

it('hundreds of receivers that hang do not delay another', async () => {
  const hanging = await receive(HANG)
  const webhooks: TestWebhook[] = []
  for (let index = 0; index < 200; index += 1) {
    webhooks.push(await fixture.webhook({ url: hanging.url }))
  }
  await events(webhooks, 8)
  // The requests outlast this test.
  fixture.startWorker({ client: fixture.outgoingClient(60_000) })
  await waitForRequests(hanging, 200, 10)
  const receiver = await receive()
  const webhook = await fixture.webhook({ url: receiver.url })
  const [event] = (await events([webhook], 1)) as [TestEvent]
  await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  expect(hanging.received).toHaveLength(200)
})

it('a webhook has at most eight deliveries in flight, and starts with one', async () => {
  let [open, most] = [0, 0]
  const counts: number[] = []
  const receiver = await receive((_, res) => {
    open += 1
    most = Math.max(most, open)
    counts.push(open)
    setTimeout(() => {
      open -= 1
      res.writeHead(204).end()
    }, 100)
  })
  const webhook = await fixture.webhook({ url: receiver.url })
  const made = await events([webhook], 60)
  fixture.startWorker()
  for (const event of made) await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  expect(counts[0]).toBe(1)
  expect(Math.max(...counts.slice(0, 3))).toBeLessThanOrEqual(2)
  expect(most).toBe(8)
})

it('the cost of a claim does not grow with a hundred thousand pending deliveries of a webhook', async () => {
  const [busy, idle] = [
    await fixture.webhook({ url: 'http://127.0.0.1:1' }),
    await fixture.webhook({ url: 'http://127.0.0.1:1' }),
  ]
  const [event] = (await events([busy, idle], 1)) as [TestEvent]
  await fixture.client.query(
    `insert into events (position, event_id, type, repository_id, tag, occurred_at, body)
     select position + n, gen_random_uuid(), type, repository_id, tag, occurred_at, body
       from events, generate_series(1, 100000) as n
      where position = $1`,
    [event.position],
  )
  await fixture.client.query(
    `insert into deliveries (webhook_id, event_position)
     select $1, $2::bigint + n
       from generate_series(1, 100000) as n`,
    [busy.id, event.position],
  )
  // Vacuum would read the tables meanwhile.
  await fixture.client.query('alter table deliveries set (autovacuum_enabled = off)')
  await fixture.client.query('alter table events set (autovacuum_enabled = off)')
  await fixture.client.query('analyze deliveries, events')
  expect(await listDueWebhooks(fixture.db, 10, 5)).toEqual([busy.id, idle.id])
  const blocks = async () => {
    // Otherwise the writes above are counted some seconds later.
    await fixture.client.query('select pg_stat_force_next_flush()')
    await fixture.client.query('select pg_stat_clear_snapshot()')
    const { rows } = await fixture.client.query<{ blocks: number }>(
      `select coalesce(sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read), 0)::int
                as blocks
         from pg_statio_user_tables
        where relname in ('deliveries', 'events')`,
    )
    return rows[0]?.blocks ?? 0
  }
  // Statistics are written when a connection ends, so these statements get a connection of their own.
  const before = await blocks()
  const db = new Database({ connection: fixture.databaseUrl, connectionsMax: 1, onIdleError() {} })
  const options = { leaseSeconds: 60, failuresMax: 5, openSeconds: 30 }
  let claimed = 0
  for (let count = 0; count < 20; count += 1) {
    const lease = LEASES[0] as string
    const webhooks = (await listDueWebhooks(db, 10, 5)).map((webhookId) => ({
      webhookId,
      slots: 8,
    }))
    claimed += (await claimDeliveries(db, { ...options, lease, webhooks })).length
  }
  await db.close()
  expect(claimed).toBe(161)
  await expect.poll(blocks).toBeGreaterThan(before)
  // Each of these tables has more than a thousand blocks.
  expect(((await blocks()) - before) / 20).toBeLessThan(400)
})

it('an error is reported once, and deliveries continue', async () => {
  const receiver = await receive()
  const webhook = await fixture.webhook({ url: receiver.url })
  const made = await events([webhook], 5)
  await fixture.client.query('alter table delivery_attempts rename to elsewhere')
  fixture.startWorker({ leaseSeconds: 1 })
  await waitForRequests(receiver, 1)
  await expect.poll(() => fixture.errors.length).toBeGreaterThan(0)
  await fixture.client.query('alter table elsewhere rename to delivery_attempts')
  for (const event of made) await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  for (const error of fixture.errors.splice(0)) {
    expect(String(error)).toContain('delivery_attempts')
  }
})

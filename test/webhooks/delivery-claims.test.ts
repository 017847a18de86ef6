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

let desk: DeliveryFixture
const receivers = new Receivers()
const receive = receivers.start
const HANG: Responder = () => {}
const ACCEPT: Responder = (_, res) => void res.writeHead(204).end()
const LEASES = ['0', '1'].map((digit) => `00000000-0000-0000-0000-00000000000${digit}`)

beforeAll(async () => {
  desk = await DeliveryFixture.open()
})

afterEach(async () => {
  await desk.clear()
  await receivers.close()
})

afterAll(() => desk.close())

async function events(hooks: TestWebhook[], count: number): Promise<TestEvent[]> {
  const made: TestEvent[] = []
  for (let index = 0; index < count; index += 1) made.push(await desk.event(hooks))
  return made
}

function claim(lease: string | undefined, hooks: TestWebhook[], slots: number) {
  return claimDeliveries(desk.db, {
    lease: lease ?? '',
    leaseSeconds: 60,
    webhooks: hooks.map(({ id }) => ({ webhookId: id, slots })),
    failuresMax: 5,
  })
}

it('a hundred deliveries reach each of ten endpoints once, by three processes', async () => {
  const receiver = await receive()
  const hooks: TestWebhook[] = []
  for (let index = 0; index < 10; index += 1) {
    hooks.push(await desk.webhook({ url: `${receiver.url}/${index}` }))
  }
  const made = await events(hooks, 100)
  for (let count = 0; count < 3; count += 1) desk.startWorker()
  await waitForRequests(receiver, 1000, 20)
  for (const event of made)
    await desk.waitForDelivery(hooks[9] as TestWebhook, event, { finished: true })
  const heard = receiver.received.map(({ path, headers }) => `${path} ${headers['webhook-id']}`)
  expect(heard).toHaveLength(1000)
  expect(new Set(heard).size).toBe(1000)
})

it('a process that dies leaves what it held to others, once its lease is over', async () => {
  const receiver = await receive()
  const hook = await desk.webhook({ url: receiver.url })
  const [event] = (await events([hook], 1)) as [TestEvent]
  expect(await claim(LEASES[0], [hook], 8)).toHaveLength(1)
  expect(await claim(LEASES[1], [hook], 8)).toEqual([])
  const { dueIn } = await desk.delivery(hook, event)
  expect(dueIn).toBeGreaterThan(55)
  expect(dueIn).toBeLessThanOrEqual(60)
  desk.startWorker()
  await desk.client.query('update deliveries set due_at = now()')
  await desk.waitForDelivery(hook, event, { state: 'delivered', attempts: 1 })
})

it('who lost the lease changes nothing any more; what was sent is logged', async () => {
  const hook = await desk.webhook({ url: 'http://127.0.0.1:1' })
  const [event] = (await events([hook], 1)) as [TestEvent]
  const [slow] = await claim(LEASES[0], [hook], 8)
  await desk.client.query('update deliveries set due_at = now()')
  const [quick] = await claim(LEASES[1], [hook], 8)
  if (slow === undefined || quick === undefined) throw new Error('nothing was claimed')
  const attempt = {
    at: new Date(),
    milliseconds: 70_000,
    status: 500,
    error: 'late',
    requestHeaders: {},
    responseHeaders: {},
    responseBody: '',
  }
  const failed = { state: 'failed', roundAttempts: 13, delaySeconds: 0, attempt } as const
  await settleDeliveries(desk.db, [{ ...slow, ...failed }])
  expect(await desk.delivery(hook, event)).toMatchObject({
    state: 'pending',
    lease: LEASES[1],
    roundAttempts: 0,
    attempts: 1,
  })
  const delivered = { state: 'delivered', roundAttempts: 1, delaySeconds: 0 } as const
  await settleDeliveries(desk.db, [
    { ...quick, ...delivered, attempt: { ...attempt, status: 204 } },
  ])
  expect(await desk.delivery(hook, event)).toMatchObject({ state: 'delivered', attempts: 2 })
  await settleDeliveries(desk.db, [{ ...slow, ...failed }])
  expect(await desk.delivery(hook, event)).toMatchObject({ state: 'delivered', attempts: 3 })
  const attempts = await desk.attempts(hook, event)
  expect(attempts.map((one) => [one.attempt, one.status])).toEqual([
    [1, 500],
    [2, 204],
    [3, 500],
  ])
})

it('what is sent again while it is under way is sent once more', async () => {
  const receiver = await receive(HANG)
  const hook = await desk.webhook({ url: receiver.url })
  const [event] = (await events([hook], 1)) as [TestEvent]
  desk.startWorker({ client: desk.outgoingClient(1_000) })
  await waitForRequests(receiver, 1)
  receiver.answer = ACCEPT
  await desk.db.transaction((tx) => redeliver(tx, hook.id, event.position))
  await waitForRequests(receiver, 2)
  await desk.waitForDelivery(hook, event, { state: 'delivered' })
})

it('a process that ends lets run what ends soon, and gives the rest to others', async () => {
  const receiver = await receive((_, res) => {
    // The first ends soon; the others do not.
    if (receiver.received.length === 1) setTimeout(() => res.writeHead(204).end(), 100)
  })
  const [soon, never] = [
    await desk.webhook({ url: receiver.url }),
    await desk.webhook({ url: receiver.url }),
  ]
  const quick = await desk.event([soon])
  const deliverer = desk.startWorker({ stopMilliseconds: 500 })
  await waitForRequests(receiver, 1)
  const slow = await desk.event([never])
  await waitForRequests(receiver, 2)
  const waiting = await events([soon, never], 5)
  await deliverer.stop()
  expect(await desk.delivery(soon, quick)).toMatchObject({ state: 'delivered' })
  expect(await desk.delivery(never, slow)).toMatchObject({
    state: 'pending',
    lease: null,
    roundAttempts: 0,
  })
  const { rows } = await desk.client.query('select 1 from deliveries where lease is not null')
  expect(rows).toEqual([])
  const before = receiver.received.length
  deliverer.poke([soon.id, never.id])
  deliverer.poll()
  receiver.answer = ACCEPT
  desk.startWorker()
  for (const event of [slow, ...waiting])
    await desk.waitForDelivery(never, event, { state: 'delivered' })
  expect(receiver.received.length - before).toBeLessThanOrEqual(11)
})

it.each(['paused', 'disabled'] as const)('a %s endpoint keeps what waits for it', async (state) => {
  const receiver = await receive()
  const hook = await desk.webhook({ url: receiver.url, state })
  const other = await desk.webhook({ url: receiver.url })
  const [event] = (await events([hook, other], 1)) as [TestEvent]
  desk.startWorker()
  await desk.waitForDelivery(other, event, { state: 'delivered' })
  expect(await desk.delivery(hook, event)).toMatchObject({ state: 'pending', roundAttempts: 0 })
  await desk.client.query(`update webhooks set state = 'active'`)
  await desk.incrementChangeCount()
  await desk.waitForDelivery(hook, event, { state: 'delivered' })
})

it('an endpoint that was taken away is told nothing more', async () => {
  const receiver = await receive()
  const [gone, other] = [
    await desk.webhook({ url: `${receiver.url}/gone` }),
    await desk.webhook({ url: receiver.url }),
  ]
  await desk.client.query('update webhooks set removed_at = now() where id = $1', [gone.id])
  await desk.incrementChangeCount()
  const [event] = (await events([gone, other], 1)) as [TestEvent]
  desk.startWorker()
  await desk.waitForDelivery(other, event, { state: 'delivered' })
  expect(receiver.received.map(({ path }) => path)).toEqual(['/'])
})

it('hundreds of endpoints that hang hold up nobody else', async () => {
  const hanging = await receive(HANG)
  const hooks: TestWebhook[] = []
  for (let index = 0; index < 200; index += 1) {
    hooks.push(await desk.webhook({ url: hanging.url }))
  }
  await events(hooks, 8)
  // Longer than this test waits.
  desk.startWorker({ client: desk.outgoingClient(60_000) })
  await waitForRequests(hanging, 200, 10)
  const receiver = await receive()
  const hook = await desk.webhook({ url: receiver.url })
  const [event] = (await events([hook], 1)) as [TestEvent]
  await desk.waitForDelivery(hook, event, { state: 'delivered' })
  expect(hanging.received).toHaveLength(200)
})

it('one endpoint gets at most eight at a time, and eight only when it takes them', async () => {
  let [open, most] = [0, 0]
  const widths: number[] = []
  const receiver = await receive((_, res) => {
    open += 1
    most = Math.max(most, open)
    widths.push(open)
    setTimeout(() => {
      open -= 1
      res.writeHead(204).end()
    }, 100)
  })
  const hook = await desk.webhook({ url: receiver.url })
  const made = await events([hook], 60)
  desk.startWorker()
  for (const event of made) await desk.waitForDelivery(hook, event, { state: 'delivered' })
  expect(widths[0]).toBe(1)
  expect(Math.max(...widths.slice(0, 3))).toBeLessThanOrEqual(2)
  expect(most).toBe(8)
})

it('a hundred thousand that wait for one endpoint cost a claim nothing', async () => {
  const [busy, idle] = [
    await desk.webhook({ url: 'http://127.0.0.1:1' }),
    await desk.webhook({ url: 'http://127.0.0.1:1' }),
  ]
  const [event] = (await events([busy, idle], 1)) as [TestEvent]
  await desk.client.query(
    `insert into events (position, event_id, type, repository_id, tag, occurred_at, body)
     select position + n, gen_random_uuid(), type, repository_id, tag, occurred_at, body
       from events, generate_series(1, 100000) as n
      where position = $1`,
    [event.position],
  )
  await desk.client.query(
    `insert into deliveries (webhook_id, event_position)
     select $1, $2::bigint + n
       from generate_series(1, 100000) as n`,
    [busy.id, event.position],
  )
  // Upkeep would read them meanwhile.
  await desk.client.query('alter table deliveries set (autovacuum_enabled = off)')
  await desk.client.query('alter table events set (autovacuum_enabled = off)')
  await desk.client.query('analyze deliveries, events')
  expect(await listDueWebhooks(desk.db, 10)).toEqual([busy.id, idle.id])
  const blocks = async () => {
    // Else what this connection wrote above is counted some seconds later.
    await desk.client.query('select pg_stat_force_next_flush()')
    await desk.client.query('select pg_stat_clear_snapshot()')
    const { rows } = await desk.client.query<{ blocks: number }>(
      `select coalesce(sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read), 0)::int
                as blocks
         from pg_statio_user_tables
        where relname in ('deliveries', 'events')`,
    )
    return rows[0]?.blocks ?? 0
  }
  // Statistics are written when a connection ends: one of its own tells what these statements read.
  const before = await blocks()
  const db = new Database({ connection: desk.databaseUrl, connectionsMax: 1, onIdleError() {} })
  const options = { leaseSeconds: 60, failuresMax: 5 }
  let claimed = 0
  for (let count = 0; count < 20; count += 1) {
    const lease = LEASES[0] as string
    const endpoints = (await listDueWebhooks(db, 10)).map((webhookId) => ({ webhookId, slots: 8 }))
    claimed += (await claimDeliveries(db, { ...options, lease, webhooks: endpoints })).length
  }
  await db.close()
  expect(claimed).toBe(161)
  await expect.poll(blocks).toBeGreaterThan(before)
  // One of these tables alone has more than a thousand blocks.
  expect(((await blocks()) - before) / 20).toBeLessThan(400)
})

it('what went wrong is told once, and deliveries go on', async () => {
  const receiver = await receive()
  const hook = await desk.webhook({ url: receiver.url })
  const made = await events([hook], 5)
  await desk.client.query('alter table delivery_attempts rename to elsewhere')
  desk.startWorker({ leaseSeconds: 1 })
  await waitForRequests(receiver, 1)
  await expect.poll(() => desk.errors.length, { timeout: 5_000 }).toBeGreaterThan(0)
  await desk.client.query('alter table elsewhere rename to delivery_attempts')
  for (const event of made) await desk.waitForDelivery(hook, event, { state: 'delivered' })
  for (const error of desk.errors.splice(0)) {
    expect(String(error)).toContain('delivery_attempts')
  }
})

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { pruneEvents } from '../../src/sequencer/retention.ts'
import { DeliveryFixture, type TestEvent, type TestWebhook } from './delivery-fixture.ts'
import { type Receiver, startReceiver } from './receiver.ts'

let desk: DeliveryFixture
let receiver: Receiver
const DAYS = 30

beforeAll(async () => {
  desk = await DeliveryFixture.open()
  receiver = await startReceiver()
})

afterEach(async () => {
  await desk.clear()
  receiver.received.length = 0
})

afterAll(async () => {
  await desk.close()
  await receiver.close()
})

const ago = (days: number) => new Date(Date.now() - days * 86_400_000)

async function count(table: 'events' | 'deliveries' | 'delivery_attempts' | 'webhooks') {
  const texts = {
    events: 'select count(*)::int as count from events',
    deliveries: 'select count(*)::int as count from deliveries',
    delivery_attempts: 'select count(*)::int as count from delivery_attempts',
    webhooks: 'select count(*)::int as count from webhooks',
  }
  return (await desk.client.query(texts[table])).rows[0].count
}

async function forgotten(): Promise<number> {
  return (await desk.client.query('select pruned_through::int as position from feed')).rows[0]
    .position
}

/** Many events at once, the oldest first, each with a delivery in this state. */
async function fill(hook: TestWebhook, first: TestEvent, events: number, state: string) {
  await desk.client.query(
    `with more as (
       insert into events (position, event_id, type, repository_id, tag, occurred_at, body)
       select position + n, gen_random_uuid(), type, repository_id, tag, occurred_at, body
         from events, generate_series(1, $2::int) as n
        where position = $1
       returning position
     )
     insert into deliveries (webhook_id, event_position, state, finished_at)
     select $3, position, $4, case when $4 = 'pending' then null else now() end
       from more`,
    [first.position, events, hook.id, state],
  )
  await desk.client.query('update feed set position = position + $1', [events])
}

it('events are forgotten when they are old, and younger ones are not', async () => {
  const hook = await desk.webhook({ url: receiver.url })
  const old = await desk.event([hook], { occurredAt: ago(30.1) })
  const young = await desk.event([hook], { occurredAt: ago(29.9) })
  desk.startWorker()
  for (const event of [old, young]) await desk.waitForDelivery(hook, event, { state: 'delivered' })
  await expect.poll(() => count('delivery_attempts')).toBe(2)
  expect(await pruneEvents(desk.db, DAYS)).toEqual({ events: true, deliveries: 1 })
  expect(await forgotten()).toBe(old.position)
  expect(await count('events')).toBe(1)
  expect(await count('deliveries')).toBe(1)
  expect(await count('delivery_attempts')).toBe(1)
  expect(await desk.delivery(hook, young)).toMatchObject({ state: 'delivered' })
  expect(await pruneEvents(desk.db, DAYS)).toEqual({ events: false, deliveries: 0 })
})

it('thousands go in small steps, whatever became of them', async () => {
  const hook = await desk.webhook({ url: receiver.url, state: 'paused' })
  const first = await desk.event([hook], { occurredAt: ago(31) })
  await fill(hook, first, 2500, 'delivered')
  const late = await desk.event([hook], { occurredAt: ago(31) })
  await fill(hook, late, 1200, 'pending')
  const young = await desk.event([hook])
  let asked = 0
  const signal = {
    get aborted() {
      asked += 1
      return false
    },
  } as AbortSignal
  const done = await pruneEvents(desk.db, DAYS, signal)
  expect(done.events).toBe(true)
  // So a server that stops waits for one step, and not for all.
  expect(asked).toBeGreaterThan(10)
  expect(await count('events')).toBe(1)
  expect(await count('deliveries')).toBe(1)
  expect(await forgotten()).toBe(young.position - 1)
})

it('it ends between two steps when it is told so, and nothing is half done', async () => {
  const hook = await desk.webhook({ url: receiver.url })
  const first = await desk.event([hook], { occurredAt: ago(31) })
  await fill(hook, first, 3000, 'delivered')
  for (let steps = 0; steps < 12; steps += 1) {
    let left = steps
    const signal = {
      get aborted() {
        left -= 1
        return left < 0
      },
    } as AbortSignal
    await pruneEvents(desk.db, DAYS, signal)
    const { rows } = await desk.client.query(
      `select (select count(*)::int from deliveries d
                where not exists (select 1 from events where position = d.event_position)) as lost,
              (select count(*)::int from events, feed where events.position <= pruned_through) as told`,
    )
    expect(rows).toEqual([{ lost: 0, told: 0 }])
  }
  await pruneEvents(desk.db, DAYS)
  expect(await count('events')).toBe(0)
})

it('what is under way while its event is forgotten comes to its end', async () => {
  let release: () => void = () => {}
  receiver.answer = (_, res) => {
    release = () => res.writeHead(204).end()
  }
  const hook = await desk.webhook({ url: receiver.url })
  await desk.event([hook], { occurredAt: ago(31) })
  desk.startWorker()
  await expect.poll(() => receiver.received.length).toBe(1)
  await pruneEvents(desk.db, DAYS)
  release()
  await expect.poll(() => desk.outcomes).toEqual(['delivered'])
  receiver.answer = (_, res) => void res.writeHead(204).end()
  const next = await desk.event([hook])
  await desk.waitForDelivery(hook, next, { state: 'delivered' })
})

it('an endpoint that was taken away goes when its deliveries are gone', async () => {
  const [gone, stays] = [
    await desk.webhook({ url: receiver.url }),
    await desk.webhook({ url: receiver.url }),
  ]
  const event = await desk.event([gone, stays])
  await fill(gone, event, 2500, 'pending')
  await desk.client.query(
    `update webhooks set removed_at = now() - interval '2 minutes' where id = $1`,
    [gone.id],
  )
  await desk.incrementChangeCount()
  expect(await pruneEvents(desk.db, DAYS)).toEqual({ events: false, deliveries: 2501 })
  expect(await count('webhooks')).toBe(1)
  expect(await count('deliveries')).toBe(1)
  expect(await count('events')).toBe(2501)
})

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { pruneEvents } from '../../src/sequencer/retention.ts'
import { DeliveryFixture, type TestEvent, type TestWebhook } from './delivery-fixture.ts'
import { type Receiver, startReceiver } from './receiver.ts'

let fixture: DeliveryFixture
let receiver: Receiver
const DAYS = 30

beforeAll(async () => {
  fixture = await DeliveryFixture.open()
  receiver = await startReceiver()
})

afterEach(async () => {
  await fixture.clear()
  receiver.received.length = 0
})

afterAll(async () => {
  await fixture.close()
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
  return (await fixture.client.query(texts[table])).rows[0].count
}

async function prunedThrough(): Promise<number> {
  return (await fixture.client.query('select pruned_through::int as position from feed')).rows[0]
    .position
}

/** Inserts events after `first`, each with a delivery in this state. */
async function fill(webhook: TestWebhook, first: TestEvent, events: number, state: string) {
  await fixture.client.query(
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
    [first.position, events, webhook.id, state],
  )
  await fixture.client.query('update feed set position = position + $1', [events])
}

it('old events are pruned, and newer ones are not', async () => {
  const webhook = await fixture.webhook({ url: receiver.url })
  const old = await fixture.event([webhook], { occurredAt: ago(30.1) })
  const young = await fixture.event([webhook], { occurredAt: ago(29.9) })
  fixture.startWorker()
  for (const event of [old, young])
    await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  await expect.poll(() => count('delivery_attempts')).toBe(2)
  expect(await pruneEvents(fixture.db, DAYS)).toEqual({ events: true, deliveries: 1 })
  expect(await prunedThrough()).toBe(old.position)
  expect(await count('events')).toBe(1)
  expect(await count('deliveries')).toBe(1)
  expect(await count('delivery_attempts')).toBe(1)
  expect(await fixture.delivery(webhook, young)).toMatchObject({ state: 'delivered' })
  expect(await pruneEvents(fixture.db, DAYS)).toEqual({ events: false, deliveries: 0 })
})

it('thousands of events are pruned in small steps, in any state of delivery', async () => {
  const webhook = await fixture.webhook({ url: receiver.url, state: 'paused' })
  const first = await fixture.event([webhook], { occurredAt: ago(31) })
  await fill(webhook, first, 2500, 'delivered')
  const late = await fixture.event([webhook], { occurredAt: ago(31) })
  await fill(webhook, late, 1200, 'pending')
  const young = await fixture.event([webhook])
  let checks = 0
  const signal = {
    get aborted() {
      checks += 1
      return false
    },
  } as AbortSignal
  const done = await pruneEvents(fixture.db, DAYS, signal)
  expect(done.events).toBe(true)
  // A stopping server waits for one step, not for all.
  expect(checks).toBeGreaterThan(10)
  expect(await count('events')).toBe(1)
  expect(await count('deliveries')).toBe(1)
  expect(await prunedThrough()).toBe(young.position - 1)
})

it('pruning stops between two steps, and leaves no step half done', async () => {
  const webhook = await fixture.webhook({ url: receiver.url })
  const first = await fixture.event([webhook], { occurredAt: ago(31) })
  await fill(webhook, first, 3000, 'delivered')
  for (let steps = 0; steps < 12; steps += 1) {
    let left = steps
    const signal = {
      get aborted() {
        left -= 1
        return left < 0
      },
    } as AbortSignal
    await pruneEvents(fixture.db, DAYS, signal)
    const { rows } = await fixture.client.query(
      `select (select count(*)::int from deliveries d
                where not exists (select 1 from events where position = d.event_position)) as lost,
              (select count(*)::int from events, feed where events.position <= pruned_through) as kept`,
    )
    expect(rows).toEqual([{ lost: 0, kept: 0 }])
  }
  await pruneEvents(fixture.db, DAYS)
  expect(await count('events')).toBe(0)
})

it('a delivery in flight ends normally when its event is pruned', async () => {
  let release: () => void = () => {}
  receiver.respond = (_, res) => {
    release = () => res.writeHead(204).end()
  }
  const webhook = await fixture.webhook({ url: receiver.url })
  await fixture.event([webhook], { occurredAt: ago(31) })
  fixture.startWorker()
  await expect.poll(() => receiver.received.length).toBe(1)
  await pruneEvents(fixture.db, DAYS)
  release()
  await expect.poll(() => fixture.outcomes).toEqual(['delivered'])
  receiver.respond = (_, res) => void res.writeHead(204).end()
  const next = await fixture.event([webhook])
  await fixture.waitForDelivery(webhook, next, { state: 'delivered' })
})

it('a removed webhook is deleted after its deliveries', async () => {
  const [gone, stays] = [
    await fixture.webhook({ url: receiver.url }),
    await fixture.webhook({ url: receiver.url }),
  ]
  const event = await fixture.event([gone, stays])
  await fill(gone, event, 2500, 'pending')
  await fixture.client.query(
    `update webhooks set removed_at = now() - interval '2 minutes' where id = $1`,
    [gone.id],
  )
  await fixture.incrementChangeCount()
  expect(await pruneEvents(fixture.db, DAYS)).toEqual({ events: false, deliveries: 2501 })
  expect(await count('webhooks')).toBe(1)
  expect(await count('deliveries')).toBe(1)
  expect(await count('events')).toBe(2501)
})

import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import {
  DeliveryFixture,
  type TestEventOptions,
  type TestWebhookOptions,
} from './delivery-fixture.ts'
import { Receivers, respondWith, waitForRequests } from './receiver.ts'

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

const grant = (actions: string[], ...repositories: string[]) => ({
  actions,
  repositories,
  tags: null,
})

/** A credential, as what an endpoint was made with. */
async function origin(expiresIn?: string): Promise<string> {
  const { rows } = await desk.client.query<{ id: string }>(
    `insert into credentials (name, kind, secret_sha256, expires_at)
     values ('c' || gen_random_uuid(), 'admin', sha256(gen_random_uuid()::text::bytea),
             now() + $1::interval)
     returning id`,
    [expiresIn ?? null],
  )
  return `credential:${rows[0]?.id}`
}

const REFUSED: [string, Omit<TestWebhookOptions, 'url'>, TestEventOptions][] = [
  ['no grants', { ownerGrants: [] }, {}],
  ['pull elsewhere', { ownerGrants: [grant(['pull'], 'other/**')] }, {}],
  ['everything but pull', { ownerGrants: [grant(['push', 'admin', 'list'], 'builds/**')] }, {}],
  ['pull of a name alike', { ownerGrants: [grant(['pull'], 'builds/hell', 'builds')] }, {}],
  [
    'pull, for what other webhooks do',
    { ownerGrants: [grant(['pull'], '**')] },
    { type: 'webhook.disabled', repository: null, tag: null },
  ],
]

it.each(REFUSED)('whoever has %s hears nothing of it', async (_, columns, event) => {
  const receiver = await receive()
  const ownerOrigin = await origin()
  const hook = await desk.webhook({ url: receiver.url, ownerOrigin, ...columns })
  const made = await desk.event([hook], event)
  desk.startWorker()
  await desk.waitForDelivery(hook, made, {
    state: 'refused',
    roundAttempts: 0,
    attempts: 0,
    finished: true,
  })
  expect(receiver.received).toEqual([])
  expect(desk.outcomes).toEqual(['refused'])
})

const TOLD: [string, Omit<TestWebhookOptions, 'url'>, TestEventOptions][] = [
  ['pull', { ownerGrants: [grant(['pull'], 'builds/**')] }, {}],
  ['no grants, if it is public', { ownerGrants: [] }, { visibility: 'public' }],
  ['no grants, if it is a ping', { ownerGrants: [] }, { type: 'webhook.ping', repository: null }],
  ['everything', {}, { type: 'webhook.disabled', repository: null, tag: null }],
]

it.each(TOLD)('whoever has %s hears of it', async (_, columns, event) => {
  const receiver = await receive()
  const ownerOrigin = await origin('1 hour')
  const hook = await desk.webhook({ url: receiver.url, ownerOrigin, ...columns })
  const made = await desk.event([hook], event)
  desk.startWorker()
  await desk.waitForDelivery(hook, made, { state: 'delivered' })
})

it('a repository that became private between two tries is kept from whoever may not pull', async () => {
  const receiver = await receive(respondWith(500))
  const [ownerOrigin, ownerGrants] = [await origin(), [grant(['pull'], 'mine')]]
  const hook = await desk.webhook({ url: receiver.url, ownerOrigin, ownerGrants })
  const event = await desk.event([hook], { visibility: 'public' })
  desk.startWorker({ retrySeconds: [0, 0.5, 0.5] })
  await waitForRequests(receiver, 1)
  await desk.client.query(`update repositories set visibility = 'private'`)
  await desk.waitForDelivery(hook, event, { state: 'refused', attempts: 1 })
  expect(receiver.received).toHaveLength(1)
})

it.each([
  ['was revoked', `update credentials set revoked_at = now()`],
  ['has expired', `update credentials set expires_at = now() - interval '1 second'`],
])('an endpoint whose credential %s is disabled, and keeps what it missed', async (_, change) => {
  const receiver = await receive()
  const [ownerOrigin, ownerGrants] = [await origin(), [grant(['pull'], '**')]]
  const hook = await desk.webhook({ url: receiver.url, ownerOrigin, ownerGrants })
  await desk.client.query(change)
  const events = [await desk.event([hook]), await desk.event([hook], { visibility: 'public' })]
  desk.startWorker()
  await expect.poll(() => desk.disabled).toEqual([expect.stringMatching(/has ended/)])
  expect(await desk.listOutbox()).toMatchObject([
    { type: 'webhook.disabled', webhook: hook.name, reason: 'owner' },
  ])
  for (const event of events) {
    await desk.waitForDelivery(hook, event, { state: 'pending', roundAttempts: 0, lease: null })
  }
  expect(receiver.received).toEqual([])
})

it('an endpoint of a trust policy or an administrator is told as long as that is there', async () => {
  const receiver = await receive()
  const hook = await desk.webhook({ url: receiver.url, ownerOrigin: 'policy:4711' })
  const event = await desk.event([hook])
  desk.startWorker()
  await expect.poll(() => desk.disabled).toHaveLength(1)
  expect(await desk.delivery(hook, event)).toMatchObject({ state: 'pending' })
  expect(receiver.received).toEqual([])
})

it('what is too old is not sent, and what is younger is', async () => {
  const receiver = await receive()
  const hook = await desk.webhook({ url: receiver.url, maxAgeSeconds: 60 })
  const old = await desk.event([hook], { occurredAt: new Date(Date.now() - 61_000) })
  const young = await desk.event([hook], { occurredAt: new Date(Date.now() - 50_000) })
  desk.startWorker()
  await desk.waitForDelivery(hook, old, { state: 'expired', attempts: 0 })
  await desk.waitForDelivery(hook, young, { state: 'delivered' })
  expect(receiver.received).toHaveLength(1)
})

it('of what waits for one tag only the last is sent, to whom asked for that', async () => {
  const [some, every] = [await receive(), await receive()]
  const types = ['image.pushed', 'image.tag.updated'] as const
  const last = await desk.webhook({ url: some.url, coalesceTags: true, types })
  const all = await desk.webhook({ url: every.url })
  const make = (columns: TestEventOptions) => desk.event([last, all], columns)
  const first = await make({ tag: 'live' })
  const other = await make({ tag: 'other' })
  const elsewhere = await make({ tag: 'live', repository: 'builds/bye' })
  const pushed = await make({ tag: null, type: 'image.pushed' })
  const second = await make({ tag: 'live' })
  // Not wanted by `last`, so it makes nothing useless.
  await desk.event([all], { tag: 'live', type: 'image.tag.deleted' })
  desk.startWorker()
  await desk.waitForDelivery(last, first, { state: 'superseded', roundAttempts: 0, finished: true })
  for (const event of [other, elsewhere, pushed, second]) {
    await desk.waitForDelivery(last, event, { state: 'delivered' })
  }
  await waitForRequests(every, 6)
})

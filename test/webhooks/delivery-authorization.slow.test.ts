import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import {
  DeliveryFixture,
  type TestEventOptions,
  type TestWebhookOptions,
} from './delivery-fixture.ts'
import { Receivers, respondWith, waitForRequests } from './receiver.ts'

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

const grant = (actions: string[], ...repositories: string[]) => ({
  actions,
  repositories,
  tags: null,
})

/** Creates a credential, and returns it as the origin of an owner. */
async function origin(expiresIn?: string): Promise<string> {
  const { rows } = await fixture.client.query<{ id: string }>(
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
    'pull, for events about other webhooks',
    { ownerGrants: [grant(['pull'], '**')] },
    { type: 'webhook.disabled', repository: null, tag: null },
  ],
  [
    'all actions everywhere, for events about hosts',
    { ownerGrants: [grant(['pull', 'push', 'delete', 'admin'], '**')] },
    { type: 'host.lost', repository: null, tag: null },
  ],
  [
    'pull, for events that name hosts',
    { ownerGrants: [grant(['pull'], '**')] },
    { type: 'deployment.target.changed', visibility: 'public' },
  ],
]

it.each(REFUSED)('an owner with %s does not receive the event', async (_, columns, event) => {
  const receiver = await receive()
  const ownerOrigin = await origin()
  const webhook = await fixture.webhook({ url: receiver.url, ownerOrigin, ...columns })
  const made = await fixture.event([webhook], event)
  fixture.startWorker()
  await fixture.waitForDelivery(webhook, made, {
    state: 'refused',
    roundAttempts: 0,
    attempts: 0,
    finished: true,
  })
  expect(receiver.received).toEqual([])
  expect(fixture.outcomes).toEqual(['refused'])
})

const RECEIVED: [string, Omit<TestWebhookOptions, 'url'>, TestEventOptions][] = [
  ['pull', { ownerGrants: [grant(['pull'], 'builds/**')] }, {}],
  ['no grants, if it is public', { ownerGrants: [] }, { visibility: 'public' }],
  ['no grants, if it is a ping', { ownerGrants: [] }, { type: 'webhook.ping', repository: null }],
  ['everything', {}, { type: 'webhook.disabled', repository: null, tag: null }],
]

it.each(RECEIVED)('an owner with %s receives the event', async (_, columns, event) => {
  const receiver = await receive()
  const ownerOrigin = await origin('1 hour')
  const webhook = await fixture.webhook({ url: receiver.url, ownerOrigin, ...columns })
  const made = await fixture.event([webhook], event)
  fixture.startWorker()
  await fixture.waitForDelivery(webhook, made, { state: 'delivered' })
})

it('a repository that becomes private between two attempts is not sent to an owner that may not pull it', async () => {
  const receiver = await receive(respondWith(500))
  const [ownerOrigin, ownerGrants] = [await origin(), [grant(['pull'], 'mine')]]
  const webhook = await fixture.webhook({ url: receiver.url, ownerOrigin, ownerGrants })
  const event = await fixture.event([webhook], { visibility: 'public' })
  fixture.startWorker({ retrySeconds: [0, 0.5, 0.5] })
  await waitForRequests(receiver, 1)
  await fixture.client.query(`update repositories set visibility = 'private'`)
  await fixture.waitForDelivery(webhook, event, { state: 'refused', attempts: 1 })
  expect(receiver.received).toHaveLength(1)
})

it.each([
  ['was revoked', `update credentials set revoked_at = now()`],
  ['has expired', `update credentials set expires_at = now() - interval '1 second'`],
])('a webhook whose credential %s is disabled, and keeps its deliveries', async (_, change) => {
  const receiver = await receive()
  const [ownerOrigin, ownerGrants] = [await origin(), [grant(['pull'], '**')]]
  const webhook = await fixture.webhook({ url: receiver.url, ownerOrigin, ownerGrants })
  await fixture.client.query(change)
  const events = [
    await fixture.event([webhook]),
    await fixture.event([webhook], { visibility: 'public' }),
  ]
  fixture.startWorker()
  await expect.poll(() => fixture.disabled).toEqual([expect.stringMatching(/has ended/)])
  expect(await fixture.listOutbox()).toMatchObject([
    { type: 'webhook.disabled', webhook: webhook.name, reason: 'owner' },
  ])
  for (const event of events) {
    await fixture.waitForDelivery(webhook, event, {
      state: 'pending',
      roundAttempts: 0,
      lease: null,
    })
  }
  expect(receiver.received).toEqual([])
})

it('a webhook of a removed trust policy is disabled', async () => {
  const receiver = await receive()
  const webhook = await fixture.webhook({ url: receiver.url, ownerOrigin: 'policy:4711' })
  const event = await fixture.event([webhook])
  fixture.startWorker()
  await expect.poll(() => fixture.disabled).toHaveLength(1)
  expect(await fixture.delivery(webhook, event)).toMatchObject({ state: 'pending' })
  expect(receiver.received).toEqual([])
})

it('an event that is older than maxAgeSeconds is not sent, and a newer one is', async () => {
  const receiver = await receive()
  const webhook = await fixture.webhook({ url: receiver.url, maxAgeSeconds: 60 })
  const old = await fixture.event([webhook], { occurredAt: new Date(Date.now() - 61_000) })
  const young = await fixture.event([webhook], { occurredAt: new Date(Date.now() - 50_000) })
  fixture.startWorker()
  await fixture.waitForDelivery(webhook, old, { state: 'expired', attempts: 0 })
  await fixture.waitForDelivery(webhook, young, { state: 'delivered' })
  expect(receiver.received).toHaveLength(1)
})

it('a webhook with coalesceTags gets only the latest pending update of a tag', async () => {
  const [some, every] = [await receive(), await receive()]
  const types = ['image.pushed', 'image.tag.updated'] as const
  const last = await fixture.webhook({ url: some.url, coalesceTags: true, types })
  const all = await fixture.webhook({ url: every.url })
  const make = (columns: TestEventOptions) => fixture.event([last, all], columns)
  const first = await make({ tag: 'live' })
  const other = await make({ tag: 'other' })
  const elsewhere = await make({ tag: 'live', repository: 'builds/bye' })
  const pushed = await make({ tag: null, type: 'image.pushed' })
  const second = await make({ tag: 'live' })
  // `last` does not receive this type, so it supersedes nothing.
  await fixture.event([all], { tag: 'live', type: 'image.tag.deleted' })
  fixture.startWorker()
  await fixture.waitForDelivery(last, first, {
    state: 'superseded',
    roundAttempts: 0,
    finished: true,
  })
  for (const event of [other, elsewhere, pushed, second]) {
    await fixture.waitForDelivery(last, event, { state: 'delivered' })
  }
  await waitForRequests(every, 6)
})

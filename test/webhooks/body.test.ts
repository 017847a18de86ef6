import { createHmac } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { EVENT_TYPES, type EventType, isAboutRegistry } from '../../src/events/event.ts'
import { DeliveryFixture } from './delivery-fixture.ts'
import { Receivers, respondWith, waitForRequests } from './receiver.ts'
import { isVerified } from './receiver-rules.ts'

let fixture: DeliveryFixture
const receivers = new Receivers()
const receive = receivers.start

const body = { text: '{{repository}}:{{tag}} is {{digest}}', id: '{{id}}', by: ['us'] }

beforeAll(async () => {
  fixture = await DeliveryFixture.open()
})

afterEach(async () => {
  await fixture.clear()
  await receivers.close()
})

afterAll(() => fixture.close())

describe('a webhook with a body of its own', () => {
  it('sends it with the values of the event, and signs the bytes that it sends', async () => {
    const receiver = await receive()
    const webhook = await fixture.webhook({
      url: receiver.url,
      body,
      signatures: ['x-hub-signature-256', 'x-signature'],
      headers: { accept: 'application/vnd.github+json' },
      secrets: { authorization: 'Bearer letmein' },
    })
    const event = await fixture.event([webhook])
    fixture.startWorker()
    await waitForRequests(receiver, 1)
    const [one] = receiver.received
    if (one === undefined) throw new Error('nothing was received')
    expect(JSON.parse(one.body)).toEqual({
      text: `builds/hello:live is sha256:${'a'.repeat(64)}`,
      id: event.id,
      by: ['us'],
    })
    const signed = createHmac('sha256', webhook.secret).update(one.body).digest('hex')
    expect(one.headers).toMatchObject({
      accept: 'application/vnd.github+json',
      authorization: 'Bearer letmein',
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(one.body)),
      'webhook-id': event.id,
      'x-hub-signature-256': `sha256=${signed}`,
      'x-signature': `sha256=${signed}`,
    })
    expect(isVerified(webhook.secret, one)).toBe(true)
    await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
    const [attempt] = await fixture.attempts(webhook, event)
    expect(JSON.stringify(attempt)).not.toContain('letmein')
  })

  it('sends it with its present template in every attempt', async () => {
    const receiver = await receive(respondWith(500))
    const webhook = await fixture.webhook({ url: receiver.url, body: { before: '{{tag}}' } })
    const event = await fixture.event([webhook])
    fixture.startWorker({ retrySeconds: [0, 0.5, 0.5] })
    await waitForRequests(receiver, 1)
    await fixture.client.query('update webhooks set body = $1', ['{"after":"{{tag}}"}'])
    await fixture.incrementChangeCount()
    receiver.respond = respondWith(204)
    await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
    const bodies = receiver.received.map((one) => one.body)
    expect([bodies[0], bodies.at(-1)]).toEqual(['{"before":"live"}', '{"after":"live"}'])
  })

  /** The types of events that have a tag and its digest. */
  const WITH_VALUES: readonly EventType[] = [
    'image.tag.updated',
    'image.unwrapped',
    'deployment.created',
    'deployment.updated',
    'deployment.finished',
    'deployment.target.changed',
  ]

  it.each(EVENT_TYPES)('sends nothing for an event without its values: %s', async (type) => {
    const receiver = await receive()
    const columns = { type, ...(isAboutRegistry(type) ? { repository: null, tag: null } : {}) }
    const webhook = await fixture.webhook({ url: receiver.url, body })
    const event = await fixture.event([webhook], columns)
    fixture.startWorker()
    const fits = WITH_VALUES.includes(type)
    const state = fits ? 'delivered' : 'refused'
    await fixture.waitForDelivery(webhook, event, { state, attempts: fits ? 1 : 0 })
    expect(receiver.received).toHaveLength(fits ? 1 : 0)
  })

  it('sends no test, even when the body needs no value', async () => {
    const receiver = await receive()
    const webhook = await fixture.webhook({ url: receiver.url, body: {} })
    const ping = { type: 'webhook.ping', repository: null, tag: null } as const
    const event = await fixture.event([webhook], ping)
    fixture.startWorker()
    await fixture.waitForDelivery(webhook, event, { state: 'refused', attempts: 0 })
    expect(receiver.received).toEqual([])
  })
})

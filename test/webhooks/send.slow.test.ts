import { createHmac, createPublicKey, verify } from 'node:crypto'
import { decodeJwt } from 'jose'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { MasterKey } from '../../src/auth/master-key.ts'
import { newEd25519Secret, publicKeyOf } from '../../src/webhooks/signature.ts'
import { DeliveryFixture } from './delivery-fixture.ts'
import { Receivers, type Responder, respondWith, waitForRequests } from './receiver.ts'

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

function hmac(secret: string, content: string): string {
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64')
  return createHmac('sha256', key).update(content).digest('base64')
}

it('a receiver gets the stored event byte by byte, and the signature is of these bytes', async () => {
  const receiver = await receive()
  const webhook = await fixture.webhook({ url: `${receiver.url}/a/path?with=query` })
  const event = await fixture.event([webhook])
  const before = Math.floor(Date.now() / 1000)
  fixture.startWorker()
  await waitForRequests(receiver, 1)
  const [one] = receiver.received
  expect(one?.path).toBe('/a/path?with=query')
  expect(one?.body).toBe(event.body)
  expect(one?.headers).toMatchObject({
    'content-type': 'application/cloudevents+json',
    'content-length': String(Buffer.byteLength(event.body)),
    'user-agent': 'Rookery/test',
    'webhook-id': event.id,
  })
  const timestamp = Number(one?.headers['webhook-timestamp'])
  expect(timestamp).toBeGreaterThanOrEqual(before)
  expect(timestamp).toBeLessThanOrEqual(Date.now() / 1000)
  const signed = hmac(webhook.secret, `${event.id}.${timestamp}.${event.body}`)
  expect(one?.headers['webhook-signature']).toBe(`v1,${signed}`)
  await fixture.waitForDelivery(webhook, event, {
    state: 'delivered',
    attempts: 1,
    finished: true,
    lease: null,
  })
  expect(fixture.outcomes).toEqual(['delivered'])
})

it('the docker format is an envelope of one event with the same id', async () => {
  const receiver = await receive()
  const webhook = await fixture.webhook({ url: receiver.url, format: 'docker' })
  const event = await fixture.event([webhook])
  fixture.startWorker()
  await waitForRequests(receiver, 1)
  const [one] = receiver.received
  expect(one?.headers['content-type']).toBe('application/vnd.docker.distribution.events.v1+json')
  expect(one?.headers['webhook-id']).toBe(event.id)
  expect(JSON.parse(one?.body ?? '').events).toMatchObject([
    { action: 'push', target: { repository: 'builds/hello', tag: 'live' } },
  ])
  const timestamp = one?.headers['webhook-timestamp']
  const signed = hmac(webhook.secret, `${event.id}.${timestamp}.${one?.body}`)
  expect(one?.headers['webhook-signature']).toBe(`v1,${signed}`)
})

it('a redelivery has the same id and a signature of its own time', async () => {
  const receiver = await receive(respondWith(500))
  const webhook = await fixture.webhook({ url: receiver.url })
  const event = await fixture.event([webhook])
  fixture.startWorker({ retrySeconds: [0, 1.2, 1] })
  await waitForRequests(receiver, 2)
  const [first, second] = receiver.received
  expect(second?.headers['webhook-id']).toBe(first?.headers['webhook-id'])
  expect(second?.body).toBe(event.body)
  expect(second?.headers['webhook-timestamp']).not.toBe(first?.headers['webhook-timestamp'])
  expect(second?.headers['webhook-signature']).not.toBe(first?.headers['webhook-signature'])
})

it('every configured header is sent, and the log masks their secrets', async () => {
  const receiver = await receive()
  const ed25519 = newEd25519Secret()
  const webhook = await fixture.webhook({
    url: receiver.url,
    signatures: ['v1a', 'x-hub-signature-256', 'x-signature'],
    headers: { 'x-team': 'very secret too' },
    secrets: { ed25519, authorization: 'Bearer letmein', webhookSecret: 'open sesame' },
  })
  const event = await fixture.event([webhook])
  fixture.startWorker()
  await waitForRequests(receiver, 1)
  const headers = receiver.received[0]?.headers ?? {}
  expect(headers).toMatchObject({
    authorization: 'Bearer letmein',
    'x-webhook-secret': 'open sesame',
    'x-team': 'very secret too',
    'x-hub-signature-256': expect.stringMatching(/^sha256=[0-9a-f]{64}$/),
    'x-signature': expect.stringMatching(/^sha256=[0-9a-f]{64}$/),
  })
  const [, v1a] = String(headers['webhook-signature']).split(' ')
  const x = Buffer.from(publicKeyOf(ed25519).slice('whpk_'.length), 'base64').toString('base64url')
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' })
  const content = Buffer.from(`${event.id}.${headers['webhook-timestamp']}.${event.body}`)
  expect(v1a).toMatch(/^v1a,/)
  expect(verify(null, content, key, Buffer.from(v1a?.slice(4) ?? '', 'base64'))).toBe(true)

  await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  const [attempt] = await fixture.attempts(webhook, event)
  expect(attempt?.requestHeaders).toEqual({
    authorization: 'Bearer …',
    'content-type': 'application/cloudevents+json',
    'user-agent': 'Rookery/test',
    'webhook-id': event.id,
    'webhook-signature': 'v1,… v1a,…',
    'webhook-timestamp': headers['webhook-timestamp'],
    'x-hub-signature-256': 'sha256=…',
    'x-signature': 'sha256=…',
    'x-team': '…',
    'x-webhook-secret': '…',
  })
})

it('a webhook with an audience sends a token for it, and the log masks it', async () => {
  const receiver = await receive()
  const webhook = await fixture.webhook({
    url: receiver.url,
    oidcAudience: 'https://deploy.example',
  })
  const event = await fixture.event([webhook])
  fixture.startWorker()
  await waitForRequests(receiver, 1)
  const authorization = String(receiver.received[0]?.headers.authorization)
  expect(authorization).toMatch(/^Bearer ey/)
  expect(decodeJwt(authorization.slice('Bearer '.length))).toMatchObject({
    aud: 'https://deploy.example',
    iss: 'https://registry.example.org',
    sub: expect.stringMatching(/^webhook:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/),
    webhook: webhook.name,
    owner: 'operator',
  })
  await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  const [attempt] = await fixture.attempts(webhook, event)
  expect(attempt?.requestHeaders.authorization).toBe('Bearer …')
})

it('a response is logged as text, up to a limit', async () => {
  const receiver = await receive((_, res) => {
    res.writeHead(200, {
      'x-good': 'day',
      'x-long': 'l'.repeat(3000),
      'x-longer': 'm'.repeat(3000),
    })
    res.end(Buffer.concat([Buffer.from('a\0b\xff', 'latin1'), Buffer.alloc(1_000_000, 'x')]))
  })
  const webhook = await fixture.webhook({ url: receiver.url })
  const event = await fixture.event([webhook])
  fixture.startWorker()
  await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  const [attempt] = await fixture.attempts(webhook, event)
  expect(attempt).toMatchObject({ attempt: 1, status: 200, error: null })
  expect(attempt?.milliseconds).toBeGreaterThanOrEqual(0)
  expect(attempt?.responseBody?.slice(0, 5)).toBe('a\uFFFDb\uFFFDx')
  expect(attempt?.responseBody?.length).toBe(4096)
  expect(attempt?.responseHeaders).toMatchObject({ 'x-good': 'day', 'x-long': 'l'.repeat(3000) })
  expect(JSON.stringify(attempt?.responseHeaders).length).toBeLessThan(4500)
})

it.each([
  [300, /300: redirects are not followed/],
  [302, /302: redirects are not followed/],
  [307, /307: redirects are not followed/],
  [400, /answered 400/],
  [404, /answered 404/],
  [500, /answered 500/],
])('a response of %i is a failure, which the log explains', async (status, error) => {
  const other = await receive()
  const receiver = await receive(respondWith(status, { location: other.url }))
  const webhook = await fixture.webhook({ url: receiver.url })
  const event = await fixture.event([webhook])
  fixture.startWorker({ retrySeconds: [0] })
  await fixture.waitForDelivery(webhook, event, { state: 'failed', roundAttempts: 1, attempts: 1 })
  const [attempt] = await fixture.attempts(webhook, event)
  expect(attempt).toMatchObject({ status, error: expect.stringMatching(error) })
  expect(attempt?.responseBody).toBe('no\n')
  expect(other.received).toEqual([])
})

it.each<[string, Responder, RegExp]>([
  ['hangs', () => {}, /took longer than 0\.3 s/],
  ['hangs up', (_, res) => void res.destroy(), /did not answer/],
  [
    'does not speak HTTP',
    (_, res) => void res.socket?.end('220 mail.example\r\n'),
    /did not answer/,
  ],
])(
  'a receiver that %s gets the event again, and the log has the reason in one line',
  async (...row) => {
    const [, respond, error] = row
    const receiver = await receive(respond)
    const webhook = await fixture.webhook({ url: receiver.url })
    const event = await fixture.event([webhook])
    fixture.startWorker({ client: fixture.outgoingClient(300) })
    await fixture.waitForDelivery(webhook, event, {
      state: 'failed',
      roundAttempts: 3,
      attempts: 3,
    })
    for (const attempt of await fixture.attempts(webhook, event)) {
      expect(attempt).toMatchObject({ status: null, responseHeaders: null, responseBody: null })
      expect(attempt.error).toMatch(error)
      expect(attempt.error).toMatch(/^[^\n]{1,500}$/)
      expect(attempt.requestHeaders['webhook-id']).toBe(event.id)
    }
    receiver.respond = (_, res) => void res.writeHead(204).end()
  },
)

it.each<[number, string]>([
  [200, 'delivered'],
  [500, 'failed'],
])('the status %i counts, even if the response body never ends', async (status, state) => {
  const receiver = await receive((_, res) => void res.writeHead(status).write('a'))
  const webhook = await fixture.webhook({ url: receiver.url })
  const event = await fixture.event([webhook])
  fixture.startWorker({ client: fixture.outgoingClient(300), retrySeconds: [0] })
  await fixture.waitForDelivery(webhook, event, { state, roundAttempts: 1, attempts: 1 })
  const [attempt] = await fixture.attempts(webhook, event)
  expect(attempt).toMatchObject({ status, responseBody: 'a' })
})

it.each([
  'http://10.1.2.3/hook',
  'http://169.254.169.254/latest/meta-data',
  'https://[::1]/hook',
  'http://localhost:4/hook',
])('nothing is sent to %s, and the log has the reason', async (url) => {
  const webhook = await fixture.webhook({ url })
  const event = await fixture.event([webhook])
  fixture.startWorker({ retrySeconds: [0] })
  await fixture.waitForDelivery(webhook, event, { state: 'failed' })
  const [attempt] = await fixture.attempts(webhook, event)
  expect(attempt).toMatchObject({ status: null, responseHeaders: null })
  expect(attempt?.error).toMatch(/\S/)
})

it('secrets of another master key cause a failed attempt with that reason', async () => {
  const receiver = await receive()
  const masterKey = new MasterKey(Buffer.alloc(32, 8))
  const webhook = await fixture.webhook({ url: receiver.url, masterKey })
  const event = await fixture.event([webhook])
  fixture.startWorker()
  await fixture.waitForDelivery(webhook, event, { state: 'failed', roundAttempts: 3 })
  const [attempt] = await fixture.attempts(webhook, event)
  expect(attempt?.error).toMatch(/encrypted with another master key/)
  expect(receiver.received).toEqual([])
})

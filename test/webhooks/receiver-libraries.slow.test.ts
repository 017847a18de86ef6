import { randomBytes } from 'node:crypto'
import { CloudEvent, HTTP } from 'cloudevents'
import { Webhook as StandardWebhook } from 'standardwebhooks'
import { Webhook as SvixWebhook } from 'svix'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { EVENT_TYPES } from '../../src/events/event.ts'
import { newSigningSecret } from '../../src/webhooks/signature.ts'
import { Builder } from '../builds/builder.ts'
import { appendToOutbox } from '../events/outbox.ts'
import { fixture } from '../images/image-fixtures.ts'
import { pushContainer, tarOf } from '../support/container-images.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { waitUntil } from '../support/wait-until.ts'
import { type Received, type Receiver, startReceiver, waitForRequests } from './receiver.ts'
import { createWebhook, requestWebhooks } from './webhook-client.ts'

/** The clocks of sender and receiver may differ by this much: Standard Webhooks, "Verifying signatures". */
const TOLERANCE_MILLISECONDS = 5 * 60_000

/** Verifies a request as the documentation of each library shows it. Throws. */
const VERIFIERS = {
  standardwebhooks: (secret: string, { body, headers }: Received) =>
    new StandardWebhook(secret).verify(body, headers as Record<string, string>),
  svix: (secret: string, { body, headers }: Received) =>
    new SvixWebhook(secret).verify(body, headers as Record<string, string>),
}

const HVT = fixture('builds/hello-key-1/bin/hello-key.hvt')
/** More than a push reads. */
const LARGE = randomBytes(33 * 1024 * 1024)

let registry: TestRegistry
let receiver: Receiver
let hook: { name: string; secret: string }
let event: Received
let ping: Received

const at = (index: number): Received => {
  const one = receiver.received[index]
  if (one === undefined) throw new Error(`the receiver has no request ${index}`)
  return one
}

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1' })
  receiver = await startReceiver()
  const repository = newRepository()
  const types = ['image.tag.updated']
  hook = await createWebhook(registry, receiver.url, repository, { types })
  await pushImage(registry, repository, 'live')
  await waitUntil(() => receiver.received.length === 1)
  await requestWebhooks(registry, 'POST', `/${hook.name}/test`)
  await waitUntil(() => receiver.received.length === 2)
  ;[event, ping] = [at(0), at(1)]
})

afterEach(() => vi.useRealTimers())

afterAll(async () => {
  await registry.close()
  await receiver.close()
})

describe.each(Object.entries(VERIFIERS))('a receiver with the library %s', (_library, verify) => {
  it('accepts an event, and a test', () => {
    expect(verify(hook.secret, event)).toMatchObject({ type: 'image.tag.updated' })
    expect(verify(hook.secret, ping)).toMatchObject({ type: 'webhook.ping', subject: hook.name })
  })

  it('refuses another secret', () => {
    for (const one of [event, ping]) {
      expect(() => verify(newSigningSecret(), one)).toThrow('No matching signature found')
    }
  })

  it('refuses a changed body, id or time', () => {
    const { body, headers } = event
    const timestamp = String(Number(headers['webhook-timestamp']) + 1)
    const changed: Received[] = [
      { ...event, body: body.replace('"live"', '"love"') },
      { ...event, body: `${body} ` },
      { ...event, body: ping.body },
      { ...event, headers: { ...headers, 'webhook-id': String(ping.headers['webhook-id']) } },
      { ...event, headers: { ...headers, 'webhook-timestamp': timestamp } },
    ]
    for (const one of changed) {
      expect(() => verify(hook.secret, one)).toThrow('No matching signature found')
    }
  })

  it('refuses a request without a signature', () => {
    const { 'webhook-signature': _, ...headers } = event.headers
    expect(() => verify(hook.secret, { ...event, headers })).toThrow('Missing required headers')
  })

  it('refuses an old request, and one from the future', () => {
    const sentAt = Number(event.headers['webhook-timestamp']) * 1000
    for (const [milliseconds, message] of [
      [TOLERANCE_MILLISECONDS + 2_000, 'Message timestamp too old'],
      [-TOLERANCE_MILLISECONDS - 2_000, 'Message timestamp too new'],
    ] as const) {
      vi.useFakeTimers({ toFake: ['Date'], now: sentAt + milliseconds })
      expect(() => verify(hook.secret, event)).toThrow(message)
    }
    vi.useFakeTimers({ toFake: ['Date'], now: sentAt + TOLERANCE_MILLISECONDS - 2_000 })
    expect(verify(hook.secret, event)).toBeDefined()
  })

  it('accepts both secrets during a rotation, and then the new one alone', async () => {
    const repository = newRepository()
    const settings = { types: ['image.tag.updated'] }
    const { name, secret: old } = await createWebhook(registry, receiver.url, repository, settings)
    const rotate = async (body: unknown) => {
      const { body: view } = await requestWebhooks(registry, 'POST', `/${name}/rotate-secret`, body)
      return String(view.secret)
    }
    const receive = async () => {
      const before = receiver.received.length
      await pushImage(registry, repository, 'live')
      await waitForRequests(receiver, before + 1)
      return at(before)
    }
    const second = await rotate({ overlapSeconds: 600 })
    const during = await receive()
    expect(String(during.headers['webhook-signature']).split(' ')).toHaveLength(2)
    for (const secret of [old, second]) expect(verify(secret, during)).toBeDefined()
    expect(() => verify(newSigningSecret(), during)).toThrow('No matching signature found')
    const third = await rotate({ overlapSeconds: 0 })
    const after = await receive()
    expect(verify(third, after)).toBeDefined()
    for (const secret of [old, second]) {
      expect(() => verify(secret, after)).toThrow('No matching signature found')
    }
  })

  it('accepts the format of Docker registries, a body of its own, and a public key beside it', async () => {
    for (const settings of [
      { format: 'docker' },
      { body: { digest: '{{digest}}' } },
      { authentication: { signatures: ['v1a', 'x-signature', 'x-hub-signature-256'] } },
    ]) {
      const repository = newRepository()
      const types = ['image.tag.updated']
      const before = receiver.received.length
      const { secret } = await createWebhook(registry, receiver.url, repository, {
        types,
        ...settings,
      })
      const { digest } = await pushImage(registry, repository, 'live')
      await waitForRequests(receiver, before + 1)
      expect(JSON.stringify(verify(secret, at(before)))).toContain(digest)
    }
  })
})

describe('a receiver with the library cloudevents', () => {
  const read = ({ headers, body }: Received) => {
    const found = HTTP.toEvent<{ registry: string }>({ headers, body })
    if (!(found instanceof CloudEvent)) throw new Error('the request is no single event')
    return found
  }

  /** Causes each type of event about builds. */
  async function pushBuilds(repository: string) {
    const builders = [await Builder.open(registry), await Builder.open(registry)]
    for (const builder of builders) await builder.push(registry, repository, 'a', 'hello-key-1')
    const [first] = builders
    await first?.push(registry, repository, 'b', 'hello-key-2')
    await first?.push(registry, repository, 'c', 'hello-key-4-same-input-different-output')
    const form = new FormData()
    form.append('console', new Blob(['failed']), 'console')
    const path = `/api/v1/repositories/${repository}/builds`
    expect((await registry.request(path, { method: 'POST', body: form })).status).toBe(201)
  }

  it('reads every type of event in structured mode, and validates it strictly', async () => {
    const all = await startReceiver()
    const types = EVENT_TYPES.filter((type) => type !== 'webhook.ping')
    try {
      const { name } = await createWebhook(registry, all.url, 'sdk/**', { types })
      const { digest, mediaType, size } = await pushImage(registry, 'sdk/app', 'live')
      await pushImage(registry, 'sdk/app', undefined, { subject: { mediaType, digest, size } })
      await pushImage(registry, 'sdk/other', 'live')
      await pushBuilds('sdk/builds')
      const deployed = EVENT_TYPES.filter((type) => /^(?:deployment|host)\./.test(type))
      await appendToOutbox(registry, 'sdk/app', deployed)
      const layers = [await tarOf([['unikernel.hvt', HVT]]), await tarOf([['salt', LARGE]])]
      expect((await pushContainer(registry, 'sdk/container', 'live', layers)).status).toBe(201)
      const gone = await startReceiver((_, res) => void res.writeHead(410).end())
      const ended = await createWebhook(registry, gone.url, 'sdk/**')
      await requestWebhooks(registry, 'POST', `/${ended.name}/test`)
      await requestWebhooks(registry, 'POST', `/${name}/test`)
      for (const path of [
        '/v2/sdk/app/manifests/live',
        `/v2/sdk/app/manifests/${digest}`,
        '/api/v1/repositories/sdk/other',
      ]) {
        expect((await registry.request(path, { method: 'DELETE' })).ok).toBe(true)
      }
      const seen = () => new Set(all.received.map(({ body }) => JSON.parse(body).type))
      await expect.poll(seen, { timeout: 20_000 }).toEqual(new Set(EVENT_TYPES))
      await gone.close()
      for (const { headers, body } of all.received) {
        const message = { headers, body }
        expect(HTTP.isEvent(message)).toBe(true)
        const found = read({ path: '', ...message })
        expect(found.validate()).toBe(true)
        // The SDK keeps every attribute and the data, so nothing depends on how it reads them.
        expect(JSON.parse(JSON.stringify(found))).toEqual(JSON.parse(body))
        expect(found.id).toBe(headers['webhook-id'])
        expect(found.data?.registry).toBe(new URL(registry.url).host)
      }
    } finally {
      await all.close()
    }
  })

  it('reads the events of the feed as webhooks send them', async () => {
    const page = await registry.request('/api/v1/events?repository=sdk/feed&wait=0')
    const { cursor } = (await page.json()) as { cursor: string }
    await pushImage(registry, 'sdk/feed', 'live')
    const next = `/api/v1/events?repository=sdk/feed&wait=10&after=${cursor}`
    const { events } = (await (await registry.request(next)).json()) as { events: unknown[] }
    expect(events.length).toBeGreaterThan(0)
    const headers = { 'content-type': 'application/cloudevents+json' }
    for (const one of events) {
      expect(read({ path: '', headers, body: JSON.stringify(one) }).validate()).toBe(true)
    }
  })

  it('can send them on in binary mode without a loss', () => {
    const { headers, body } = HTTP.binary(read(event))
    expect(read({ path: '', headers: headers as Received['headers'], body: String(body) })).toEqual(
      read(event),
    )
  })

  it('refuses an event without an attribute, or with one of another form', () => {
    const whole = JSON.parse(event.body) as Record<string, unknown>
    for (const spoiled of [
      { ...whole, source: undefined },
      { ...whole, type: '' },
      { ...whole, 'not-a-name': 'x' },
    ]) {
      const message = { ...event, body: JSON.stringify(spoiled) }
      expect(() => read(message).validate(), message.body.slice(0, 40)).toThrow()
    }
  })
})

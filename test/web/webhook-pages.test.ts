import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { logIn, sendForm } from '../auth/session-client.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { type Receiver, respondWith, startReceiver } from '../webhooks/receiver.ts'
import {
  createWebhook,
  listDeliveries,
  requestWebhooks,
  waitForEndedDeliveries,
} from '../webhooks/webhook-client.ts'

const REPOSITORY = 'web/www'
const HEADER = 'a-header-that-nobody-should-read'

const DELIVERED = { timeout: 10_000, interval: 50 }

let registry: TestRegistry
let receiver: Receiver
let cookie: string
let name: string
let secret: string

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1' })
  receiver = await startReceiver(respondWith(410))
  const made = await createWebhook(registry, receiver.url, REPOSITORY, {
    types: ['image.pushed'],
    headers: { 'x-token': HEADER },
    authentication: { authorization: `Bearer ${HEADER}` },
  })
  ;({ name, secret } = made)
  await pushImage(registry, REPOSITORY, 'live')
  await vi.waitFor(async () => {
    const states = (await listDeliveries(registry, name)).map(({ status }) => status)
    expect(states).toEqual([410])
    expect((await requestWebhooks(registry, 'GET', `/${name}`)).body.state).toBe('disabled')
  }, DELIVERED)
  receiver.respond = respondWith(204)
  cookie = await logIn(registry, { name: 'admin', secret: registry.password })
})
afterAll(async () => {
  await receiver?.close()
  await registry?.close()
})

async function page(path: string, headers: Record<string, string> = { cookie }) {
  const answer = await registry.anonymous(path, { headers })
  const text = await answer.text()
  expect(text.length).toBeLessThan(20_000)
  return { status: answer.status, headers: answer.headers, text }
}

const send = (path: string, fields: Record<string, string> = {}) =>
  sendForm(registry, path, fields, { cookie })

describe('the pages of webhooks', () => {
  it('say which one fails, since when, and why', async () => {
    const list = await page('/webhooks')
    expect(list.headers.get('link')).toContain('</api/v1/webhooks>; rel="alternate"')
    expect(list.text).toContain('1 of 1 fails.')
    expect(list.text).toContain(`href="/webhooks/${name}"`)
    expect(list.text).toContain(new URL(receiver.url).host)
    const { text } = await page(`/webhooks/${name}`)
    expect(text).toContain('disabled')
    expect(text).toContain('the receiver answered 410')
    expect(text).toContain('x-token')
    const [delivery] = await listDeliveries(registry, name)
    expect(text).toContain(`href="/webhooks/${name}/deliveries/${delivery?.event}"`)
  })

  it('show no secret', async () => {
    const [delivery] = await listDeliveries(registry, name)
    for (const path of [
      '/webhooks',
      `/webhooks/${name}`,
      `/webhooks/${name}/deliveries/${delivery?.event}`,
    ]) {
      const { status, text } = await page(path)
      expect([path, status]).toEqual([path, 200])
      expect(text).not.toContain(secret)
      expect(text).not.toContain(HEADER)
    }
  })

  it('resume, pause and ping by forms', async () => {
    const path = `/webhooks/${name}`
    for (const [change, word, next] of [
      ['resume', 'active', 'pause'],
      ['pause', 'paused', 'resume'],
      ['resume', 'active', 'pause'],
    ] as const) {
      const answer = await send(`${path}/${change}`)
      expect([answer.status, answer.headers.get('location')]).toEqual([303, path])
      expect((await requestWebhooks(registry, 'GET', `/${name}`)).body.state).toBe(word)
      expect((await page(path)).text).toContain(`action="${path}/${next}"`)
    }
    expect((await send(`${path}/test`)).headers.get('location')).toBe(path)
    await waitForEndedDeliveries(registry, name, 2)
    const { text } = await page(path)
    expect(text).toContain('webhook.ping')
    expect(text).toContain('delivers')
    expect((await page('/webhooks')).text).toContain('No webhook fails.')
  })

  it('filter the deliveries by their state', async () => {
    const delivered = (await page(`/webhooks/${name}?state=delivered`)).text
    expect(delivered).toContain('>image.pushed</a>')
    const failed = (await page(`/webhooks/${name}?state=failed`)).text
    expect(failed).not.toContain('>image.pushed</a>')
    expect(failed).toContain('No delivery on this page is in this state')
    expect((await page(`/webhooks/${name}?state=broken`)).status).toBe(400)
  })

  it('send one delivery again, and show each attempt', async () => {
    const all = await listDeliveries(registry, name)
    const pushed = all.find(({ type }) => type === 'image.pushed')
    const path = `/webhooks/${name}/deliveries/${pushed?.event}`
    const sent = receiver.received.length
    const answer = await send(`${path}/redeliver`)
    expect([answer.status, answer.headers.get('location')]).toEqual([303, path])
    await expect.poll(() => receiver.received.length).toBe(sent + 1)
    await waitForEndedDeliveries(registry, name, 2)
    const { text } = await page(path)
    expect(text.match(/status 204/g)).toHaveLength(2)
    expect(text.indexOf('status 204')).toBeLessThan(text.indexOf('answered 410'))
    expect(text).toContain('&quot;type&quot;: &quot;image.pushed&quot;')
  })

  it('send the events of a time again, with the states that a form names', async () => {
    const path = `/webhooks/${name}/redeliver`
    // A browser sends a time without its zone, which is UTC.
    const after = new Date(Date.now() - 3_600_000).toISOString().slice(0, 16)
    const sent = receiver.received.length
    const none = await send(path, { after, until: '', states: 'failed,expired,refused' })
    expect([none.status, none.headers.get('location')]).toEqual([
      303,
      `/webhooks/${name}?again=0#again`,
    ])
    const all = await send(path, { after, until: '', states: '' })
    expect(all.headers.get('location')).toBe(`/webhooks/${name}?again=1#again`)
    expect((await page(`/webhooks/${name}?again=1`)).text).toContain('1 event will be sent again')
    await expect.poll(() => receiver.received.length).toBe(sent + 1)
    expect((await send(path, { after: 'yesterday', states: '' })).status).toBe(400)
    expect((await send(path, { after, states: 'broken' })).status).toBe(400)
  })

  it('continue a time with more events than one form handles', async () => {
    const { text } = await page(`/webhooks/${name}?again=1000&after=0a0b0c0d-7&states=failed`)
    expect(text).toContain('1,000 events will be sent again')
    expect(text).toContain('name="after" value="0a0b0c0d-7"')
    expect(text).toContain('name="states" value="failed"')
  })

  it('are those that the reader may manage, and are linked for nobody else', async () => {
    const linked = 'href="/webhooks"'
    expect((await page('/')).text).toContain(linked)
    const headersOf = async (repositories: string[], actions: string[]) => {
      const made = await makeCredential(registry, { repositories, actions })
      return { authorization: basic(made.name, made.secret) }
    }
    const owner = await headersOf(['web/**'], ['admin', 'pull'])
    expect((await page('/', owner)).text).toContain(linked)
    expect((await page('/webhooks', owner)).text).toContain(name)
    const stranger = await headersOf(['other/**'], ['admin', 'pull'])
    expect((await page('/webhooks', stranger)).text).toContain('No webhook is here')
    expect((await page(`/webhooks/${name}`, stranger)).status).toBe(404)
    const puller = await headersOf(['web/**'], ['pull', 'push'])
    expect((await page('/', puller)).text).not.toContain(linked)
    const anonymous = await registry.anonymous(`/webhooks/${name}`, { redirect: 'manual' })
    expect([anonymous.status, anonymous.headers.get('location')]).toEqual([
      303,
      `/login?next=${encodeURIComponent(`/webhooks/${name}`)}`,
    ])
  })

  it('offer no change to a reader who may administer, and may not pull', async () => {
    const made = await makeCredential(registry, { repositories: ['web/**'], actions: ['admin'] })
    const authorization = basic(made.name, made.secret)
    const { text } = await page(`/webhooks/${name}`, { authorization })
    expect(text).not.toContain(`/webhooks/${name}/pause`)
    const answer = await sendForm(registry, `/webhooks/${name}/pause`, {}, { authorization })
    expect(answer.status).toBe(403)
  })
})

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  adminWebhookClient,
  createWebhookAs,
  errorMessage,
  type WebhookClient,
  webhookRequest,
} from './webhook-client.ts'

let registry: TestRegistry
let withoutUrl: TestRegistry
let admin: WebhookClient

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_PUBLIC_URL: 'https://registry.example' })
  withoutUrl = await startRegistry({ ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.0/8' })
  admin = adminWebhookClient(registry)
})
afterAll(async () => {
  await registry.close()
  await withoutUrl.close()
})

const long = (length: number) => 'x'.repeat(length)
const many = <T>(length: number, make: (index: number) => T) =>
  Array.from({ length }, (_, index) => make(index))

const WRONG: Record<string, readonly Record<string, unknown>[]> = {
  'a name': [{ name: 'Upper' }, { name: '' }, { name: 'a/b' }, { name: 'operator' }],
  url: [
    { url: 'http://receiver.example/' },
    { url: 'https://127.0.0.1/' },
    { url: 'https://[::1]/' },
    { url: 'https://2130706433/' },
    { url: 'https://user:pass@receiver.example/' },
    { url: 'ftp://receiver.example/' },
    { url: 'receiver.example' },
    { url: 'https://receiver.example/\tx' },
    { url: 'https://rücken.example/' },
    { url: 'https://receiver.example/#there' },
    { url: `https://receiver.example/${long(2048)}` },
    { url: '' },
    { url: null },
  ],
  repositories: [
    { repositories: [] },
    { repositories: ['Upper/*'] },
    { repositories: ['a//b'] },
    { repositories: [long(256)] },
    { repositories: many(51, (index) => `a${index}`) },
    { repositories: many(30, (index) => `${long(200)}${index}`) },
    { repositories: 'builds/**' },
    { repositories: null },
  ],
  tags: [
    { tags: [] },
    { tags: ['a/b'] },
    { tags: many(51, (index) => `v${index}`) },
    { tags: [7] },
  ],
  types: [
    { types: [] },
    { types: ['image.pulled'] },
    { types: ['webhook.ping'] },
    { types: ['Image.Pushed'] },
  ],
  format: [{ format: 'xml' }, { format: 7 }],
  body: [
    { body: 'text' },
    { body: ['{{tag}}'] },
    { body: 7 },
    { body: { a: '{{sha}}' } },
    { body: { a: '{{tag' } },
    { body: { '{{tag}}': 1 } },
    { body: { a: 'x\u202ey' } },
    { body: { a: 2 ** 60 } },
    { body: { a: long(4096) } },
    { body: { a: '{{id}}'.repeat(51) } },
    { body: JSON.parse(`${'{"a":'.repeat(500)}1${'}'.repeat(500)}`) },
    { body: {}, format: 'docker' },
    { body: { a: '{{digest}}' } },
    { body: { a: '{{digest}}' }, types: ['image.tag.updated', 'image.tag.deleted'] },
    { body: { a: '{{tag}}' }, types: ['image.pushed'] },
    { body: { a: '{{repository}}' }, types: ['webhook.disabled'] },
  ],
  'authentication.signatures': [
    { authentication: { signatures: ['v1'] } },
    { authentication: { signatures: ['rot13'] } },
  ],
  'authentication.oidcAudience': [
    { authentication: { oidcAudience: '' } },
    { authentication: { oidcAudience: long(256) } },
    { authentication: { oidcAudience: 'a\nb' } },
    { authentication: { oidcAudience: 'registry.example' } },
    { authentication: { oidcAudience: 'https://registry.example' } },
  ],
  authentication: [
    { authentication: { authorization: 'Bearer x', oidcAudience: 'flux' } },
    { authentication: 'secret' },
    { authentication: [] },
    { authentication: { surprise: 1 } },
  ],
  headers: [
    { headers: { Host: 'x' } },
    { headers: { 'content-length': '5' } },
    { headers: { 'Content-Type': 'text/plain' } },
    { headers: { Authorization: 'Bearer x' } },
    { headers: { 'Webhook-Id': 'x' } },
    { headers: { 'webhook-signature': 'x' } },
    { headers: { Connection: 'close' } },
    { headers: { 'Transfer-Encoding': 'chunked' } },
    { headers: { 'X-Hub-Signature-256': 'x' } },
    { headers: { '': 'x' } },
    { headers: { 'a b': 'x' } },
    { headers: { 'x-a': 'line\r\nX-Evil: 1' } },
    { headers: { 'x-a': ' x' } },
    { headers: { 'x-a': 'é' } },
    { headers: { 'x-a': long(4097) } },
    { headers: { 'x-a': 'x', 'X-A': 'y' } },
    { headers: Object.fromEntries(many(21, (index) => [`x-${index}`, 'x'])) },
    { headers: Object.fromEntries(many(2, (index) => [`x-${index}`, long(4000)])) },
    { headers: { 'x-a': 7 } },
    { headers: ['x-a'] },
  ],
  description: [{ description: long(1001) }, { description: 'a\u0000b' }, { description: 7 }],
  maxAgeSeconds: [
    { maxAgeSeconds: 0 },
    { maxAgeSeconds: -1 },
    { maxAgeSeconds: 2_592_001 },
    { maxAgeSeconds: 1.5 },
    { maxAgeSeconds: '1h' },
  ],
  coalesceTags: [{ coalesceTags: 'yes' }],
  paused: [{ paused: 1 }, { paused: null }],
  surprise: [{ surprise: true }],
}

describe.each(Object.entries(WRONG))('a webhook is refused for %s,', (field, requests) => {
  it.each(requests.map((one) => [JSON.stringify(one).slice(0, 70), one] as const))(
    'as in %s, in one line that names the field',
    async (_text, more) => {
      const answer = await admin('POST', '', webhookRequest(more))
      expect(answer.status).toBe(400)
      const message = errorMessage(answer, 'REQUEST_INVALID')
      expect(message.slice(0, 400)).toContain(field)
      expect(message.length).toBeLessThan(600)
    },
  )
})

it('a change is refused for the same reasons, and changes nothing', async () => {
  const { secret: _, ...webhook } = await createWebhookAs(admin)
  const { 'a name': __, ...others } = WRONG
  for (const change of Object.values(others).flat()) {
    const answer = await admin('PATCH', `/${webhook.name}`, { description: 'changed', ...change })
    expect({ change, status: answer.status }).toEqual({ change, status: 400 })
  }
  for (const change of [{ name: 'other' }, { authentication: { secret: 'whsec_x' } }]) {
    const answer = await admin('PATCH', `/${webhook.name}`, change)
    expect(errorMessage(answer, 'REQUEST_INVALID')).toContain('is not a field')
  }
  expect((await admin('GET', `/${webhook.name}`)).body).toEqual(webhook)
})

it('an Authorization header and a token exclude each other, in a later change too', async () => {
  const { name } = await createWebhookAs(admin, { authentication: { oidcAudience: 'flux' } })
  const change = { authentication: { authorization: 'Bearer x' } }
  const refused = await admin('PATCH', `/${name}`, change)
  expect(errorMessage(refused, 'REQUEST_INVALID')).toContain('set one of them to null')
  const instead = { authentication: { ...change.authentication, oidcAudience: null } }
  expect((await admin('PATCH', `/${name}`, instead)).status).toBe(200)
})

it('a body keeps fitting the types and the format of its webhook', async () => {
  const types = ['image.tag.updated']
  const body = { tag: '{{tag}}' }
  const { name, ...created } = await createWebhookAs(admin, { types, body })
  expect(created).toMatchObject({ body, format: 'cloudevents' })
  for (const change of [{ types: null }, { types: ['image.deleted'] }, { format: 'docker' }]) {
    const refused = await admin('PATCH', `/${name}`, change)
    expect(errorMessage(refused, 'REQUEST_INVALID')).toMatch(/^body /)
  }
  expect((await admin('GET', `/${name}`)).body).toMatchObject({ body, types })
  const without = await admin('PATCH', `/${name}`, { types: null, format: 'docker', body: null })
  expect(without).toMatchObject({ status: 200, body: { body: null, format: 'docker' } })
})

it('a webhook with a body gets no test', async () => {
  const { name } = await createWebhookAs(admin, { body: {} })
  const refused = await admin('POST', `/${name}/test`)
  expect(refused.status).toBe(409)
  expect(errorMessage(refused, 'CONFLICT')).toContain('send an event again instead')
  expect((await admin('GET', `/${name}/deliveries`)).body.deliveries).toEqual([])
  expect((await admin('PATCH', `/${name}`, { body: null })).status).toBe(200)
  expect((await admin('POST', `/${name}/test`)).status).toBe(202)
})

describe('without a public URL', () => {
  it('an audience is refused, because no receiver could verify the token', async () => {
    const answer = await adminWebhookClient(withoutUrl)(
      'POST',
      '',
      webhookRequest({ authentication: { oidcAudience: 'flux' } }),
    )
    expect(errorMessage(answer, 'REQUEST_INVALID')).toContain('ROOKERY_PUBLIC_URL')
  })
})

describe('internal addresses', () => {
  it('are refused with the setting that allows them', async () => {
    const answer = await admin('POST', '', webhookRequest({ url: 'https://10.1.2.3/' }))
    expect(errorMessage(answer, 'REQUEST_INVALID')).toContain('ROOKERY_WEBHOOK_ALLOW_NETWORKS')
  })

  it('are accepted in allowed networks, with http too', async () => {
    const client = adminWebhookClient(withoutUrl)
    const webhook = await createWebhookAs(client, { url: 'http://127.0.0.1:4/hook' })
    expect(webhook.url).toBe('http://127.0.0.1:4/hook')
    const other = await client('POST', '', webhookRequest({ url: 'http://10.1.2.3/' }))
    expect(other.status).toBe(400)
  })
})

it('a body that is not a JSON object is refused', async () => {
  for (const body of ['', '[', '[]', 'null', '7']) {
    const answer = await registry.request('/api/v1/webhooks', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    })
    expect(answer.status).toBe(400)
  }
})

import { createRequire } from 'node:module'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GuardedClient } from '../../src/outgoing/client.ts'
import { Guard } from '../../src/outgoing/guard.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { type Receiver, startReceiver } from '../webhooks/receiver.ts'
import {
  adminWebhookClient,
  createWebhookAs,
  credentialWebhookClient,
  errorMessage,
  type WebhookClient,
  webhookRequest,
} from '../webhooks/webhook-client.ts'

const SECRET = 'AKIA-OF-THE-INTERNAL-SERVER'
const repositories = ['w/**']

let registry: TestRegistry
let internal: Receiver
let admin: WebhookClient
let tenant: WebhookClient

beforeAll(async () => {
  // The tests take 127.0.0.2 as an internal address that is not allowed.
  registry = await startRegistry({ ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1' })
  internal = await startReceiver((_, res) => {
    res.writeHead(418, { 'X-Secret': SECRET, 'Set-Cookie': SECRET }).end(SECRET)
  })
  admin = adminWebhookClient(registry)
  tenant = (await credentialWebhookClient(registry, { repositories, actions: ['admin', 'pull'] }))
    .client
})

afterAll(async () => {
  await registry?.close()
  await internal?.close()
})

/** Sends a ping, waits for its attempt, and returns what this client can read of it, as JSON. */
async function readPing(client: WebhookClient, name: string, reader = client) {
  const { body } = await client('POST', `/${name}/test`)
  const read = () => reader('GET', `/${name}/deliveries/${body.event}`)
  await expect
    .poll(async () => (await read()).body.attempts, { timeout: 20_000 })
    .toBeGreaterThan(0)
  const detail = (await read()).body
  const list = (await reader('GET', `/${name}/deliveries`)).body
  const webhook = (await reader('GET', `/${name}`)).body
  return { detail, text: JSON.stringify({ detail, list, webhook }) }
}

describe('a server in an allowed network', () => {
  it('receives events of a tenant, who reads the status of its response and nothing else', async () => {
    const { name } = await createWebhookAs(tenant, { repositories, url: internal.url })
    const seen = await readPing(tenant, name)
    expect(internal.received).not.toHaveLength(0)
    expect(seen.detail).toMatchObject({ status: 418, error: 'the receiver answered 418' })
    expect(seen.detail.attemptLog[0]).toMatchObject({ response: null, hidden: true })
    expect(seen.text).not.toContain(SECRET)
    const { detail } = await readPing(admin, name)
    const response = { headers: { 'x-secret': SECRET }, body: SECRET }
    expect(detail.attemptLog[0]).toMatchObject({ response, hidden: false })
  })

  it('does not answer a tenant through the webhook of an administrator either', async () => {
    const { name } = await createWebhookAs(admin, { repositories, url: internal.url })
    expect((await readPing(admin, name, tenant)).text).not.toContain(SECRET)
    expect((await tenant('PATCH', `/${name}`, { description: 'mine' })).status).toBe(200)
    expect((await readPing(tenant, name)).text).not.toContain(SECRET)
  })

  it('does not answer a tenant who changes the URL to a public address afterwards', async () => {
    const { name } = await createWebhookAs(tenant, { repositories, url: internal.url })
    const { detail } = await readPing(tenant, name)
    await tenant('PATCH', `/${name}`, { url: 'https://192.0.66.7/' })
    const later = await tenant('GET', `/${name}/deliveries/${detail.event}`)
    expect(JSON.stringify(later.body)).not.toContain(SECRET)
  })
})

describe('a body of a tenant', () => {
  const body = { Privileged: true, tag: '{{tag}}' }
  const types = ['image.tag.updated']

  it('is not for a server in an allowed network, as an address or by a change', async () => {
    const webhook = webhookRequest({ repositories, types, url: internal.url })
    const refused = await tenant('POST', '', { ...webhook, body })
    expect(errorMessage(refused, 'REQUEST_INVALID')).toContain('body is only for public addresses')
    const { name } = await createWebhookAs(tenant, webhook)
    expect((await tenant('PATCH', `/${name}`, { body })).status).toBe(400)
    const away = { repositories, types, body, url: 'https://192.0.66.7/' }
    const other = await createWebhookAs(tenant, away)
    expect((await tenant('PATCH', `/${other.name}`, { url: internal.url })).status).toBe(400)
    const adminOwned = await createWebhookAs(admin, {
      repositories,
      types,
      body,
      url: internal.url,
    })
    const takeover = await tenant('PATCH', `/${adminOwned.name}`, { description: 'mine' })
    expect(takeover.status).toBe(400)
    expect((await tenant('POST', `/${adminOwned.name}/rotate-secret`)).status).toBe(400)
    expect((await admin('GET', `/${adminOwned.name}`)).body.owner).toBe('admin')
    expect((await admin('DELETE', `/${adminOwned.name}`)).status).toBe(204)
  })

  it('is not sent to a server in an allowed network by a name that leads there', async () => {
    const before = internal.received.length
    const url = internal.url.replace('http://127.0.0.1', 'https://localhost')
    const { name } = await createWebhookAs(tenant, { repositories, types, url, body })
    await pushImage(registry, 'w/app', 'live')
    const list = async () => (await tenant('GET', `/${name}/deliveries`)).body.deliveries
    await expect
      .poll(async () => (await list())[0]?.attempts, { timeout: 20_000 })
      .toBeGreaterThan(0)
    const { error } = (await admin('GET', `/${name}/deliveries`)).body.deliveries[0]
    expect(error).toContain('only webhooks of administrators send a body there')
    const bodies = internal.received.slice(before).map((one) => one.body)
    expect(bodies.filter((one) => one.includes('Privileged'))).toEqual([])
  })

  it('is sent there by an administrator', async () => {
    await createWebhookAs(admin, { repositories, types, body, url: internal.url })
    await pushImage(registry, 'w/app', 'other')
    const bodies = () => internal.received.map((one) => one.body)
    await expect.poll(bodies, { timeout: 20_000 }).toContain('{"Privileged":true,"tag":"other"}')
  })
})

describe('a tenant does not learn the address', () => {
  // Each is the same to a tenant: a name of another network, a closed port, another protocol, and no name.
  it.each([
    ['of a name in a network that is not allowed', () => 'http://localhost:4444/', '127.0.0.2'],
    ['of a closed port', () => 'http://127.0.0.1:4/', 'ECONNREFUSED'],
    ['of a server with another protocol', () => internal.url.replace('http:', 'https:'), 'SSL'],
    ['of a name that does not exist', () => 'http://nowhere.invalid/', 'nowhere'],
  ])('%s', async (_, url, reason) => {
    const other = reason === '127.0.0.2'
    const server = other ? await narrow() : { admin, tenant, close: async () => {} }
    const { name } = await createWebhookAs(server.tenant, { repositories, url: url() })
    const { detail } = await readPing(server.tenant, name)
    const hidden = 'the receiver did not answer; administrators can read the reason'
    expect(detail).toMatchObject({ status: null, error: hidden })
    expect(detail.attemptLog[0]).toMatchObject({ error: hidden, response: null, hidden: true })
    const full = (await readPing(server.admin, name)).detail
    expect(full.error).toContain(other ? 'resolves to 127.0.0.1' : reason)
    await server.close()
  })

  /** Starts a registry that allows another network than that of `localhost`. */
  async function narrow() {
    const strict = await startRegistry({ ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.2' })
    const credential = { repositories, actions: ['admin', 'pull'] }
    const { client } = await credentialWebhookClient(strict, credential)
    return { admin: adminWebhookClient(strict), tenant: client, close: () => strict.close() }
  }
})

describe('the client for other servers', () => {
  it('says that a response is from an internal server, also on a connection that it reuses', async () => {
    let address = '8.8.8.8'
    const client = new GuardedClient({
      allowed: ['127.0.0.1'],
      connectMilliseconds: 300,
      keepAliveMilliseconds: 2_000,
      resolve: async () => [address],
    })
    const { port } = new URL(internal.url)
    const request = () => client.request(`http://moves.example:${port}/`, { pool: 'a' })
    const unreachable = client.request(`https://moves.example:${port}/`, { pool: 'a' })
    await expect(unreachable).rejects.toMatchObject({ isInternal: false })
    address = '127.0.0.1'
    for (let count = 0; count < 3; count += 1) {
      expect(await request()).toMatchObject({ status: 418, isInternal: true })
    }
    client.close()
  })

  it('refuses the ports that fetch refuses', () => {
    const { badPorts } = createRequire(import.meta.url)('undici/lib/web/fetch/constants.js')
    expect(badPorts.length).toBeGreaterThan(80)
    const guard = new Guard({ allowed: ['127.0.0.1'] })
    for (const port of badPorts) {
      for (const host of ['https://example.org', 'http://127.0.0.1']) {
        expect(() => guard.parse(`${host}:${port}/`), port).toThrow('browsers block')
      }
    }
    for (const port of ['', ':80', ':443', ':8443', ':3000', ':8080']) {
      expect(guard.parse(`https://example.org${port}/`).hostname).toBe('example.org')
    }
  })

  it('such a port is refused when a webhook is made or changed', async () => {
    for (const client of [admin, tenant]) {
      const { name } = await createWebhookAs(client, { repositories })
      for (const url of ['https://mail.example.org:25/', 'http://127.0.0.1:6000/']) {
        const changed = await client('PATCH', `/${name}`, { url })
        const made = await client('POST', '', { name: 'new', repositories, url })
        for (const { status, body } of [changed, made]) {
          expect(status).toBe(400)
          expect(body.errors[0].message).toContain('a port that browsers block')
        }
      }
    }
  })
})

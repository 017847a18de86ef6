import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import * as far from './builder.ts'
import { errorLine, printed, printedJson } from './operator.ts'
import { rookery } from './rookery.ts'

type Received = { readonly path: string; readonly id: string; readonly type: string }

let registry: TestRegistry
let receiver: Server
let url: string
let host: string
const received: Received[] = []

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.0/8' })
  host = new URL(registry.url).host
  receiver = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => {
      body += chunk
    })
    request.on('end', () => {
      const { type } = JSON.parse(body) as { type: string }
      const path = request.url ?? ''
      received.push({ path, id: String(request.headers['webhook-id']), type })
      response.statusCode = path.startsWith('/broken') ? 500 : 200
      response.end(path.startsWith('/broken') ? 'no\u001b[2J disk\nleft' : 'thanks')
    })
  })
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`
})
afterAll(async () => {
  await registry.close()
  receiver.closeAllConnections()
  await new Promise((resolve) => receiver.close(resolve))
})

const create = (name: string, path: string, ...more: string[]) =>
  printedJson(
    registry,
    'webhook',
    'create',
    name,
    `${url}${path}`,
    '--repository',
    'builds/**',
    ...more,
  )
const arrivedAt = (path: string) => received.filter((one) => one.path === path)

describe('rookery webhook test', () => {
  it('sends a ping to one webhook, and prints its answer', async () => {
    await create('works', '/works')
    await create('other', '/other')
    expect(await printed(registry, 'webhook', 'test', 'works')).toMatch(
      /^works answered 200, after \d+ ms: delivered\n {2}thanks\n$/,
    )
    expect(arrivedAt('/works')).toMatchObject([{ type: 'webhook.ping' }])
    expect(arrivedAt('/other')).toEqual([])
    await expect
      .poll(() => printed(registry, 'webhook', 'show', 'works'))
      .toMatch(/last delivery at 20/)
  })

  it('reports a failure by its status, without control characters', async () => {
    await create('broken', '/broken')
    const ran = await rookery(registry, ['webhook', 'test', 'broken'])
    expect(ran).toMatchObject({ status: 1, stderr: '' })
    expect(ran.stdout).toMatch(/^broken answered 500[^\n]*\n {2}no\ufffd\[2J disk\n {2}left\n$/)
  })

  it('works through the API, and prints JSON', async () => {
    const login = { ROOKERY_TOKEN: await tokenOfAdmin() }
    const tested = await far.printedJson(['webhook', 'test', 'works', '--registry', host], login)
    expect(tested).toMatchObject({
      type: 'webhook.ping',
      subject: 'works',
      state: 'delivered',
      status: 200,
      attemptLog: [{ status: 200, response: { body: 'thanks' } }],
    })
  })

  it('is refused while the webhook is paused', async () => {
    await create('resting', '/resting', '--paused')
    const line = await errorLine(registry, 'webhook', 'test', 'resting')
    expect(line).toContain('resting is paused')
  })
})

describe('rookery webhook deliveries and redeliver', () => {
  it('list deliveries, and send them again with the same id', async () => {
    await create('updates', '/updates', '--type', 'image.tag.updated')
    await pushImage(registry, 'builds/hello', 'v1')
    await pushImage(registry, 'builds/hello', 'v2')
    await expect.poll(() => arrivedAt('/updates').length).toBe(2)
    const listed = () => printedJson(registry, 'webhook', 'deliveries', 'updates')
    await expect
      .poll(async () => (await listed()).deliveries)
      .toMatchObject([
        { subject: 'builds/hello:v2', state: 'delivered', attempts: 1, status: 200 },
        { subject: 'builds/hello:v1', state: 'delivered', attempts: 1, status: 200 },
      ])
    const [, { event }] = (await listed()).deliveries
    const table = await printed(
      registry,
      'webhook',
      'deliveries',
      'updates',
      '--state',
      'delivered',
    )
    expect(table).toMatch(/^TIME +EVENT +TYPE +SUBJECT +STATE +ATTEMPTS +ANSWER\n20/)
    expect(table).toMatch(/image\.tag\.updated +builds\/hello:v2 +delivered +1 +200\n/)
    const one = await printed(registry, 'webhook', 'deliveries', 'updates', event)
    expect(one).toContain(`${event}  image.tag.updated of builds/hello:v1 at 20`)
    expect(one).toContain(`> webhook-id: ${event}\n`)
    expect(one).toContain('< thanks\n')
    expect(await printed(registry, 'webhook', 'redeliver', 'updates', event)).toBe(
      '1 event is sent again.\n',
    )
    await expect
      .poll(() =>
        arrivedAt('/updates')
          .map(({ id }) => id)
          .filter((id) => id === event),
      )
      .toHaveLength(2)
    const login = { ROOKERY_TOKEN: await tokenOfAdmin() }
    const again = ['webhook', 'redeliver', 'updates', '--since', '1h', '--registry', host]
    expect(await far.builderOutput(again, login)).toBe('2 events are sent again.\n')
    await expect.poll(() => arrivedAt('/updates').length).toBe(5)
    const failed = ['webhook', 'redeliver', 'updates', '--since', '1h', '--failed']
    expect(await printedJson(registry, ...failed)).toEqual({ deliveries: 0, state: 'active' })
    await printedJson(registry, 'webhook', 'update', 'updates', '--pause')
    expect(await printed(registry, 'webhook', 'redeliver', 'updates', '--since', '1h')).toBe(
      'updates is paused: 2 events are sent again after rookery webhook update updates --resume.\n',
    )
    const nothing = '00000000-0000-4000-8000-000000000000'
    for (const word of ['deliveries', 'redeliver']) {
      const line = await errorLine(registry, 'webhook', word, 'updates', nothing)
      expect(line).toContain(`updates has no delivery of event ${nothing}`)
    }
  })
})

async function tokenOfAdmin(): Promise<string> {
  const { name, secret } = await makeCredential(registry, { kind: 'admin' })
  const answer = await registry.anonymous('/token?scope=registry:admin:*', {
    headers: { authorization: basic(name, secret) },
  })
  return ((await answer.json()) as { token: string }).token
}

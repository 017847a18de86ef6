import { afterAll, beforeAll, expect, it } from 'vitest'
import { appendToOutbox } from '../events/outbox.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { type Receiver, startReceiver, waitForRequests } from './receiver.ts'
import {
  adminWebhookClient,
  createWebhookAs,
  errorMessage,
  webhookRequest,
} from './webhook-client.ts'

let registry: TestRegistry
let receiver: Receiver

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.0/8' })
  receiver = await startReceiver()
  await pushImage(registry, 'builds/hello', 'live')
})
afterAll(async () => {
  await registry.close()
  await receiver.close()
})

const CD_TYPES = ['deployment.finished', 'deployment.target.changed']

it('a webhook receives CDEvents, and events without one are not sent', async () => {
  const admin = adminWebhookClient(registry)
  const settings = { url: receiver.url, types: CD_TYPES, format: 'cdevents-0.5' }
  const { name } = await createWebhookAs(admin, settings)
  // The deployment of the fixture failed, so only its target has a CDEvent.
  await appendToOutbox(registry, 'builds/hello', ['deployment.finished'])
  const unsettled = { settled: false }
  await appendToOutbox(registry, 'builds/hello', ['deployment.target.changed'], unsettled)
  await waitForRequests(receiver, 1)
  const [{ headers, body } = { headers: {}, body: '' }] = receiver.received
  expect(headers['content-type']).toBe('application/json')
  expect(JSON.parse(body).context.type).toBe('dev.cdevents.service.deployed.0.3.0')
  const states = async () => {
    const { body: page } = await admin('GET', `/${name}/deliveries`)
    return page.deliveries.map(({ state }: { state: string }) => state).sort()
  }
  await expect.poll(states).toEqual(['delivered', 'refused'])
})

it('a webhook of this format has types that it can send, and no test', async () => {
  const admin = adminWebhookClient(registry)
  const refused = await admin('POST', '', webhookRequest({ format: 'cdevents' }))
  expect(refused.status).toBe(400)
  expect(errorMessage(refused, 'REQUEST_INVALID')).toContain(
    'restrict types to deployment.finished',
  )
  const { name } = await createWebhookAs(admin, { format: 'cdevents', types: CD_TYPES })
  expect((await admin('POST', `/${name}/test`)).status).toBe(409)
})

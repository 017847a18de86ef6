import { randomBytes, randomUUID } from 'node:crypto'
import { type AddressInfo, createServer } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { newSigningSecret } from '../../src/webhooks/signature.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { giteaDispatch, githubDispatch, gitlab, woodpecker } from './pipeline-receivers.ts'
import type { Receiver } from './receiver.ts'
import {
  argoEvents,
  argoImageUpdater,
  fluxGeneric,
  fluxHarbor,
  fluxHmac,
  fluxOidc,
  fluxPath,
  isVerified,
  keel,
  portainer,
  type ReceiverRule,
  standardWebhooks,
  startRuledReceiver,
} from './receiver-rules.ts'
import {
  createWebhook,
  listDeliveries,
  requestWebhooks,
  waitForEndedDeliveries,
} from './webhook-client.ts'

let registry: TestRegistry
let host: string
const receivers: Receiver[] = []

async function findFreePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

beforeAll(async () => {
  host = `127.0.0.1:${await findFreePort()}`
  registry = await startRegistry({
    ROOKERY_LISTEN: host,
    ROOKERY_PUBLIC_URL: `http://${host}`,
    ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
  })
})

afterEach(async () => {
  await Promise.all(receivers.splice(0).map((receiver) => receiver.close()))
})

afterAll(() => registry.close())

type Webhook = Record<string, unknown>

/** Delivers a push to a receiver through a webhook with these settings. Returns its actions and its statuses. */
async function deliverPush(
  rule: ReceiverRule,
  path: string,
  webhook: Webhook = {},
): Promise<{ done: unknown[]; statuses: (number | null)[]; digest: string; repository: string }> {
  const receiver = await startRuledReceiver(rule)
  receivers.push(receiver)
  const repository = newRepository()
  const settings = { types: ['image.tag.updated'], ...webhook }
  const { name } = await createWebhook(registry, `${receiver.url}${path}`, repository, settings)
  const { digest } = await pushImage(registry, repository, 'live')
  await expect
    .poll(async () => (await listDeliveries(registry, name)).map(({ status }) => status), {
      timeout: 20_000,
    })
    .toEqual([expect.any(Number)])
  const deliveries = await listDeliveries(registry, name)
  await requestWebhooks(registry, 'DELETE', `/${name}`)
  const statuses = deliveries.map(({ status }) => status)
  return { done: receiver.done, statuses, digest, repository }
}

const token = randomBytes(16).toString('hex')
const secret = newSigningSecret()
const other = newSigningSecret()
const id = randomUUID()
const audience = 'https://flux.example'
const isDeploy = ({ sub }: Record<string, unknown>) => /^webhook:[0-9a-f-]{36}$/.test(String(sub))

it.each<[string, () => ReceiverRule, string, Webhook, number]>([
  ['Flux, generic', () => fluxGeneric(token), fluxPath(token), {}, 200],
  [
    'Flux, generic-hmac',
    () => fluxHmac(secret),
    fluxPath(secret),
    { authentication: { secret, signatures: ['x-signature'] } },
    200,
  ],
  [
    'Flux, generic-oidc',
    () => fluxOidc(`http://${host}`, audience, isDeploy),
    '/hook/oidc',
    { authentication: { oidcAudience: audience } },
    200,
  ],
  [
    'Flux, harbor',
    () => fluxHarbor(token),
    fluxPath(token),
    { authentication: { authorization: token } },
    200,
  ],
  ['Portainer', () => portainer(id), `/api/stacks/webhooks/${id}`, {}, 202],
])('%s acts on a push', async (_receiver, rule, path, webhook, status) => {
  const { done, statuses } = await deliverPush(rule(), path, webhook)
  expect(done).toHaveLength(1)
  expect(statuses).toEqual([status])
})

it('Keel gets the image, tag and digest', async () => {
  const path = '/v1/webhooks/registry'
  const { done, statuses, digest, repository } = await deliverPush(keel, path, { format: 'docker' })
  expect(statuses).toEqual([200])
  expect(done).toEqual([[{ image: `${host}/${repository}`, tag: 'live', digest }]])
})

it.each<[string, string, Webhook]>([
  ['a header', '/webhook?type=cloudevents', { authentication: { webhookSecret: token } }],
  ['the address', `/webhook?type=cloudevents&secret=${token}`, {}],
  [
    'headers alone',
    '/webhook',
    { headers: { 'X-Registry-Type': 'cloudevents' }, authentication: { webhookSecret: token } },
  ],
])('Argo CD Image Updater, with its secret in %s, gets the image to update', async (...row) => {
  const [, path, webhook] = row
  const rule = argoImageUpdater(token)
  const { done, statuses, digest, repository } = await deliverPush(rule, path, webhook)
  expect(statuses).toEqual([200])
  expect(done).toEqual([{ registry: host, repository, tag: 'live', digest }])
})

it('sensors of Argo Events get the whole event', async () => {
  const { done, statuses, digest, repository } = await deliverPush(argoEvents(token), '/images', {
    authentication: { authorization: `Bearer ${token}` },
  })
  expect(statuses).toEqual([200])
  expect(done).toMatchObject([
    {
      specversion: '1.0',
      type: 'image.tag.updated',
      source: `http://${host}`,
      subject: `${repository}:live`,
      data: { registry: host, repository, tag: 'live', digest },
    },
  ])
})

describe('a receiver with the library of Standard Webhooks', () => {
  it('verifies deliveries in both formats', async () => {
    for (const format of ['cloudevents', 'docker']) {
      const webhook = { format, authentication: { secret } }
      const { statuses, done } = await deliverPush(standardWebhooks(secret), '/', webhook)
      expect(statuses, format).toEqual([204])
      expect(done, format).toHaveLength(1)
    }
  })

  it('verifies with the old and the new secret during a rotation', async () => {
    const verified: string[] = []
    const receiver = await startRuledReceiver((received) => {
      verified.push(...[secret, other].filter((one) => isVerified(one, received)))
      return { status: 204 }
    })
    receivers.push(receiver)
    const repository = newRepository()
    const { name } = await createWebhook(registry, receiver.url, repository, {
      types: ['image.tag.updated'],
      authentication: { secret },
    })
    const rotated = await requestWebhooks(registry, 'POST', `/${name}/rotate-secret`, {
      secret: other,
    })
    expect(rotated.status).toBe(200)
    await pushImage(registry, repository, 'live')
    expect(await waitForEndedDeliveries(registry, name, 1)).toMatchObject([
      { state: 'delivered', status: 204 },
    ])
    expect(verified).toEqual([secret, other])
    await requestWebhooks(registry, 'POST', `/${name}/rotate-secret`, { overlapSeconds: 0 })
    await pushImage(registry, repository, 'live')
    await waitForEndedDeliveries(registry, name, 2)
    // Both secrets have ended.
    expect(verified).toEqual([secret, other])
  })
})

it.each<[string, () => ReceiverRule, string, Webhook, number]>([
  ['Flux, with another path', () => fluxGeneric(token), fluxPath(other), {}, 404],
  [
    'Flux, with another secret',
    () => fluxHmac(secret),
    fluxPath(secret),
    { authentication: { secret: other, signatures: ['x-signature'] } },
    400,
  ],
  [
    'Flux, without the signature that it requires',
    () => fluxHmac(secret),
    fluxPath(secret),
    { authentication: { secret } },
    400,
  ],
  [
    'Flux, with a token for another audience',
    () => fluxOidc(`http://${host}`, audience, isDeploy),
    '/hook/oidc',
    { authentication: { oidcAudience: 'https://other.example' } },
    400,
  ],
  [
    'Flux, with a token of another webhook',
    () => fluxOidc(`http://${host}`, audience, ({ sub }) => sub === 'webhook:other'),
    '/hook/oidc',
    { authentication: { oidcAudience: audience } },
    400,
  ],
  [
    'Flux, with another Authorization',
    () => fluxHarbor(token),
    fluxPath(token),
    { authentication: { authorization: `Bearer ${token}` } },
    400,
  ],
  ['Keel, with events in another format', () => keel, '/v1/webhooks/registry', {}, 400],
  [
    'Argo CD Image Updater, with another secret',
    () => argoImageUpdater(token),
    '/webhook?type=cloudevents',
    { authentication: { webhookSecret: other } },
    400,
  ],
  [
    'Argo CD Image Updater, without a type',
    () => argoImageUpdater(token),
    '/webhook',
    { authentication: { webhookSecret: token } },
    400,
  ],
  [
    'Argo Events, with another token',
    () => argoEvents(token),
    '/images',
    { authentication: { authorization: `Bearer ${other}` } },
    401,
  ],
  [
    'Portainer, with another id',
    () => portainer(id),
    `/api/stacks/webhooks/${randomUUID()}`,
    {},
    404,
  ],
  [
    'GitHub, with another token',
    () => githubDispatch(token),
    '/repos/octo/www/dispatches',
    {
      authentication: { authorization: `Bearer ${other}` },
      headers: { accept: 'application/vnd.github+json' },
      body: { event_type: 'image' },
    },
    401,
  ],
  [
    'GitHub, with events',
    () => githubDispatch(token),
    '/repos/octo/www/dispatches',
    {
      authentication: { authorization: `Bearer ${token}` },
      headers: { accept: 'application/vnd.github+json' },
    },
    422,
  ],
  [
    'Gitea, with another token',
    () => giteaDispatch(token),
    '/api/v1/repos/octo/www/actions/workflows/deploy.yaml/dispatches',
    { authentication: { authorization: `token ${other}` }, body: { ref: 'main' } },
    401,
  ],
  [
    'Woodpecker, with another token',
    () => woodpecker(token),
    '/api/repos/7/pipelines',
    { authentication: { authorization: `Bearer ${other}` }, body: { branch: 'main' } },
    401,
  ],
  [
    'GitLab, with another token',
    () => gitlab(token),
    '/api/v4/projects/7/pipeline',
    { authentication: { authorization: `Bearer ${other}` }, body: { ref: 'main' } },
    401,
  ],
  [
    'the library of Standard Webhooks, with another secret',
    () => standardWebhooks(secret),
    '/',
    { authentication: { secret: other } },
    401,
  ],
])(
  '%s does nothing, and the log has its response',
  async (_receiver, rule, path, webhook, status) => {
    const { done, statuses } = await deliverPush(rule(), path, webhook)
    expect(done).toEqual([])
    expect(statuses).toEqual([status])
  },
)

import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { pruneEvents } from '../../src/sequencer/retention.ts'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { Receivers, respondWith, waitForRequests } from './receiver.ts'
import {
  createWebhook,
  listDeliveries,
  requestWebhooks,
  waitForEndedDeliveries,
} from './webhook-client.ts'

let registry: TestRegistry
let client: pg.Client
const receivers = new Receivers()
const receive = receivers.start

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1' })
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
})

afterEach(async () => {
  await receivers.close()
})

afterAll(async () => {
  await client.end()
  await registry.close()
})

const ended = (name: string, count: number) => waitForEndedDeliveries(registry, name, count)
const deliveries = (name: string) => listDeliveries(registry, name)
const tagUpdates = { types: ['image.tag.updated'] }

describe('a webhook whose owner may no longer pull', () => {
  const asHolder = (secret: string, name: string) => ({
    request: (path: string, init: RequestInit = {}) =>
      registry.anonymous(path, {
        ...init,
        headers: { ...(init.headers as object), authorization: basic(name, secret) },
      }),
  })

  it('receives nothing about a repository that became private', async () => {
    const receiver = await receive()
    const repository = newRepository()
    const credential = await makeCredential(registry, {
      repositories: [repository],
      actions: ['admin', 'pull'],
    })
    const holder = asHolder(credential.secret, credential.name)
    const { name } = await createWebhook(holder, receiver.url, repository, tagUpdates)
    // As if the owner had fewer permissions.
    await client.query(
      `update webhooks set owner_grants = '[{"repositories":["${repository}"],"actions":["admin"],"tags":null}]'
        where name = $1`,
      [name],
    )
    await client.query('update webhook_changes set count = count + 1')
    await pushImage(registry, repository, 'live')
    await waitForRequests(receiver, 1)
    await registry.request(`/api/v1/repositories/${repository}/settings`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ visibility: 'private' }),
    })
    await pushImage(registry, repository, 'secret')
    expect((await ended(name, 2))[0]).toMatchObject({ state: 'refused', attempts: 0 })
    expect(receiver.received).toHaveLength(1)
  })

  it('receives nothing after its credential was revoked, and shows the reason', async () => {
    const receiver = await receive()
    const repository = newRepository()
    const credential = await makeCredential(registry, {
      repositories: [repository],
      actions: ['admin', 'pull'],
    })
    const { name } = await createWebhook(
      asHolder(credential.secret, credential.name),
      receiver.url,
      repository,
      tagUpdates,
    )
    await pushImage(registry, repository, 'live')
    await waitForRequests(receiver, 1)
    await registry.request(`/api/v1/credentials/${credential.name}`, { method: 'DELETE' })
    await new Promise((resolve) => setTimeout(resolve, 2_100))
    await pushImage(registry, repository, 'next')
    const state = async () => (await requestWebhooks(registry, 'GET', `/${name}`)).body
    await expect
      .poll(state)
      .toMatchObject({ state: 'disabled', disabledReason: expect.stringMatching(/^owner: /) })
    expect(receiver.received).toHaveLength(1)
  })
})

it('resuming a webhook attempts its pending retries immediately', async () => {
  const receiver = await receive(respondWith(503))
  const repository = newRepository()
  const { name } = await createWebhook(registry, receiver.url, repository, tagUpdates)
  await pushImage(registry, repository, 'live')
  await expect
    .poll(async () => (await deliveries(name))[0])
    .toMatchObject({ state: 'pending', status: 503 })
  await client.query(
    `update deliveries d
        set due_at = now() + interval '20 hours'
       from webhooks w
      where w.id = d.webhook_id
        and w.name = $1`,
    [name],
  )
  receiver.respond = (_, res) => void res.writeHead(204).end()
  const { status } = await requestWebhooks(registry, 'PATCH', `/${name}`, { paused: false })
  expect(status).toBe(200)
  expect((await ended(name, 1))[0]).toMatchObject({ state: 'delivered', status: 204 })
})

it('old events are pruned with their deliveries, pending ones too', async () => {
  const receiver = await receive(respondWith(500))
  const repository = newRepository()
  const { name } = await createWebhook(registry, receiver.url, repository, tagUpdates)
  await pushImage(registry, repository, 'live')
  await waitForRequests(receiver, 1)
  await client.query(`update events set occurred_at = now() - interval '31 days'`)
  const db = new Database({
    connection: registry.databaseUrl,
    connectionsMax: 2,
    onIdleError() {},
  })
  await pruneEvents(db, 30)
  await db.close()
  expect(await deliveries(name)).toEqual([])
  const { rows } = await client.query(
    'select (select count(*)::int from delivery_attempts) as log, position::int, pruned_through::int as pruned from feed',
  )
  expect(rows[0].log).toBe(0)
  expect(rows[0].pruned).toBe(rows[0].position)
})

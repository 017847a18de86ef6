import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '../../src/embedded-postgres/supervisor.ts'
import { registryAt } from '../support/process-registry.ts'
import { pushImageBlobs, putManifest } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'
import { type Receiver, startReceiver, waitForRequests } from './receiver.ts'
import { createWebhook } from './webhook-client.ts'

const RESTARTS = 3
const PUSHES_BETWEEN = 10

let base: string
let postgres: EmbeddedPostgres
let server: ServerProcess
let registry: TestRegistry
let receiver: Receiver

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'rookery-restart-'))
  // Postgres may run as another user.
  await chmod(base, 0o755)
  await startPostgres()
  const { host, port, user, database } = postgres.connection
  const settings = {
    ROOKERY_DATABASE_URL: `postgres:///${database}?host=${encodeURIComponent(host)}&port=${port}&user=${user}`,
    ROOKERY_ADMIN_PASSWORD: 'nothing is lost by the tests',
    ROOKERY_DATA_DIR: join(base, 'data'),
    ROOKERY_LOG_LEVEL: 'warn',
    ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
  }
  server = await startProcess(settings)
  registry = registryAt(server.url, settings.ROOKERY_DATA_DIR, settings)
  receiver = await startReceiver()
})

afterAll(async () => {
  await stopProcess(server)
  await receiver.close()
  await postgres.stop()
  await rm(base, { recursive: true, force: true })
})

async function startPostgres(): Promise<void> {
  const quiet = (): void => {}
  postgres = await startEmbeddedPostgres({
    folder: join(base, 'postgres'),
    log: { info: quiet, warn: quiet, error: quiet },
    onLost(error) {
      throw error
    },
  })
}

async function query<Row extends pg.QueryResultRow>(text: string): Promise<Row[]> {
  const client = new pg.Client(postgres.connection)
  await client.connect()
  try {
    return (await client.query<Row>(text)).rows
  } finally {
    await client.end()
  }
}

const receivedIds = () => receiver.received.map(({ headers }) => String(headers['webhook-id']))

it('a delivery that succeeds while Postgres is down is recorded when it is back', async () => {
  const repository = 'restart/slowly'
  await createWebhook(registry, receiver.url, repository, { types: ['image.tag.updated'] })
  let answer: () => void = () => {}
  receiver.respond = (_, res) => {
    answer = () => res.writeHead(204).end()
  }
  const image = await pushImageBlobs(registry, repository)
  expect((await putManifest(registry, repository, 'live', image)).status).toBe(201)
  await waitForRequests(receiver, 1)
  await postgres.stop()
  // The receiver accepted it, and the result cannot be written.
  answer()
  receiver.respond = (_, res) => void res.writeHead(204).end()
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  await startPostgres()
  const states = () =>
    query<{ state: string; attempts: number }>('select state, attempts from deliveries')
  await expect.poll(states, { timeout: 10_000 }).toEqual([{ state: 'delivered', attempts: 1 }])
  expect(receiver.received).toHaveLength(1)
})

it('every acknowledged push is delivered, although Postgres restarts repeatedly', async () => {
  const repository = 'restart/all'
  await createWebhook(registry, receiver.url, repository, { types: ['image.tag.updated'] })
  const image = await pushImageBlobs(registry, repository)
  let [over, serial] = [false, 0]
  const acknowledged: string[] = []
  const pusher = async (): Promise<void> => {
    while (!over) {
      serial += 1
      const tag = `t${serial}`
      const manifest = { ...image, annotations: { tag } }
      const answer = await putManifest(registry, repository, tag, manifest).catch(() => undefined)
      await answer?.arrayBuffer()
      if (answer?.status === 201) acknowledged.push(tag)
      else await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  const pushing = [pusher(), pusher(), pusher()]
  for (let restart = 0; restart < RESTARTS; restart += 1) {
    const before = acknowledged.length
    await expect
      .poll(() => acknowledged.length - before, { timeout: 20_000, interval: 10 })
      .toBeGreaterThan(PUSHES_BETWEEN)
    await postgres.stop()
    await startPostgres()
  }
  over = true
  await Promise.all(pushing)
  const waiting = () => query<{ count: number }>('select count(*)::int as count from event_outbox')
  await expect.poll(waiting, { timeout: 10_000 }).toEqual([{ count: 0 }])
  const events = await query<{ id: string; tag: string }>(
    `select event_id as id, tag from events where tag like 't%'`,
  )
  const published = new Set(events.map(({ tag }) => tag))
  expect(acknowledged.filter((tag) => !published.has(tag))).toEqual([])
  await expect
    .poll(
      () => {
        const ids = new Set(receivedIds())
        return events.filter(({ id }) => !ids.has(id)).length
      },
      { timeout: 20_000 },
    )
    .toBe(0)
  // All attempts of one event have the same body.
  const bodies = new Map(
    receiver.received.map(({ body, headers }) => [headers['webhook-id'], body]),
  )
  for (const { headers, body } of receiver.received) {
    expect(body).toBe(bodies.get(headers['webhook-id']))
  }
  const positions = await query<{ count: number; last: number }>(
    'select count(*)::int as count, max(position)::int as last from events',
  )
  expect(positions).toEqual([{ count: positions[0]?.last, last: positions[0]?.last }])
})

import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { registryAt } from '../support/process-registry.ts'
import { pushImage, pushImageBlobs, putManifest } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'
import { type Receiver, Receivers, respondWith, waitForRequests } from './receiver.ts'
import { createWebhook } from './webhook-client.ts'

const PASSWORD = 'nothing is lost by the tests'
const REPOSITORIES = ['lost/a', 'lost/b', 'lost/c']
const PUSHES = 240
const PUSHERS = 6

let database: TestDatabase
let client: pg.Client
let folder: string
let settings: Record<string, string>
const servers: ServerProcess[] = []
const receivers = new Receivers()
const receive = receivers.start

beforeAll(async () => {
  database = await createTestDatabase()
  client = new pg.Client(database.url)
  client.on('error', () => {})
  await client.connect()
  folder = await mkdtemp(join(tmpdir(), 'rookery-lost-'))
  // The replicas share the blob files too.
  settings = {
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_DATA_DIR: folder,
    ROOKERY_ADMIN_PASSWORD: PASSWORD,
    ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
    ROOKERY_LOG_LEVEL: 'silent',
    ROOKERY_DRAIN_SECONDS: '1',
  }
})

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => stopProcess(server)))
  await receivers.close()
})

afterAll(async () => {
  await client.end()
  await database.drop()
  await rm(folder, { recursive: true, force: true })
})

async function serve(): Promise<{ server: ServerProcess; registry: TestRegistry }> {
  const server = await startProcess(settings)
  servers.push(server)
  return { server, registry: registryAt(server.url, folder, settings) }
}

async function kill(server: ServerProcess): Promise<void> {
  servers.splice(servers.indexOf(server), 1)
  const gone = new Promise((resolve) => server.child.once('exit', resolve))
  server.child.kill('SIGKILL')
  await gone
}

const idsOf = ({ received }: Receiver) => received.map(({ headers }) => headers['webhook-id'])

it('another process publishes the events of a process that was killed after the commit', async () => {
  const first = await serve()
  const receiver = await receive()
  await createWebhook(first.registry, receiver.url, 'killed/early', {
    types: ['image.tag.updated'],
  })
  await pushImage(first.registry, 'killed/early', 'before')
  await waitForRequests(receiver, 1)
  // While this transaction holds the lock, no process can assign positions.
  const holder = new pg.Client(database.url)
  await holder.connect()
  await holder.query('begin')
  await holder.query('select position from feed for update')
  await pushImage(first.registry, 'killed/early', 'acknowledged')
  await kill(first.server)
  await holder.query('rollback')
  await holder.end()
  expect(receiver.received).toHaveLength(1)
  await serve()
  await waitForRequests(receiver, 2)
  expect(JSON.parse(receiver.received[1]?.body ?? '')).toMatchObject({
    subject: 'killed/early:acknowledged',
  })
})

it('another process repeats the POST of a killed process, with the same id', async () => {
  const first = await serve()
  const receiver = await receive(() => {})
  await createWebhook(first.registry, receiver.url, 'killed/late', { types: ['image.tag.updated'] })
  await pushImage(first.registry, 'killed/late', 'live')
  await waitForRequests(receiver, 1)
  await kill(first.server)
  receiver.respond = (_, res) => res.writeHead(200).end()
  await serve()
  await wait(1_500)
  // The lease of the dead process has not ended.
  expect(receiver.received).toHaveLength(1)
  await client.query(`update deliveries set due_at = now() where state = 'pending'`)
  await waitForRequests(receiver, 2)
  expect(new Set(idsOf(receiver)).size).toBe(1)
})

it('every committed event reaches every receiver, although processes and connections are killed', async () => {
  let [one, two] = [await serve(), await serve()]
  const steady = await receive()
  const moody = await receive((received, res) => {
    if (Math.random() < 0.3) respondWith(500)(received, res)
    else if (Math.random() < 0.1) res.destroy()
    else res.writeHead(200).end()
  })
  // This receiver is down at first, for longer than the first attempts take.
  const late = await receive()
  const port = Number(new URL(late.url).port)
  await late.close()
  for (const { url } of [steady, moody, late]) {
    await createWebhook(one.registry, url, 'lost/*', { types: ['image.tag.updated'] })
  }
  const acknowledged = new Set<string>()
  let left = PUSHES
  const pusher = async (): Promise<void> => {
    while (left > 0) {
      left -= 1
      const repository = REPOSITORIES[left % REPOSITORIES.length] ?? ''
      const tag = `t${left}`
      for (let attempts = 0; attempts < 200; attempts += 1) {
        const { registry } = left % 2 === 0 ? one : two
        try {
          const more = { annotations: { n: randomBytes(8).toString('hex') } }
          const image = await pushImageBlobs(registry, repository, more)
          if ((await putManifest(registry, repository, tag, image)).status === 201) {
            acknowledged.add(`${repository}:${tag}`)
            break
          }
        } catch {
          // The server was killed: the push may have happened, so it is repeated.
        }
        await wait(50)
      }
    }
  }
  const pushing = Promise.all(Array.from({ length: PUSHERS }, pusher))
  const killing = (async () => {
    for (let round = 0; round < 3; round += 1) {
      await wait(1_000)
      const victim = round % 2 === 0 ? one : two
      await kill(victim.server)
      await client.query(
        `select pg_terminate_backend(pid)
           from pg_stat_activity
          where datname = current_database()
            and pid <> pg_backend_pid()`,
      )
      if (round === 1) Object.assign(late, await receive(undefined, port))
      const next = await serve()
      if (victim === one) one = next
      else two = next
    }
  })()
  await Promise.all([pushing, killing])
  expect(acknowledged.size).toBe(PUSHES)
  const { rows: history } = await client.query<{ count: number }>(
    `select count(*)::int as count
       from tag_history h
       join repositories r on r.id = h.repository_id
      where r.name like 'lost/%'`,
  )
  const committed = async () => {
    const { rows } = await client.query<{ id: string; repository: string; sequence: number }>(
      `select e.event_id as id, r.name as repository, e.sequence::int as sequence
         from events e
         join repositories r on r.id = e.repository_id
        where r.name like 'lost/%'
          and e.type = 'image.tag.updated'
        order by e.position`,
    )
    return rows
  }
  // There is exactly one event for each move of a tag.
  await expect
    .poll(async () => (await committed()).length, { timeout: 10_000 })
    .toBe(history[0]?.count)
  const events = await committed()
  for (const repository of REPOSITORIES) {
    const sequences = events.filter((event) => event.repository === repository)
    const sorted = sequences.map(({ sequence }) => sequence).toSorted((a, b) => a - b)
    expect(sequences.map(({ sequence }) => sequence)).toEqual(sorted)
    expect(new Set(sorted).size).toBe(sorted.length)
  }
  // Ends leases and waits, so that the test does not wait for minutes.
  const retrying = setInterval(() => {
    void client
      .query(
        `with healed as (update webhook_health set open_until = null)
         update deliveries set due_at = now() where state = 'pending' and due_at > now() + interval '3 s'`,
      )
      .catch(() => {})
  }, 500)
  try {
    for (const receiver of [steady, moody, late]) {
      const missing = () => {
        const ids = new Set(idsOf(receiver))
        return events.filter(({ id }) => !ids.has(id)).length
      }
      await expect.poll(missing, { timeout: 40_000, interval: 200 }).toBe(0)
      const bodies = new Map<string, string>()
      for (const { headers, body } of receiver.received) {
        const id = String(headers['webhook-id'])
        expect(bodies.get(id) ?? body).toBe(body)
        bodies.set(id, body)
      }
    }
    const waiting = async () => {
      const { rows } = await client.query(
        `select count(*)::int as count from deliveries where state <> 'delivered'`,
      )
      return rows[0].count
    }
    await expect.poll(waiting, { timeout: 20_000 }).toBe(0)
  } finally {
    clearInterval(retrying)
  }
}, 120_000)

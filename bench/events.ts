/** Measures the delay from a push to its webhooks and feed clients, and the cost of events. See README.md. */
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { withDatabase } from '../src/cli/server/operator.ts'
import { BUILT_MAIN as main, makeFolder, removeFolder } from './folder.ts'
import type { ListenerOrder, ReceivedReport } from './listeners.ts'
import { describeTimes } from './percentiles.ts'
import { readCpu } from './processes.ts'
import { type Server, startRookery } from './servers.ts'
import { Worker } from './worker.ts'

const WEBHOOKS = 100
const IDLE_CLIENTS = 1000
const LISTENING_CLIENTS = 10
const TIMED_PUSHES = 150
const PUSHES_A_SECOND = 5
const MANY_WEBHOOKS = 1000
const PENDING = 100_000
const ROUNDS = 10
const PUSHES_A_ROUND = 100
const PUSHERS = 8
const DRAIN_MILLISECONDS_MAX = 300_000

type Listeners = Worker<ListenerOrder, ReceivedReport>

async function ask(of: Server, path: string, init: RequestInit = {}): Promise<Response> {
  const authorization = /Basic \S+/.exec(of.credentials)?.[0] ?? ''
  const answer = await fetch(of.origin + path, {
    ...init,
    headers: { ...init.headers, authorization },
  })
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
  return answer
}

const EMPTY = 'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json'
let serial = 0

/** Pushes a new manifest under a new tag, and returns the tag. */
async function push(of: Server, repository: string): Promise<string> {
  serial += 1
  const tag = `t${serial}`
  const config = { mediaType: 'application/vnd.oci.empty.v1+json', digest: EMPTY, size: 2 }
  const answer = await ask(of, `/v2/${repository}/manifests/${tag}`, {
    method: 'PUT',
    headers: { 'content-type': MANIFEST_TYPE },
    body: JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      artifactType: 'application/vnd.example',
      config,
      layers: [config],
      annotations: { serial: `${of.origin} ${serial}` },
    }),
  })
  await answer.arrayBuffer()
  return tag
}

async function prepare(of: Server, repository: string): Promise<void> {
  const answer = await ask(of, `/v2/${repository}/blobs/uploads/?digest=${EMPTY}`, {
    method: 'POST',
    headers: { 'content-type': 'application/octet-stream' },
    body: '{}',
  })
  await answer.arrayBuffer()
}

async function createWebhooks(of: Server, count: number, port: number, repository: string) {
  for (let index = 0; index < count; index += 1) {
    const answer = await ask(of, '/api/v1/webhooks', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        name: `${repository.replaceAll(/\W/g, '-')}-${index}`,
        url: `http://127.0.0.1:${port}/${index}`,
        repositories: [repository.replace('#', String(index))],
        types: ['image.tag.updated'],
      }),
    })
    await answer.arrayBuffer()
  }
}

/** Measures from before the push is sent, so the times include the push itself. */
async function measureLatency(of: Server, listeners: Listeners, what: string, receivers: number) {
  await listeners.order({ order: 'clear' })
  const sent = new Map<string, number>()
  const pushes: number[] = []
  for (let count = 0; count < TIMED_PUSHES; count += 1) {
    const start = performance.timeOrigin + performance.now()
    const tag = await push(of, 'bench/live')
    sent.set(tag, start)
    pushes.push(performance.timeOrigin + performance.now() - start)
    await wait(1000 / PUSHES_A_SECOND - (performance.timeOrigin + performance.now() - start))
  }
  await wait(2000)
  const { posts, lines } = await listeners.order({ order: 'report' })
  const since = (received: Record<string, number[]>) =>
    [...sent].flatMap(([tag, start]) => (received[tag] ?? []).map((at) => at - start))
  const [posted, shown] = [since(posts), since(lines)]
  const missing = TIMED_PUSHES * receivers - posted.length
  console.log(`${what}:`)
  console.log(`  the push itself: ${describeTimes(pushes)}`)
  console.log(`  push → POST:     ${describeTimes(posted)}${missing ? `, ${missing} MISSING` : ''}`)
  console.log(`  push → SSE line: ${describeTimes(shown)}`)
  if (missing > 0) process.exitCode = 1
}

/** Pushes to both servers by turns, and compares time and CPU. */
async function comparePushes(without: Server, loaded: Server): Promise<void> {
  const sums = new Map([without, loaded].map((of) => [of, { cpu: 0, seconds: 0 }]))
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [of, sum] of round % 2 === 0 ? [...sums] : [...sums].reverse()) {
      const before = readCpu(of.mainPid, of.roots())
      const start = performance.now()
      let left = PUSHES_A_ROUND
      const pusher = async (): Promise<void> => {
        for (; left > 0; ) {
          left -= 1
          await push(of, 'bench/pushes')
        }
      }
      await Promise.all(Array.from({ length: PUSHERS }, pusher))
      sum.seconds += (performance.now() - start) / 1000
      // Includes the work after the answer of the last push.
      await wait(300)
      sum.cpu += readCpu(of.mainPid, of.roots()).totalSeconds - before.totalSeconds
    }
  }
  const [one, many] = [sums.get(without), sums.get(loaded)]
  if (one === undefined || many === undefined) throw new Error('nothing was measured')
  const per = (sum: number) => ((sum * 1000) / (ROUNDS * PUSHES_A_ROUND)).toFixed(2)
  const more = (a: number, b: number) => `${((b / a - 1) * 100).toFixed(1)} %`
  console.log(`push, no receivers:     ${per(one.seconds)} ms, ${per(one.cpu)} ms of CPU`)
  console.log(
    `push, ${MANY_WEBHOOKS} webhooks and ${PENDING} pending: ${per(many.seconds)} ms (${more(one.seconds, many.seconds)}), ${per(many.cpu)} ms of CPU (${more(one.cpu, many.cpu)})`,
  )
}

/** Writes events, and a delivery of each to each webhook, straight into the database. */
function fill(folder: string, due: string, names: string): Promise<number> {
  return withDatabase({ ...process.env, ROOKERY_DATA_DIR: folder }, async ({ db }) => {
    const { rows } = await db.query<{ count: number }>(
      'select count(*) as count from webhooks where name like $1',
      [names],
    )
    const events = Math.round(PENDING / (rows[0]?.count ?? 1))
    await db.query(
      `insert into events (position, event_id, type, repository_id, tag, occurred_at, body)
       select f.position + n, gen_random_uuid(), 'image.tag.updated', e.repository_id, e.tag, now(),
              e.body
         from feed f, generate_series(1, $1::int) as n,
              (select repository_id, tag, body from events where tag is not null limit 1) as e`,
      [events],
    )
    await db.query(
      `insert into deliveries (webhook_id, event_position, due_at)
       select w.id, f.position + n, now() + $2::interval
         from webhooks w, feed f, generate_series(1, $1::int) as n
        where w.name like $3`,
      [events, due, names],
    )
    await db.query('update feed set position = position + $1', [events])
    await db.query('analyze')
    return 0
  })
}

async function measureDrain(of: Server, folder: string, listeners: Listeners): Promise<void> {
  await listeners.order({ order: 'clear' })
  const before = readCpu(of.mainPid, of.roots())
  await fill(folder, '0 seconds', 'bench-live-%')
  const start = performance.now()
  let report = await listeners.order({ order: 'report' })
  while (report.count < PENDING && performance.now() - start < DRAIN_MILLISECONDS_MAX) {
    await wait(500)
    report = await listeners.order({ order: 'report' })
  }
  const after = readCpu(of.mainPid, of.roots())
  const rate = (report.count / (report.last - report.first)) * 1000
  const cpu = ((after.totalSeconds - before.totalSeconds) * 1000) / report.count
  const main = ((after.mainSeconds - before.mainSeconds) * 1000) / report.count
  console.log(
    `drain: ${report.count} deliveries to ${WEBHOOKS} webhooks, ${rate.toFixed(0)} a second; ${cpu.toFixed(2)} ms of CPU each, ${main.toFixed(2)} of them in Node`,
  )
  if (report.count < PENDING) process.exitCode = 1
}

const folder = makeFolder('events')
const settings = {
  ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
  ROOKERY_FEED_CLIENTS_PER_ADDRESS: '5000',
}
const listeners: Listeners = new Worker('listeners.ts')
const quiet = await startRookery(join(folder, 'quiet'), { main, settings })
const busy = await startRookery(join(folder, 'busy'), { main, settings })
try {
  const { port } = await listeners.order({ order: 'receivers' })
  const feed = '/api/v1/events?repository='
  for (const of of [quiet, busy]) {
    for (const repository of ['bench/live', 'bench/pushes']) await prepare(of, repository)
    await push(of, 'bench/live')
    await push(of, 'bench/pushes')
  }
  await createWebhooks(quiet, 1, port, 'bench/live')
  await listeners.order({
    order: 'clients',
    origin: quiet.origin,
    path: `${feed}bench/live`,
    count: 1,
  })
  await measureLatency(quiet, listeners, '1 webhook, 1 client of the feed', 1)
  await createWebhooks(busy, WEBHOOKS, port, 'bench/live')
  const clients = (repository: string, count: number) =>
    listeners.order({ order: 'clients', origin: busy.origin, path: feed + repository, count })
  await clients('bench/live', LISTENING_CLIENTS)
  await clients('bench/nothing', IDLE_CLIENTS)
  await measureLatency(
    busy,
    listeners,
    `${WEBHOOKS} webhooks, ${LISTENING_CLIENTS} clients of the feed, ${IDLE_CLIENTS} idle ones`,
    WEBHOOKS,
  )
  await measureDrain(busy, join(folder, 'busy'), listeners)
  await createWebhooks(busy, MANY_WEBHOOKS - WEBHOOKS, port, 'team/#')
  await fill(join(folder, 'busy'), '1 hour', 'team-%')
  await comparePushes(quiet, busy)
} finally {
  listeners.stop()
  await Promise.all([quiet.stop(), busy.stop()])
  removeFolder(folder)
}

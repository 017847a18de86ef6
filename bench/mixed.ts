/** Measures pulls, and the delay of events, beside pushes, sweeps, a scrub and many clients of the feed. See README.md. */
import { execFile } from 'node:child_process'
import { resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import { Connection } from './connection.ts'
import { blobContent, imageContent, MIB, nextMark, SEED_MARK } from './content.ts'
import { BUILT_MAIN, makeFolder, removeFolder } from './folder.ts'
import type { ListenerOrder, ReceivedReport } from './listeners.ts'
import { Load, orderFrom } from './measure.ts'
import { expect, pushBlob, pushImage, pushManifest } from './operations.ts'
import { describeTimes, percentile } from './percentiles.ts'
import { readCoreWait, readCpu } from './processes.ts'
import { type Server, startRookery } from './servers.ts'
import { Worker } from './worker.ts'

/** The bounds, in milliseconds. */
const PULL_P99_MAX = 20
const EVENT_P99_MAX = 100

const PULLS_A_SECOND = 50
const PUSHES_A_SECOND = 5
const BUILDERS = 8
const BUILDER_BYTES = 16 * MIB
/** For each builder: 1000 clients of the feed. */
const STREAMS = 63
const POLLS = 62
/** A sweep finds what a builder deleted so long ago. */
const GRACE_SECONDS = 5
/** Blobs that a scrub reads besides those of the builders, and its rate: it takes some 15 seconds. */
const SCRUBBED = 48
const SCRUB_MIB_A_SECOND = '50'
/** Time after which connections and caches have reached their size, and after which the last events have arrived. */
const CALM_MILLISECONDS = 2_000
const WARM_UP_SECONDS = 3
/** Loads share the machine with the server, and are other machines otherwise. */
const NICE = 10
const UNLIMITED = 1_000_000_000
const LIVE = 'bench/live'
const BUILT = Array.from({ length: BUILDERS }, (_, index) => `bench/built-${index}`)
const FEED = '/api/v1/events?repository='

const { values: options } = parseArgs({
  options: {
    /** The built server, to compare another one. */
    main: { type: 'string', default: BUILT_MAIN },
    /** Arguments of the server's Node, such as `--cpu-prof`. */
    node: { type: 'string', default: '' },
    /** The duration of the measurement without load, and of that with it. */
    seconds: { type: 'string', default: '45' },
    /** The parts of the load, to find the one that costs. */
    load: { type: 'string', default: 'builders,clients,sweep,scrub' },
  },
})
const SECONDS = Number(options.seconds)
const parts = options.load.split(',')
const main = resolve(options.main)

/** Calls `act` at a fixed rate, one call after the other. The times of calls that had to wait for others count from their turn. */
async function atRate(
  perSecond: number,
  seconds: number,
  act: (turn: number) => Promise<void>,
): Promise<number[]> {
  const times: number[] = []
  const from = performance.now()
  for (let turn = 0; turn < perSecond * seconds; turn += 1) {
    const due = from + (turn * 1000) / perSecond
    const early = due - performance.now()
    if (early > 0) await wait(early)
    const start = early > 0 ? performance.now() : due
    await act(turn)
    times.push(performance.now() - start)
  }
  return times
}

type Measured = { readonly pulls: number[]; readonly lines: number[]; readonly posts: number[] }

/** Pulls and pushes at a fixed rate, and prints the times. */
async function measure(of: Server, listener: Listeners, seconds: number): Promise<Measured> {
  await listener.order({ order: 'clear' })
  const [puller, pusher] = [await Connection.open(of.origin), await Connection.open(of.origin)]
  const acknowledged = new Map<string, number>()
  const before = readCpu(of.mainPid, of.roots())
  const waited = readCoreWait(of.mainPid)
  await lagOf(of)
  const pull = () =>
    expect(puller, { method: 'GET', target: `/v2/${LIVE}/manifests/first` }, 200).then(() => {})
  const push = async () => {
    const tag = nextMark().toString('hex')
    await pushManifest(pusher, LIVE, tag, manifestOf(tag), of.credentials)
    acknowledged.set(tag, performance.timeOrigin + performance.now())
  }
  const [pulls, pushes] = await Promise.all([
    atRate(PULLS_A_SECOND, seconds, pull),
    atRate(PUSHES_A_SECOND, seconds, push),
  ])
  const after = readCpu(of.mainPid, of.roots())
  const waiting = readCoreWait(of.mainPid) - waited
  const lag = await lagOf(of)
  await wait(CALM_MILLISECONDS)
  const report = await listener.order({ order: 'report' })
  puller.close()
  pusher.close()
  // An event may arrive before the answer to its push.
  const since = (received: Record<string, number[]>) =>
    [...acknowledged].flatMap(([tag, at]) => Math.max(0, (received[tag]?.[0] ?? Number.NaN) - at))
  const [lines, posts] = [since(report.lines), since(report.posts)]
  const missing = [...lines, ...posts].filter(Number.isNaN).length
  const node = after.mainSeconds - before.mainSeconds
  const rest = after.totalSeconds - before.totalSeconds - node
  console.log(`  pull by tag:              ${describeTimes(pulls)}`)
  console.log(`  push of a manifest:       ${describeTimes(pushes)}`)
  console.log(`  201 → event stream:       ${describeTimes(lines)}`)
  console.log(`  201 → webhook:            ${describeTimes(posts)}`)
  console.log(`  CPU: ${node.toFixed(1)} s of Node, ${rest.toFixed(1)} s of Postgres`)
  console.log(`  event loop: ${lag}; its thread waited ${waiting.toFixed(1)} s for a core`)
  if (missing > 0) fail(`${missing} events did not arrive`)
  return { pulls, lines, posts }
}

function fail(reason: string): void {
  console.log(`FAILED: ${reason}`)
  process.exitCode = 1
}

/** Returns how late timers of the main process were since the last call. */
async function lagOf(of: Server): Promise<string> {
  const answer = await fetch(`${of.origin}/metrics`, { headers: { authorization: basicOf(of) } })
  const text = await answer.text()
  const at = (name: string) =>
    (
      Number(new RegExp(`^nodejs_eventloop_lag_${name}_seconds (\\S+)`, 'm').exec(text)?.[1]) * 1000
    ).toFixed(1)
  return `p99 ${at('p99')} ms, longest ${at('max')} ms`
}

function basicOf({ credentials }: Server): string {
  return /Basic \S+/.exec(credentials)?.[0] ?? ''
}

/** A manifest with the layer and the config that `prepare` pushes. */
function manifestOf(title: string) {
  return imageContent(blobContent(MIB, SEED_MARK), { title }).manifest
}

async function prepare(of: Server): Promise<void> {
  const connection = await Connection.open(of.origin)
  const layer = blobContent(MIB, SEED_MARK)
  for (const blob of [layer, imageContent(layer).config]) {
    await pushBlob(connection, LIVE, blob, of.credentials)
  }
  await pushManifest(connection, LIVE, 'first', manifestOf('first'), of.credentials)
  for (let count = 0; count < SCRUBBED; count += 1) {
    await pushImage(connection, 'bench/scrubbed', BUILDER_BYTES, nextMark(), of.credentials)
  }
  connection.close()
}

async function createWebhook(of: Server, port: number): Promise<void> {
  const answer = await fetch(`${of.origin}/api/v1/webhooks`, {
    method: 'POST',
    headers: { authorization: basicOf(of), 'content-type': 'application/json' },
    body: JSON.stringify({
      name: 'bench',
      url: `http://127.0.0.1:${port}/`,
      repositories: [LIVE],
      types: ['image.tag.updated'],
    }),
  })
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`)
}

/** Scrubs again and again until the signal is aborted. */
async function scrub(signal: AbortSignal): Promise<void> {
  const args = [main, 'scrub', '--restart', '--rate', SCRUB_MIB_A_SECOND]
  const env = { ...process.env, ROOKERY_DATA_DIR: folder }
  while (!signal.aborted) {
    await promisify(execFile)(process.execPath, args, { env, signal }).catch((error) => {
      if (!signal.aborted) throw error
    })
  }
}

type Listeners = Worker<ListenerOrder, ReceivedReport>

/** Measures with the load. */
async function measureLoaded(of: Server, listener: Listeners): Promise<Measured> {
  const clients: Listeners = new Worker('listeners.ts', { nice: NICE })
  const builders = new Load({ nice: NICE })
  const scrubbing = new AbortController()
  try {
    if (parts.includes('clients')) {
      for (const repository of BUILT) {
        const each = { order: 'clients' as const, origin: of.origin, path: FEED + repository }
        await clients.order({ ...each, count: STREAMS })
        await clients.order({ ...each, count: POLLS, poll: true })
      }
    }
    const { origin, credentials, bearer } = of
    const work = { kind: 'build', repositories: BUILT, bytes: BUILDER_BYTES } as const
    const limits = { warmUps: 0, unitsMax: UNLIMITED, secondsMax: SECONDS + 2 }
    const job = { origin, credentials, bearer, work, connections: BUILDERS, ...limits }
    await orderFrom(builders, { order: 'prepare', job })
    await wait(CALM_MILLISECONDS)
    const building = parts.includes('builders')
      ? orderFrom(builders, { order: 'go' })
      : Promise.resolve(undefined)
    const scrubbed = parts.includes('scrub') ? scrub(scrubbing.signal) : Promise.resolve()
    await wait(CALM_MILLISECONDS)
    const measured = await measure(of, listener, SECONDS)
    const report = await building
    if (report?.report === 'done') {
      console.log(
        `  ${report.outcome.units} images of ${BUILDER_BYTES / MIB} MiB in ${report.outcome.seconds.toFixed(0)} s`,
      )
    }
    scrubbing.abort()
    await scrubbed
    return measured
  } finally {
    scrubbing.abort()
    builders.stop()
    clients.stop()
  }
}

const folder = makeFolder('mixed')
const settings = {
  ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
  ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
  ROOKERY_GC_GRACE_SECONDS: String(GRACE_SECONDS),
  ROOKERY_GC_INTERVAL_SECONDS: parts.includes('sweep') ? '1' : '86400',
}
const nodeArguments = options.node.split(' ').filter((word) => word !== '')
const listener: Listeners = new Worker('listeners.ts')
const server = await startRookery(folder, { main, nodeArguments, settings })
try {
  await prepare(server)
  const { port } = await listener.order({ order: 'receivers' })
  await createWebhook(server, port)
  const { origin } = server
  await listener.order({ order: 'clients', origin, path: FEED + LIVE, count: 1 })
  console.log('warm-up:')
  await measure(server, listener, WARM_UP_SECONDS)
  console.log('without load:')
  await measure(server, listener, SECONDS)
  console.log(
    `beside ${BUILDERS} builders, ${BUILDERS * STREAMS} event streams, ${BUILDERS * POLLS} long polls, sweeps and a scrub (${options.load}):`,
  )
  const { pulls, lines, posts } = await measureLoaded(server, listener)
  const check = (what: string, times: readonly number[], bound: number) => {
    const p99 = percentile(times, 0.99)
    if (!(p99 < bound)) fail(`${what}: p99 ${p99.toFixed(1)} ms, bound ${bound} ms`)
  }
  check('pull by tag', pulls, PULL_P99_MAX)
  check('201 → event stream', lines, EVENT_P99_MAX)
  check('201 → webhook', posts, EVENT_P99_MAX)
} finally {
  listener.stop()
  await server.stop()
  removeFolder(folder)
}

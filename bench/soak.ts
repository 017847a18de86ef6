/** Measures whether the size and the cost of the database stay flat over many pushes and deletes. See README.md. */
import { resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Connection } from './connection.ts'
import { blobContent, imageContent, MIB, nextMark, SEED_MARK, textContent } from './content.ts'
import type { DatabaseFigures, DatabaseOrder } from './database.ts'
import { BUILT_MAIN, makeFolder, removeFolder } from './folder.ts'
import { deleteManifest, expect, pushBlob, pushManifest } from './operations.ts'
import { percentile } from './percentiles.ts'
import { readCpu, readMemory } from './processes.ts'
import { type Server, startRookery } from './servers.ts'
import { Worker } from './worker.ts'

const { values: options } = parseArgs({
  options: {
    pushes: { type: 'string', default: '500000' },
    /** The built server, to compare another one. */
    main: { type: 'string', default: BUILT_MAIN },
  },
})
const PUSHES = Number(options.pushes)
/** The last fifth of the intervals may cost so many times what the second fifth does, by push and by live row. */
const GROWTH_MAX = 1.15
const INTERVALS = 20
/** Intervals between two lists of tables and indexes. */
const INTERVALS_A_LIST = 5
const LISTED = 8
const CONNECTIONS = 8
const REPOSITORIES = 4
/** Tags of a repository, which move. */
const TAGS = 200
/** Manifests that stay until others are deleted. One of KEPT later ones stays for ever. */
const LIVE_MANIFESTS = Math.min(2_000, PUSHES / 50)
const KEPT = 5
const SETTLE_MILLISECONDS = 1_000
const SETTINGS = { ROOKERY_GC_GRACE_SECONDS: '30', ROOKERY_GC_INTERVAL_SECONDS: '10' }
const LAYER = blobContent(MIB, SEED_MARK)

type Times = { readonly pushes: number[]; readonly pulls: number[] }
type Pushed = { readonly repository: string; readonly digest: string }

let pushed = 0
const live: Pushed[] = []

async function prepare(of: Server): Promise<void> {
  const connection = await Connection.open(of.origin)
  for (let index = 0; index < REPOSITORIES; index += 1) {
    await pushBlob(connection, repositoryOf(index), LAYER, of.credentials)
  }
  connection.close()
}

function repositoryOf(index: number): string {
  return `soak/${index % REPOSITORIES}`
}

/** Pushes a config and a manifest, and pulls it by tag. Deletes an older manifest, which is garbage then. */
async function pushOne(of: Server, connection: Connection, index: number, times: Times) {
  const repository = repositoryOf(index)
  const tag = `t${Math.floor(index / REPOSITORIES) % TAGS}`
  const start = performance.now()
  const config = textContent(JSON.stringify({ created: nextMark().toString('hex') }))
  const { manifest } = imageContent(LAYER, { config })
  await pushBlob(connection, repository, config, of.credentials)
  await pushManifest(connection, repository, tag, manifest, of.credentials)
  const end = performance.now()
  times.pushes.push(end - start)
  await expect(connection, { method: 'GET', target: `/v2/${repository}/manifests/${tag}` }, 200)
  times.pulls.push(performance.now() - end)
  if (index % KEPT !== 0) live.push({ repository, digest: manifest.digest })
  const oldest = live.length > LIVE_MANIFESTS ? live.shift() : undefined
  if (oldest === undefined) return
  await deleteManifest(connection, oldest.repository, oldest.digest, of.credentials)
}

/** Pushes until there are `until` pushes. */
async function pushMany(of: Server, until: number): Promise<Times> {
  const times: Times = { pushes: [], pulls: [] }
  const each = async () => {
    const connection = await Connection.open(of.origin)
    for (; pushed < until; ) {
      pushed += 1
      await pushOne(of, connection, pushed, times)
    }
    connection.close()
  }
  await Promise.all(Array.from({ length: CONNECTIONS }, each))
  return times
}

/** The figures of one interval that have to stay flat. */
type Interval = { readonly cpu: number; readonly rowBytes: number }

function printTitle(): void {
  console.log(
    '  pushes | CPU-ms a push: Node, Postgres | push: p50, p99 ms | pull: p50, p99 ms | MiB | bytes a live row | WAL a push | MiB of memory: Node, all',
  )
}

function printLists({ tables, indexes }: DatabaseFigures): void {
  for (const { name, bytes, live, dead, updates, hotUpdates, vacuums } of tables.slice(0, LISTED)) {
    console.log(
      `    ${name}: ${mib(bytes)} MiB, ${live} rows, ${dead} dead; ${updates} updates, ${hotUpdates} of them HOT; ${vacuums} vacuums`,
    )
  }
  for (const { name, bytes, scans } of indexes.slice(0, LISTED)) {
    console.log(`    ${name}: ${mib(bytes)} MiB, ${scans} scans`)
  }
  const neverRead = indexes
    .filter(({ scans }) => scans === 0)
    .slice(0, LISTED)
    .map(({ name }) => name)
  console.log(`    never read: ${neverRead.join(', ')}`)
}

const mib = (bytes: number) => (bytes / MIB).toFixed(1)

async function measure(of: Server, database: Worker<DatabaseOrder, DatabaseFigures>) {
  const empty = await database.order({ folder, trim: false })
  let wal = empty.walBytes
  const intervals: Interval[] = []
  printTitle()
  for (let interval = 1; interval <= INTERVALS; interval += 1) {
    const before = readCpu(of.mainPid, of.roots())
    const first = pushed
    const times = await pushMany(of, Math.round((PUSHES * interval) / INTERVALS))
    const figures = await database.order({ folder, trim: true })
    await wait(SETTLE_MILLISECONDS)
    const after = readCpu(of.mainPid, of.roots())
    const { mainBytes, totalBytes } = readMemory(of.mainPid, of.roots())
    const count = pushed - first
    const each = (seconds: number) => (seconds * 1000) / count
    const node = each(after.mainSeconds - before.mainSeconds)
    const cpu = each(after.totalSeconds - before.totalSeconds)
    const rows = figures.tables.reduce((sum, { live }) => sum + live, 0)
    const rowBytes = (figures.bytes - empty.bytes) / rows
    const spread = (values: readonly number[]) =>
      `${percentile(values, 0.5).toFixed(1)}, ${percentile(values, 0.99).toFixed(1)}`
    console.log(
      [
        String(pushed).padStart(8),
        `${node.toFixed(2)}, ${(cpu - node).toFixed(2)}`,
        spread(times.pushes),
        spread(times.pulls),
        mib(figures.bytes),
        rowBytes.toFixed(0),
        ((figures.walBytes - wal) / count).toFixed(0),
        `${mib(mainBytes)}, ${mib(totalBytes)}`,
      ].join(' | '),
    )
    wal = figures.walBytes
    if (interval % INTERVALS_A_LIST === 0) printLists(figures)
    intervals.push({ cpu, rowBytes })
  }
  return intervals
}

/** Compares the second fifth of the intervals with the last one: the first one fills empty tables and caches. */
function compareFifths(intervals: readonly Interval[]): void {
  const fifth = Math.floor(INTERVALS / 5)
  const mean = (some: readonly Interval[], of: (one: Interval) => number) =>
    some.reduce((sum, one) => sum + of(one), 0) / some.length
  const check = (what: string, of: (one: Interval) => number) => {
    const ratio = mean(intervals.slice(-fifth), of) / mean(intervals.slice(fifth, 2 * fifth), of)
    const isFlat = ratio <= GROWTH_MAX
    console.log(
      `${isFlat ? 'flat' : 'GROWS'}: ${what}, ${ratio.toFixed(2)} times that of the second fifth, at most ${GROWTH_MAX}`,
    )
    if (!isFlat) process.exitCode = 1
  }
  check('CPU of a push', ({ cpu }) => cpu)
  check('bytes of a live row', ({ rowBytes }) => rowBytes)
}

const folder = makeFolder('soak')
const database = new Worker<DatabaseOrder, DatabaseFigures>('database.ts')
const server = await startRookery(folder, { main: resolve(options.main), settings: SETTINGS })
try {
  await prepare(server)
  compareFifths(await measure(server, database))
} finally {
  database.stop()
  await server.stop()
  removeFolder(folder)
}

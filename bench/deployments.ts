/** Measures the time from a push until hosts know and run it, and the cost of hosts that wait. See README.md. */
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { parseArgs, promisify } from 'node:util'
import type { FleetOrder, FleetReport } from './fleet.ts'
import { BUILT_MAIN, makeFolder, ROOT, removeFolder } from './folder.ts'
import { describeTimes } from './percentiles.ts'
import { type Cpu, type Memory, readCpu, readMemory } from './processes.ts'
import { type Server, startRookery } from './servers.ts'
import type { Delays } from './waiting-host.ts'
import { Worker } from './worker.ts'

const KERNEL = join(ROOT, 'test', 'fixtures', 'elf', 'mini-net.hvt')
const { values: options } = parseArgs({
  options: {
    /** Numbers of hosts that wait, ascending. */
    hosts: { type: 'string', default: '250,500,1000,2000' },
    /** Pushes that one host runs; 0: not measured. */
    pushes: { type: 'string', default: '100' },
    /** The built server, to compare another one. */
    main: { type: 'string', default: BUILT_MAIN },
    /** Arguments of the server's Node, such as `--cpu-prof`. */
    node: { type: 'string', default: '' },
  },
})
const main = resolve(options.main)
const SIZES = options.hosts.split(',').map(Number)
const PUSHES = Number(options.pushes)
const FLEET_PUSHES = 3
const IDLE_MILLISECONDS = 20_000
/** Time after which connections and caches have reached their size, and after which the reports of a push have been read. */
const CALM_MILLISECONDS = 5_000
/** After a push, units are watched for half a minute, which is no idle time. */
const WATCHED_MILLISECONDS = 45_000
/** For so many hosts the cost is computed. */
const COMPUTED = 10_000
const MIB = 1024 * 1024
/** A check that passes at once. */
const AT_ONCE: Delays = { fetching: 0, checking: 0, healthy: 0 }
/** As rookery-agent does: a process for each request, and a kernel that needs a moment. */
const AGENT: Delays = { fetching: 100, checking: 1000, healthy: 1000 }

type Fleet = Worker<FleetOrder, FleetReport>

type Pushed = { readonly kernel: string; readonly startedAt: number; readonly milliseconds: number }

/** Pushes a new kernel with the command. */
async function push(of: Server, image: string, words: readonly string[] = []): Promise<Pushed> {
  const bytes = Buffer.concat([readFileSync(KERNEL), randomBytes(16)])
  const file = join(folder, 'www.hvt')
  writeFileSync(file, bytes)
  const kernel = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
  const args = [main, 'push', file, `${new URL(of.origin).host}/${image}`, ...words]
  const login = ['--username', 'admin', '--password-stdin']
  const startedAt = Date.now()
  const running = promisify(execFile)(process.execPath, [...args, ...login])
  running.child.stdin?.end(passwordOf(of))
  await running
  return { kernel, startedAt, milliseconds: Date.now() - startedAt }
}

function basicOf({ credentials }: Server): string {
  return /Basic (\S+)/.exec(credentials)?.[1] ?? ''
}

function passwordOf(of: Server): string {
  return Buffer.from(basicOf(of), 'base64').toString().replace('admin:', '')
}

/** Returns when the newest deployment was made, in the transaction of its push: milliseconds since 1970. */
async function findCommit(of: Server, repository: string): Promise<number> {
  const headers = { authorization: `Basic ${basicOf(of)}` }
  const path = `/api/v1/repositories/${repository}/deployments?n=1`
  const answer = await fetch(of.origin + path, { headers })
  const { deployments } = (await answer.json()) as { deployments: { createdAt: string }[] }
  return Date.parse(deployments[0]?.createdAt ?? '')
}

async function measurePushes(of: Server): Promise<void> {
  const [alone, waiting]: [number[], number[]] = [[], []]
  // By turns, so that both meet the same machine.
  for (let count = 0; count < PUSHES; count += 1) {
    alone.push((await push(of, 'bench/nobody:live')).milliseconds)
    waiting.push((await push(of, 'bench/one:live', ['--wait'])).milliseconds)
  }
  console.log('rookery push, from the start of the command to its end:')
  console.log(`  nobody follows the tag:       ${describeTimes(alone, 0)}`)
  console.log(`  --wait, 1 host, until healthy: ${describeTimes(waiting, 0)}`)
}

/** One row of the curve. */
type Row = {
  readonly hosts: number
  /** Percent of a core. */
  readonly idle: number
  readonly idleInNode: number
  readonly bytes: number
  readonly bytesInNode: number
  /** The middle one of several pushes: milliseconds after the commit until the last host knew the kernel. */
  readonly last: number
  /** CPU seconds of one push, until all hosts are healthy. */
  readonly seconds: number
}

async function measureIdle(of: Server, before: Memory) {
  await wait(CALM_MILLISECONDS)
  const start = readCpu(of.mainPid, of.roots())
  const startedAt = performance.now()
  await wait(IDLE_MILLISECONDS)
  const end = readCpu(of.mainPid, of.roots())
  const seconds = (performance.now() - startedAt) / 1000
  const share = (part: keyof Cpu) => ((end[part] - start[part]) / seconds) * 100
  const memory = readMemory(of.mainPid, of.roots())
  return {
    idle: share('totalSeconds'),
    idleInNode: share('mainSeconds'),
    bytes: memory.totalBytes - before.totalBytes,
    bytesInNode: memory.mainBytes - before.mainBytes,
  }
}

async function measureGrants(of: Server, fleet: Fleet, hosts: number) {
  const lasts: number[] = []
  const cpu: number[] = []
  for (let count = 0; count < FLEET_PUSHES; count += 1) {
    const before = readCpu(of.mainPid, of.roots())
    const { kernel, startedAt, milliseconds } = await push(of, 'bench/fleet:live', ['--wait'])
    await wait(CALM_MILLISECONDS)
    const after = readCpu(of.mainPid, of.roots())
    const committedAt = await findCommit(of, 'bench/fleet')
    const { answers, healthy, refusals } = await fleet.order({ order: 'report', kernel })
    const [first, last] = [Math.min(...answers), Math.max(...answers)]
    lasts.push(last - committedAt)
    cpu.push(after.totalSeconds - before.totalSeconds)
    const since = (at: number, from: number) => `${(at - from).toFixed(0)} ms`
    console.log(
      `  push to ${hosts} hosts: first answer ${since(first, committedAt)} after the commit, last ${since(last, committedAt)} (${since(last, startedAt)} after the start of the command); last healthy ${since(Math.max(...healthy), committedAt)} after the commit; --wait ended after ${milliseconds} ms; ${(cpu.at(-1) ?? 0).toFixed(1)} s of CPU`,
    )
    const missing = hosts - healthy.length
    if (missing > 0) console.log(`  ${missing} hosts MISSING`)
    if (missing > 0 || refusals.length > 0) process.exitCode = 1
    for (const refusal of refusals.slice(0, 3)) console.log(`  refused: ${refusal}`)
  }
  return { last: middle(lasts), seconds: middle(cpu) }
}

function middle(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

/** Prints the curve, and what follows for more hosts from the straight line through it (least squares). */
function printCurve(rows: readonly Row[]): void {
  console.log('hosts    idle: % of a core (Node)   KiB a host (Node)   last answer   CPU of a push')
  for (const row of rows) console.log(line(row))
  if (rows.length < 2) return
  const mean = (of: (row: Row) => number) =>
    rows.reduce((sum, row) => sum + of(row), 0) / rows.length
  const hosts = mean((row) => row.hosts)
  const spread = mean((row) => (row.hosts - hosts) ** 2)
  const compute = (of: (row: Row) => number) => {
    const slope = mean((row) => (row.hosts - hosts) * (of(row) - mean(of))) / spread
    return mean(of) + slope * (COMPUTED - hosts)
  }
  const computed = line({
    hosts: COMPUTED,
    idle: compute((row) => row.idle),
    idleInNode: compute((row) => row.idleInNode),
    bytes: compute((row) => row.bytes),
    bytesInNode: compute((row) => row.bytesInNode),
    last: compute((row) => row.last),
    seconds: compute((row) => row.seconds),
  })
  console.log(`${computed}   computed`)
}

function line({ hosts, idle, idleInNode, bytes, bytesInNode, last, seconds }: Row): string {
  const each = (total: number) => (total / hosts / 1024).toFixed(0)
  return [
    String(hosts).padStart(5),
    `${idle.toFixed(1)} (${idleInNode.toFixed(1)})`.padStart(25),
    `${each(bytes)} (${each(bytesInNode)})`.padStart(19),
    `${last.toFixed(0)} ms`.padStart(13),
    `${seconds.toFixed(1)} s`.padStart(15),
  ].join(' ')
}

const folder = makeFolder('deployments')
const fleet: Fleet = new Worker('fleet.ts')
// All hosts have one address, and each has a second connection while it updates.
const settings = { ROOKERY_CONNECTIONS_PER_ADDRESS: '9000' }
const nodeArguments = options.node.split(' ').filter((word) => word !== '')
const server = await startRookery(join(folder, 'data'), { main, nodeArguments, settings })
try {
  const start = {
    order: 'start' as const,
    origin: server.origin,
    authorization: `Basic ${basicOf(server)}`,
  }
  if (PUSHES > 0) {
    const one = { repository: 'bench/one', prefix: 'one', from: 0, to: 1 }
    await fleet.order({ ...start, ...one, delays: AT_ONCE })
    await measurePushes(server)
  }
  const before = readMemory(server.mainPid, server.roots())
  const rows: Row[] = []
  for (const [index, hosts] of SIZES.entries()) {
    const more = { prefix: 'fleet', from: SIZES[index - 1] ?? 0, to: hosts }
    await fleet.order({ ...start, ...more, repository: 'bench/fleet', delays: AGENT })
    if (index > 0) await wait(WATCHED_MILLISECONDS)
    const idle = await measureIdle(server, before)
    rows.push({ hosts, ...idle, ...(await measureGrants(server, fleet, hosts)) })
  }
  printCurve(rows)
  console.log(
    `memory in all: ${(readMemory(server.mainPid, server.roots()).totalBytes / MIB).toFixed(0)} MiB`,
  )
} finally {
  fleet.stop()
  await server.stop()
  removeFolder(folder)
}

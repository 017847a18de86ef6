/** Measures the time from a push until hosts run it, and the cost of hosts that wait. See README.md. */
import { type ChildProcess, execFile, fork } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { FleetOrder, FleetReport } from './fleet.ts'
import { readCpu, readMemory } from './processes.ts'
import { type Server, startRookery } from './servers.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const main = join(root, 'dist', 'main.js')
const KERNEL = join(root, 'test', 'fixtures', 'elf', 'mini-net.hvt')
const PUSHES = 100
const HOSTS = 1000
const FLEET_PUSHES = 5
const IDLE_MILLISECONDS = 30_000
/** Time after which connections and caches have reached their size. */
const CALM_MILLISECONDS = 5_000
const MIB = 1024 * 1024

/** The parent's side of fleet.ts. */
class Fleet {
  readonly #worker: ChildProcess = fork(fileURLToPath(new URL('fleet.ts', import.meta.url)))

  order(order: FleetOrder): Promise<FleetReport> {
    return new Promise((resolve, reject) => {
      this.#worker.once('exit', () => reject(new Error('the hosts died')))
      this.#worker.once('message', (message: FleetReport) => {
        this.#worker.removeAllListeners('exit')
        resolve(message)
      })
      this.#worker.send(order)
    })
  }

  stop(): void {
    this.#worker.kill('SIGKILL')
  }
}

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

function percentiles(times: number[]): string {
  times.sort((a, b) => a - b)
  const at = (part: number) => times[Math.floor(part * (times.length - 1))]?.toFixed(0)
  return `median ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(1)} ms (${times.length} measured)`
}

async function measurePushes(of: Server): Promise<void> {
  const [alone, waiting]: [number[], number[]] = [[], []]
  // By turns, so that both meet the same machine.
  for (let count = 0; count < PUSHES; count += 1) {
    alone.push((await push(of, 'bench/nobody:live')).milliseconds)
    waiting.push((await push(of, 'bench/one:live', ['--wait'])).milliseconds)
  }
  console.log('rookery push, from the start of the command to its end:')
  console.log(`  nobody follows the tag:       ${percentiles(alone)}`)
  console.log(`  --wait, 1 host, until healthy: ${percentiles(waiting)}`)
}

async function measureIdle(of: Server, before: ReturnType<typeof readMemory>): Promise<void> {
  await wait(CALM_MILLISECONDS)
  const start = readCpu(of.mainPid, of.roots())
  const startedAt = performance.now()
  await wait(IDLE_MILLISECONDS)
  const end = readCpu(of.mainPid, of.roots())
  const seconds = (performance.now() - startedAt) / 1000
  const share = (used: number) => ((used / seconds) * 100).toFixed(1)
  const memory = readMemory(of.mainPid, of.roots())
  const each = (bytes: number) => (bytes / HOSTS / 1024).toFixed(1)
  console.log(`${HOSTS} hosts that wait, ${seconds.toFixed(0)} s:`)
  console.log(
    `  CPU: ${share(end.totalSeconds - start.totalSeconds)} % of a core, ${share(end.mainSeconds - start.mainSeconds)} % in Node`,
  )
  console.log(
    `  memory: ${each(memory.mainBytes - before.mainBytes)} KiB a host in Node, ${each(memory.totalBytes - before.totalBytes)} KiB with Postgres; ${(memory.totalBytes / MIB).toFixed(0)} MiB in all`,
  )
}

/** Measures from the start of the command. */
async function measureFleet(of: Server, fleet: Fleet): Promise<void> {
  for (let count = 0; count < FLEET_PUSHES; count += 1) {
    const { kernel, startedAt, milliseconds } = await push(of, 'bench/fleet:live', ['--wait'])
    const { times, refusals } = await fleet.order({ order: 'report', kernel })
    const since = times.map((at) => at - startedAt)
    const missing = HOSTS - times.length
    console.log(
      `1 push to ${HOSTS} hosts: first grant after ${Math.min(...since)} ms, last after ${Math.max(...since)} ms; rookery push --wait ${milliseconds} ms${missing > 0 ? `, ${missing} MISSING` : ''}`,
    )
    if (missing > 0 || refusals.length > 0) process.exitCode = 1
    for (const refusal of refusals.slice(0, 3)) console.log(`  refused: ${refusal}`)
    await wait(CALM_MILLISECONDS)
  }
}

const parent = resolve(process.env.ROOKERY_BENCH_DIR ?? join(root, '.cache', 'bench'))
mkdirSync(parent, { recursive: true })
const folder = mkdtempSync(join(parent, 'deployments-'))
// Postgres does not run as root, and its user has to enter the folder.
chmodSync(folder, 0o755)
const fleet = new Fleet()
// All hosts have one address.
const settings = { ROOKERY_CONNECTIONS_PER_ADDRESS: '5000' }
const server = await startRookery(join(folder, 'data'), { main, settings })
try {
  const start = {
    order: 'start' as const,
    origin: server.origin,
    authorization: `Basic ${basicOf(server)}`,
  }
  await fleet.order({ ...start, repository: 'bench/one', prefix: 'one', count: 1 })
  await measurePushes(server)
  const before = readMemory(server.mainPid, server.roots())
  await fleet.order({ ...start, repository: 'bench/fleet', prefix: 'fleet', count: HOSTS })
  await measureIdle(server, before)
  await measureFleet(server, fleet)
} finally {
  fleet.stop()
  await server.stop()
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
}

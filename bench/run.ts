/** Measures Rookery beside Debian's docker-registry: the same load, disk and run. See README.md. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs'
import { loadavg } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Load, measure } from './measure.ts'
import { type Memory, MemoryPeaks, readMemory } from './processes.ts'
import { describeHotFunctions, profileArguments, readProfiles } from './profile.ts'
import {
  describeMemory,
  describeResults,
  type MemoryReport,
  type Result,
  ratioOf,
} from './report.ts'
import { bytesOnDisk, listRows, type Row, titleOf } from './rows.ts'
import { Seeds } from './seed.ts'
import {
  findDockerRegistry,
  type Server,
  type ServerName,
  startDockerRegistry,
  startRookery,
} from './servers.ts'

const USAGE = `npm run bench -- [options]
  --quick          a smoke of all rows in a few seconds, at 8 connections only
  --seconds N      how long a row of small requests lasts (4)
  --repeat N       measure each row N times and keep the cheapest (1)
  --rows REGEXP    only the rows whose "name @connections" matches
  --only NAME      only rookery, or only docker-registry
  --json FILE      write all figures there, too
  --profile        profile Rookery's main thread for each row; measures no peer`

const root = fileURLToPath(new URL('..', import.meta.url))
const mainFile = join(root, 'dist', 'main.js')

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        quick: { type: 'boolean', default: false },
        seconds: { type: 'string' },
        repeat: { type: 'string', default: '1' },
        rows: { type: 'string', default: '' },
        only: { type: 'string' },
        json: { type: 'string' },
        profile: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
    return values
  } catch (error) {
    console.error(`bench: ${(error as Error).message}\n${USAGE}`)
    process.exit(2)
  }
}

const options = readOptions()

interface Contender {
  server: Server
  seeds: Seeds
  peaks: MemoryPeaks
  idle: Memory
}

const contenders: Contender[] = []
const starting: Promise<Server>[] = []
let folder: string | undefined
let load: Load | undefined

function chooseServers(): ServerName[] {
  if (options.profile) return ['rookery']
  const { only } = options
  const names: ServerName[] = ['docker-registry', 'rookery']
  const chosen = only === undefined ? names : names.filter((name) => name === only)
  if (chosen.length === 0) throw new Error(`--only ${only}: rookery or docker-registry`)
  if (chosen.includes('docker-registry') && !findDockerRegistry()) {
    console.log('docker-registry is not installed (apt-get install docker-registry)')
    return chosen.filter((name) => name === 'rookery')
  }
  return chosen
}

function makeFolder(rows: readonly Row[], times: number): string {
  const parent = resolve(process.env.ROOKERY_BENCH_DIR ?? join(root, '.cache', 'bench'))
  mkdirSync(parent, { recursive: true })
  const { bavail, bsize } = statfsSync(parent)
  const needed = bytesOnDisk(rows) * times
  if (bavail * bsize < needed) {
    throw new Error(`${parent} needs ${Math.ceil(needed / 1e9)} GB of free space`)
  }
  const made = mkdtempSync(join(parent, 'run-'))
  // Postgres does not run as root: its own user has to pass.
  chmodSync(made, 0o755)
  return made
}

async function start(name: ServerName, below: string): Promise<Contender> {
  const own = join(below, name)
  const promise =
    name === 'rookery'
      ? startRookery(
          mainFile,
          own,
          options.profile ? profileArguments(join(below, 'profiles')) : [],
        )
      : startDockerRegistry(own)
  starting.push(promise)
  const server = await promise
  await wait(options.quick ? 1000 : 5000)
  const idle = readMemory(server.mainPid, server.roots())
  return { server, seeds: new Seeds(server), peaks: new MemoryPeaks(), idle }
}

/**
 * One row on each server, one right after the other, so that both meet the same machine. What else
 * the machine does only makes work dearer: of several rounds the cheapest is the truest.
 */
async function runRow(row: Row, rounds: number): Promise<Result> {
  const result: Result = { row, by: {}, failures: [] }
  for (let round = 0; round < rounds; round++) {
    for (const contender of contenders) await runRound(contender, result)
  }
  return result
}

async function runRound({ server, seeds, peaks }: Contender, result: Result): Promise<void> {
  if (interrupted) return
  load ??= new Load()
  try {
    const found = await measure(result.row, server, seeds, load, peaks)
    const best = result.by[server.name]
    if (!best || found.cost < best.cost) result.by[server.name] = found
  } catch (error) {
    result.failures.push((error as Error).message)
    load.stop()
    load = undefined
  }
}

async function stopAll(): Promise<void> {
  load?.stop()
  const started = await Promise.allSettled(starting.splice(0))
  await Promise.all(
    started.map((one) => (one.status === 'fulfilled' ? one.value.stop() : undefined)),
  )
}

function removeFolder(): void {
  if (folder) rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
}

function toJson(results: readonly Result[], memory: ReadonlyMap<ServerName, MemoryReport>): string {
  const rows = results.map((result) => ({
    row: result.row.name,
    connections: result.row.connections,
    per: result.row.per === 'byte' ? 'GB' : '1000',
    aim: result.row.aim,
    ratio: ratioOf(result),
    servers: result.by,
    failures: result.failures,
  }))
  const memories = [...memory].map(([name, { idle, peaks, after }]) => [
    name,
    { idle, after, peaks: Object.fromEntries(peaks) },
  ])
  return `${JSON.stringify({ rows, memory: Object.fromEntries(memories) }, undefined, 2)}\n`
}

async function main(): Promise<void> {
  if (options.help) return console.log(USAGE)
  if (process.platform !== 'linux') throw new Error('the figures come from /proc: Linux only')
  const scale = {
    quick: options.quick,
    seconds: Number(options.seconds ?? (options.quick ? 0.2 : 4)),
  }
  if (!(scale.seconds > 0)) throw new Error('--seconds needs a number above 0')
  const rounds = Number(options.repeat)
  if (!(Number.isInteger(rounds) && rounds > 0)) throw new Error('--repeat needs a number above 0')
  const pattern = new RegExp(options.rows)
  const rows = listRows(scale).filter((row) => pattern.test(titleOf(row)))
  if (rows.length === 0) throw new Error(`--rows ${options.rows}: no such row`)
  const names = chooseServers()
  if (names.includes('rookery') && !existsSync(mainFile))
    throw new Error('npm run build comes first')

  folder = makeFolder(rows, names.length * rounds)
  for (const name of names) contenders.push(await start(name, folder))
  const busy = () => loadavg()[0]?.toFixed(2)
  console.log(`node ${process.version}; load average ${busy()} before the first row`)

  const results: Result[] = []
  for (const row of rows) {
    if (interrupted) return
    process.stderr.write(`${titleOf(row)}\n`)
    results.push(await runRow(row, rounds))
    if (contenders.some(({ server }) => server.death)) break
  }
  await wait(options.quick ? 1000 : 5000)
  const memory = new Map<ServerName, MemoryReport>()
  for (const { server, peaks, idle } of contenders) {
    const after = readMemory(server.mainPid, server.roots())
    memory.set(server.name, { idle, peaks: peaks.peaks, after })
  }
  await stopAll()

  for (const line of describeResults(results)) console.log(line)
  for (const [name, report] of memory)
    for (const line of describeMemory(name, report)) console.log(line)
  if (options.json) writeFileSync(options.json, toJson(results, memory))
  if (options.profile) describeProfiles(results, join(folder, 'profiles'))
  if (results.some(({ failures }) => failures.length > 0)) process.exitCode = 1
}

function describeProfiles(results: readonly Result[], profiles: string): void {
  const read = readProfiles(profiles)
  for (const { row, by } of results) {
    if (!by.rookery) continue
    console.log(`\n${titleOf(row)}`)
    for (const line of describeHotFunctions(read, root, by.rookery.window)) console.log(line)
  }
}

let interrupted = false
async function interrupt(): Promise<void> {
  if (interrupted) return
  interrupted = true
  await stopAll()
  removeFolder()
  process.exit(130)
}
process.on('SIGINT', interrupt).on('SIGTERM', interrupt)

try {
  await main()
} catch (error) {
  if (!interrupted) {
    console.error(`bench: ${(error as Error).message}`)
    process.exitCode = 1
  }
} finally {
  if (!interrupted) {
    await stopAll()
    removeFolder()
  }
}

/** Measures Rookery and Debian's docker-registry with the same load, store and run. See README.md. */
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
import { fileURLToPath } from 'node:url'
import { buildOf, commitOf } from './builds.ts'
import { Comparison } from './comparison.ts'
import { type Options, parseOptions, USAGE } from './options.ts'
import { describeHotFunctions, readProfiles } from './profile.ts'
import {
  comparedOf,
  describeAgainst,
  describeMemory,
  describeResults,
  type MemoryReport,
  type Result,
  ratioOf,
} from './report.ts'
import { bytesOnDisk, type StoreName, titleOf } from './rows.ts'
import { BEFORE, findDockerRegistry, PEER_NAMES, type ServerName } from './servers.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const mainFile = join(root, 'dist', 'main.js')
/** Disk space for uploads to S3 that do not fit into Rookery's memory. */
const SPOOL_BYTES_MAX = 1e9

function readOptions(): Options {
  try {
    return parseOptions(process.argv.slice(2))
  } catch (error) {
    console.error(`bench: ${(error as Error).message}\n${USAGE}`)
    process.exit(2)
  }
}

const options = readOptions()
let comparison: Comparison | undefined
let folder: string | undefined

interface Outcome {
  store: StoreName
  results: Result[]
  memory: ReadonlyMap<ServerName, MemoryReport>
}

function chooseServers(): ServerName[] {
  const { only, profile, against } = options
  if (against !== undefined) return ['rookery', BEFORE]
  if (profile) return ['rookery']
  const chosen = PEER_NAMES.filter((name) => only === undefined || name === only)
  if (chosen.includes('docker-registry') && !findDockerRegistry()) {
    console.log('docker-registry is not installed (apt-get install docker-registry)')
    return chosen.filter((name) => name !== 'docker-registry')
  }
  return chosen
}

function namesOn(store: StoreName, names: readonly ServerName[]): ServerName[] {
  const found = names.filter((name) => store === 's3' || !name.startsWith('sdk'))
  if (found.length === 0) throw new Error(`no chosen server supports ${store}`)
  return found
}

/** Returns the most disk space that one store needs: the stores run one after the other. */
function bytesNeeded(names: readonly ServerName[]): number {
  const needs = options.stores.map((store) => {
    if (store === 's3') return SPOOL_BYTES_MAX
    const bytes = bytesOnDisk(options.rows.get(store) ?? [])
    return bytes * namesOn(store, names).length * options.rounds
  })
  return Math.max(...needs)
}

const parent = resolve(process.env.ROOKERY_BENCH_DIR ?? join(root, '.cache', 'bench'))

function makeFolder(needed: number): string {
  mkdirSync(parent, { recursive: true })
  const { bavail, bsize } = statfsSync(parent)
  if (bavail * bsize < needed) {
    throw new Error(`${parent} needs ${Math.ceil(needed / 1e9)} GB of free space`)
  }
  const made = mkdtempSync(join(parent, 'run-'))
  // Postgres runs as another user, which must be able to enter the folder.
  chmodSync(made, 0o755)
  return made
}

function removeFolder(path: string | undefined): void {
  if (path) rmSync(path, { recursive: true, force: true, maxRetries: 5 })
}

function toJson(outcomes: readonly Outcome[]): string {
  const stores = outcomes.map(({ store, results, memory }) => {
    const rows = results.map((result) => ({
      row: result.row.name,
      connections: result.row.connections,
      per: result.row.per === 'byte' ? 'GB' : '1000',
      aim: result.row.aim,
      ratio: ratioOf(result),
      against: comparedOf(result),
      costs: result.costs,
      sdkAim: result.row.sdkAim,
      sdkRatio: ratioOf(result, 'sdk'),
      sdkUnsignedRatio: ratioOf(result, 'sdk-unsigned'),
      servers: result.by,
      failures: result.failures,
    }))
    const memories = [...memory].map(([name, { idle, peaks, after }]) => [
      name,
      { idle, after, peaks: Object.fromEntries(peaks) },
    ])
    return { store, rows, memory: Object.fromEntries(memories) }
  })
  return `${JSON.stringify({ stores }, undefined, 2)}\n`
}

const busy = () => loadavg()[0]?.toFixed(2)

async function measureStore(
  store: StoreName,
  below: string,
  names: ServerName[],
  before: string | undefined,
) {
  const own = join(below, store)
  mkdirSync(own)
  const profiles = options.profile ? join(own, 'profiles') : undefined
  const { quick, rounds } = options
  comparison = new Comparison({
    store,
    folder: own,
    names,
    main: mainFile,
    before,
    quick,
    rounds,
    profiles,
  })
  await comparison.start()
  console.log(`${store}: node ${process.version}; load average ${busy()} before the first row`)
  const results = await comparison.measureRows(options.rows.get(store) ?? [], (row) => {
    process.stderr.write(`${titleOf(row)}\n`)
  })
  if (interrupted) return undefined
  const memory = await comparison.readMemories()
  await comparison.stop()

  const described = before === undefined ? describeResults(results) : describeAgainst(results)
  for (const line of described) console.log(line)
  for (const [name, report] of memory)
    for (const line of describeMemory(name, report)) console.log(line)
  if (profiles) describeProfiles(results, profiles)
  removeFolder(own)
  return { store, results, memory }
}

/** Builds the commit to compare with, and returns its main file. */
function buildBefore(name: string): string {
  const commit = commitOf(name)
  console.log(`building ${name}, ${commit.slice(0, 12)}`)
  return buildOf(commit, parent)
}

async function main(): Promise<void> {
  if (options.help) return console.log(USAGE)
  if (process.platform !== 'linux') throw new Error('the bench reads /proc, and needs Linux')
  const names = chooseServers()
  if (names.includes('rookery') && !existsSync(mainFile))
    throw new Error('run `npm run build` first')

  const before = options.against === undefined ? undefined : buildBefore(options.against)
  folder = makeFolder(bytesNeeded(names))
  const outcomes: Outcome[] = []
  for (const store of options.stores) {
    const outcome = await measureStore(store, folder, namesOn(store, names), before)
    if (outcome === undefined) return
    outcomes.push(outcome)
  }
  if (options.json) writeFileSync(options.json, toJson(outcomes))
  const failed = outcomes.some(({ results }) => results.some(({ failures }) => failures.length > 0))
  const worse = outcomes.some(({ results }) =>
    results.some((result) => comparedOf(result)?.verdict === 'worse'),
  )
  if (failed || worse) process.exitCode = 1
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
  await comparison?.stop()
  removeFolder(folder)
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
    await comparison?.stop()
    removeFolder(folder)
  }
}

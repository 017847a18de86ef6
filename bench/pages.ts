/** Measures what each page costs, and whether page views change the cost of a pull. See README.md. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Load } from './measure.ts'
import { type Cpu, readCpu } from './processes.ts'
import { type Server, startRookery } from './servers.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const BUILDS = ['hello-key-1', 'hello-key-2'] as const
const FILES = {
  kernel: 'bin/hello-key.hvt',
  'opam-switch': 'opam-switch',
  'system-packages': 'system-packages',
  'build-environment': 'build-environment',
}
const REPOSITORY = 'bench/hello'
/** More than a page of images. */
const TAGS = 50
const PACKAGE = 'lwt'

/** Views of each page that are measured, one after the other, after those that warm up. */
const VIEWS = 60
const WARM_UPS = 100
/** A page may cost so much CPU of the main process. */
const MAIN_MILLISECONDS_AIM = 5
/** The connection of a question rests four times as long as its statements took: a client that waits longer finds it free. */
const REST_FACTOR = 5
const ADDRESSES = 200

/** The server ends its work on what was pushed, and is idle afterwards. */
const REST_SECONDS = 10
const IDLE_SECONDS = 10
const ROUNDS = 3
const ROUND_SECONDS = 10
const VIEWS_A_SECOND = 50
const PULL_CONNECTIONS = 8
const PULL_WARM_UPS = 500
const UNLIMITED = 1_000_000_000
const SETTLE_MILLISECONDS = 500
const COUNTER_MILLISECONDS = 5_000

type Page = { readonly path: string; readonly authorized?: true }

let views = 0

/** Views a page, and returns its size in bytes. */
async function view(of: Server, { path, authorized }: Page): Promise<number> {
  views += 1
  const address = `192.0.2.${1 + (views % ADDRESSES)}`
  const authorization = /Basic \S+/.exec(of.credentials)?.[0] ?? ''
  const answer = await fetch(of.origin + path, {
    headers: { 'x-forwarded-for': address, ...(authorized && { authorization }) },
  })
  const { byteLength } = await answer.arrayBuffer()
  if (answer.status !== 200) throw new Error(`${path} was answered with ${answer.status}`)
  return byteLength
}

/** Pushes images to many tags, and returns the pages to view, warm. */
async function seed(of: Server): Promise<Page[]> {
  const authorization = /Basic \S+/.exec(of.credentials)?.[0] ?? ''
  const digests: string[] = []
  let kernel = ''
  for (let tag = 0; tag < TAGS; tag += 1) {
    const folder = join(root, 'test/fixtures/builds', BUILDS[tag % BUILDS.length] ?? '')
    const form = new FormData()
    for (const [role, path] of Object.entries(FILES)) {
      const bytes = readFileSync(join(folder, path))
      form.append(role, new Blob([bytes]), path.slice(path.lastIndexOf('/') + 1))
    }
    const query = `?tag=v${tag}&tag=live`
    const answer = await fetch(`${of.origin}/api/v1/repositories/${REPOSITORY}/images${query}`, {
      ...{ method: 'POST', body: form },
      headers: { authorization },
    })
    if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`)
    digests.push(((await answer.json()) as { digest: string }).digest)
  }
  const read = async (path: string) => (await fetch(`${of.origin}/api/v1/${path}`)).json()
  const image = (await read(`repositories/${REPOSITORY}/images/live`)) as {
    kernel: { digest: string }
    inputId: string
  }
  kernel = image.kernel.digest
  const list = (await read(`repositories/${REPOSITORY}/builds?n=1`)) as { builds: { id: string }[] }
  const below = `/r/${REPOSITORY}/-`
  const pages: Page[] = [
    { path: '/' },
    { path: '/repositories' },
    { path: '/search?q=bench' },
    { path: `/r/${REPOSITORY}` },
    { path: `${below}/tags` },
    { path: `${below}/tags/live` },
    { path: `${below}/images` },
    { path: `${below}/images/live` },
    { path: `${below}/images/live/graph` },
    { path: `${below}/images/live/graph?package=${PACKAGE}` },
    { path: `${below}/images/live/size` },
    { path: `${below}/compare/${digests[0]}...${digests[1]}` },
    { path: `${below}/builds` },
    { path: `${below}/builds/${list.builds[0]?.id}` },
    { path: `/packages/opam/${PACKAGE}` },
    { path: `/kernels/${kernel}` },
    { path: `/inputs/${image.inputId}` },
    { path: '/deployments', authorized: true },
  ]
  for (const page of pages) for (let count = 0; count < WARM_UPS; count += 1) await view(of, page)
  return pages
}

function cpuOf(of: Server): Cpu {
  return readCpu(of.mainPid, of.roots())
}

/** CPU seconds of the main process and of all others since `before`, without what the server uses in that time anyhow. */
function usedSince(of: Server, before: Cpu, seconds: number, idle: Used): Used {
  const { mainSeconds, totalSeconds } = cpuOf(of)
  const main = mainSeconds - before.mainSeconds
  const postgres = totalSeconds - before.totalSeconds - main
  return { main: main - idle.main * seconds, postgres: postgres - idle.postgres * seconds }
}

type Used = { readonly main: number; readonly postgres: number }
type Idle = Used & { readonly statements: number }
const NOTHING: Used = { main: 0, postgres: 0 }

/** Returns the CPU that the server uses each second while nobody asks, and the statements that it sends. */
async function measureIdle(of: Server, file: string): Promise<Idle> {
  await wait(REST_SECONDS * 1000)
  const sent = await countStatements(of, file)
  const before = cpuOf(of)
  await wait(IDLE_SECONDS * 1000)
  const { main, postgres } = usedSince(of, before, IDLE_SECONDS, NOTHING)
  const statements = (await countStatements(of, file)) - sent
  return {
    main: main / IDLE_SECONDS,
    postgres: postgres / IDLE_SECONDS,
    statements: statements / IDLE_SECONDS,
  }
}

/** Returns the number of statements that the server has sent so far. */
async function countStatements(of: Server, file: string): Promise<number> {
  rmSync(file, { force: true })
  process.kill(of.mainPid, 'SIGUSR2')
  for (let waited = 0; waited < COUNTER_MILLISECONDS; waited += 10) {
    await wait(10)
    try {
      const text = readFileSync(file, 'utf8')
      if (text.endsWith('\n')) return Number(text)
    } catch {
      // The server has not written it yet.
    }
  }
  throw new Error('the server did not count its statements')
}

const milliseconds = (seconds: number, count: number) => ((seconds * 1000) / count).toFixed(2)

/** Views one page after the other, as a person does, and prints what each costs. */
async function measurePages(of: Server, pages: readonly Page[], idle: Idle, file: string) {
  console.log('bytes | statements | ms of CPU: main | Postgres | median ms | page')
  for (const page of pages) {
    const times: number[] = []
    let bytes = 0
    const sent = await countStatements(of, file)
    const [before, from] = [cpuOf(of), performance.now()]
    for (let count = 0; count < VIEWS; count += 1) {
      const start = performance.now()
      bytes = await view(of, page)
      const took = performance.now() - start
      times.push(took)
      await wait(took * REST_FACTOR)
    }
    const seconds = (performance.now() - from) / 1000
    const used = usedSince(of, before, seconds, idle)
    const statements =
      ((await countStatements(of, file)) - sent - idle.statements * seconds) / VIEWS
    times.sort((a, b) => a - b)
    const median = times[VIEWS >> 1]?.toFixed(1)
    const main = milliseconds(used.main, VIEWS)
    console.log(
      `${bytes} | ${statements.toFixed(1)} | ${main} | ${milliseconds(used.postgres, VIEWS)} | ${median} | ${page.path}`,
    )
    if (Number(main) > MAIN_MILLISECONDS_AIM) process.exitCode = 1
  }
}

type Views = { count: number; seconds: number; failed: number; readonly times: number[] }

/** Views pages in turn, VIEWS_A_SECOND, until `isOver`. A view never waits for an earlier one. */
async function viewAll(of: Server, pages: readonly Page[], isOver: () => boolean): Promise<Views> {
  const found: Views = { count: 0, seconds: 0, failed: 0, times: [] }
  const running = new Set<Promise<void>>()
  const from = performance.now()
  while (!isOver()) {
    const page = pages[found.count % pages.length]
    if (page === undefined) break
    found.count += 1
    const start = performance.now()
    const one = view(of, page).then(
      () => {
        found.times.push(performance.now() - start)
      },
      () => {
        found.failed += 1
      },
    )
    running.add(one)
    void one.then(() => running.delete(one))
    await wait(from + (found.count * 1000) / VIEWS_A_SECOND - performance.now())
  }
  await Promise.all(running)
  found.seconds = (performance.now() - from) / 1000
  return found
}

/** Pulls a manifest by tag, and returns the number of pulls. */
async function pull(load: Load): Promise<number> {
  const report = await load.order({ order: 'go' })
  if (report.report !== 'done') throw new Error(JSON.stringify(report))
  return report.outcome.units
}

async function preparePull(of: Server, load: Load): Promise<void> {
  const target = `/v2/${REPOSITORY}/manifests/live`
  const accept = 'application/vnd.oci.image.manifest.v1+json'
  const answer = await fetch(of.origin + target, { headers: { accept } })
  const length = (await answer.arrayBuffer()).byteLength
  const headers = `Accept: ${accept}\r\n`
  const work = { kind: 'ask', method: 'GET', target, headers, status: 200, length } as const
  const { origin, credentials, bearer } = of
  const limits = { warmUps: PULL_WARM_UPS, unitsMax: UNLIMITED, secondsMax: ROUND_SECONDS }
  const job = { origin, credentials, bearer, work, connections: PULL_CONNECTIONS, ...limits }
  await load.order({ order: 'prepare', job })
  await wait(SETTLE_MILLISECONDS)
}

/** Measures pulls alone, views alone, and both together, in turns: other programs of the machine slow down all. */
async function measureBeside(of: Server, pages: readonly Page[]): Promise<void> {
  const load = new Load()
  const alone = { units: 0, cpu: 0 }
  const viewed = { views: 0, cpu: 0 }
  const both = { units: 0, views: 0, cpu: 0, failed: 0, seconds: 0 }
  const times: number[] = []
  try {
    for (let round = 0; round < ROUNDS; round += 1) {
      await preparePull(of, load)
      let before = cpuOf(of)
      alone.units += await pull(load)
      alone.cpu += cpuOf(of).totalSeconds - before.totalSeconds

      before = cpuOf(of)
      const end = performance.now() + ROUND_SECONDS * 1000
      const seen = await viewAll(of, pages, () => performance.now() >= end)
      viewed.views += seen.count
      viewed.cpu += cpuOf(of).totalSeconds - before.totalSeconds

      await preparePull(of, load)
      before = cpuOf(of)
      let isOver = false
      const viewing = viewAll(of, pages, () => isOver)
      both.units += await pull(load)
      isOver = true
      const beside = await viewing
      both.views += beside.count
      both.failed += beside.failed
      both.seconds += beside.seconds
      both.cpu += cpuOf(of).totalSeconds - before.totalSeconds
      times.push(...beside.times)
    }
  } finally {
    load.stop()
  }
  const cost = (cpu: number, units: number) => ((cpu * 1000) / units).toFixed(3)
  const ofViews = (viewed.cpu * both.views) / viewed.views
  times.sort((a, b) => a - b)
  const at = (part: number) => times[Math.floor(part * (times.length - 1))]?.toFixed(0)
  console.log(
    `manifest by tag @${PULL_CONNECTIONS}: ${cost(alone.cpu, alone.units)} CPU s per 1000 alone,`,
    `${cost(both.cpu - ofViews, both.units)} beside ${(both.views / both.seconds).toFixed(0)} page views a second`,
    `(${cost(both.cpu, both.units)} with those of the views, each ${cost(viewed.cpu, viewed.views)} ms)`,
  )
  console.log(
    `  views: median ${at(0.5)} ms, p99 ${at(0.99)} ms; ${both.failed} of ${both.views} failed`,
  )
}

const parent = resolve(process.env.ROOKERY_BENCH_DIR ?? join(root, '.cache', 'bench'))
mkdirSync(parent, { recursive: true })
const folder = mkdtempSync(join(parent, 'pages-'))
// Postgres runs as its own user, which needs access to the folder.
chmodSync(folder, 0o755)
const counted = join(folder, 'statements')
const server = await startRookery(folder, {
  main: join(root, 'dist', 'main.js'),
  nodeArguments: ['--import', fileURLToPath(new URL('statement-counter.mjs', import.meta.url))],
  settings: { ROOKERY_TRUSTED_PROXIES: '127.0.0.1', BENCH_STATEMENTS: counted },
})
try {
  const pages = await seed(server)
  const idle = await measureIdle(server, counted)
  console.log(
    `idle: ${milliseconds(idle.main, 1)} ms of CPU of the main process each second, ${milliseconds(idle.postgres, 1)} of Postgres, ${idle.statements.toFixed(1)} statements`,
  )
  await measurePages(server, pages, idle, counted)
  await measureBeside(server, pages)
} finally {
  await server.stop()
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
}

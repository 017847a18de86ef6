/** Measures a pull by tag alone, and while hostile clients ask the most expensive questions. See README.md. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Server, startRookery } from './servers.ts'

const HOSTILE_CLIENTS = 24
const ROUNDS = 4
const ROUND_SECONDS = 4
const PUSHES = 50
const TAGS_A_PUSH = 60
const STAR_PATTERNS = 8
const WARM_UP_SECONDS = 2
/** The maximum of the p99 beside hostile clients divided by the p99 alone. */
const AIM = 2
const REPOSITORY = 'bench/live'
const EMPTY = 'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json'
const PAUSE_MILLISECONDS = 5

/**
 * The child process: asks until it is killed. `addresses` is the number of addresses that the clients have, `start` the
 * cursor before all events.
 */
async function attack(origin: string, addresses: number, start: string): Promise<void> {
  const patterns = Array.from(
    { length: STAR_PATTERNS },
    (_, index) => `&tag=${'*a'.repeat(100)}${index}`,
  ).join('')
  const paths = [
    `/api/v1/events?after=${start}&n=1000${patterns}`,
    '/api/v1/events?snapshot=1',
    `/v2/${REPOSITORY}/tags/list`,
    '/api/v1/packages/opam/mirage?version=%21%28%3D1%29',
    `/api/v1/kernels/${EMPTY}`,
  ]
  const client = async (index: number) => {
    const headers = { 'x-forwarded-for': `192.0.2.${1 + (index % addresses)}` }
    for (let turn = index; ; turn += 1) {
      const answer = await fetch(origin + paths[turn % paths.length], { headers })
      await answer.arrayBuffer()
      // A client that is refused asks again at once, as a hostile one does.
      if (answer.status === 429) await wait(PAUSE_MILLISECONDS)
    }
  }
  const clients = Array.from({ length: HOSTILE_CLIENTS }, (_, index) => client(index))
  process.send?.('attacking')
  await Promise.all(clients)
}

async function seed(of: Server): Promise<void> {
  const authorization = /Basic \S+/.exec(of.credentials)?.[0] ?? ''
  const send = async (path: string, method: string, type: string, body: string) => {
    const headers = { authorization, 'content-type': type }
    const answer = await fetch(of.origin + path, { method, headers, body })
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
    await answer.arrayBuffer()
  }
  const blob = `/v2/${REPOSITORY}/blobs/uploads/?digest=${EMPTY}`
  await send(blob, 'POST', 'application/octet-stream', '{}')
  const config = { mediaType: 'application/vnd.oci.empty.v1+json', digest: EMPTY, size: 2 }
  for (let push = 0; push < PUSHES; push += 1) {
    const manifest = JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      artifactType: 'application/vnd.example',
      config,
      layers: [config],
      annotations: { push: String(push) },
    })
    for (let tag = 0; tag < TAGS_A_PUSH; tag += 1) {
      const path = `/v2/${REPOSITORY}/manifests/${'a'.repeat(100)}${push}.${tag}`
      await send(path, 'PUT', MANIFEST_TYPE, manifest)
    }
  }
}

/** Pulls by tag, one after the other, and adds the milliseconds of each. */
async function measurePulls(of: Server, seconds: number, times: number[]): Promise<void> {
  const url = `${of.origin}/v2/${REPOSITORY}/manifests/${'a'.repeat(100)}0.0`
  const end = performance.now() + seconds * 1000
  while (performance.now() < end) {
    const started = performance.now()
    const answer = await fetch(url, { headers: { accept: MANIFEST_TYPE } })
    await answer.arrayBuffer()
    if (answer.status !== 200) throw new Error(`a pull was answered with ${answer.status}`)
    times.push(performance.now() - started)
  }
}

/** Prints the distribution of times, and returns the p99 in milliseconds. */
function p99Of(what: string, times: number[]): number {
  times.sort((a, b) => a - b)
  const at = (part: number) => times[Math.floor(part * (times.length - 1))] ?? 0
  console.log(
    `${what}: median ${at(0.5).toFixed(1)} ms, p99 ${at(0.99).toFixed(1)} ms, longest ${at(1).toFixed(1)} ms (${times.length} pulls)`,
  )
  return at(0.99)
}

async function main(): Promise<void> {
  const root = fileURLToPath(new URL('..', import.meta.url))
  const parent = resolve(process.env.ROOKERY_BENCH_DIR ?? join(root, '.cache', 'bench'))
  mkdirSync(parent, { recursive: true })
  const folder = mkdtempSync(join(parent, 'questions-'))
  // Postgres does not run as root, and its user has to enter the folder.
  chmodSync(folder, 0o755)
  const settings = { ROOKERY_TRUSTED_PROXIES: '127.0.0.1' }
  const server = await startRookery(folder, { main: join(root, 'dist', 'main.js'), settings })
  let hostile: ChildProcess | undefined
  try {
    const page = await (await fetch(`${server.origin}/api/v1/events?n=0`)).json()
    const start = (page as { cursor: string }).cursor
    await seed(server)
    await measurePulls(server, WARM_UP_SECONDS, [])
    for (const addresses of [1, HOSTILE_CLIENTS]) {
      const alone: number[] = []
      const beside: number[] = []
      // In turns, because other programs of the machine slow down both.
      for (let round = 0; round < ROUNDS; round += 1) {
        await measurePulls(server, ROUND_SECONDS, alone)
        hostile = fork(fileURLToPath(import.meta.url), [server.origin, String(addresses), start])
        await once(hostile, 'message')
        await measurePulls(server, ROUND_SECONDS, beside)
        hostile.kill('SIGKILL')
        await once(hostile, 'exit')
      }
      const first = p99Of('pull by tag alone', alone)
      const what = `beside ${HOSTILE_CLIENTS} hostile clients of ${addresses} address(es)`
      const ratio = p99Of(what, beside) / first
      console.log(`  p99: ${ratio.toFixed(2)} times that of the pull alone, aim ${AIM}`)
      if (ratio > AIM) process.exitCode = 1
    }
  } finally {
    hostile?.kill('SIGKILL')
    await server.stop()
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

const [, , origin, addresses, start = ''] = process.argv
if (origin === undefined) await main()
else await attack(origin, Number(addresses), start)

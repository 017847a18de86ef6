/** Measures how long commands take from their start to their end, in dist and in the client of one file. See README.md. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const RUNS = 11
const WARM_UPS = 2
/** The port of no service: the push loads the client of HTTP, and ends at once. */
const NOBODY = '127.0.0.1:1/hello/key:live'
const BUILD = join(root, 'test/fixtures/builds/hello-key-1')
const KERNEL = join(root, 'test/fixtures/elf/mini-net.hvt')
const PROGRAMS = {
  dist: join(root, 'dist/main.js'),
  client: join(root, 'dist/rookery-client.cjs'),
}
/** The commands, with their exit status. */
const COMMANDS: readonly (readonly [words: readonly string[], status: number])[] = [
  [['--version'], 0],
  [['push', '--help'], 0],
  [['inspect', KERNEL], 0],
  [['push', '--dry-run', BUILD, NOBODY], 0],
  [['push', BUILD, NOBODY], 2],
]

const home = mkdtempSync(join(tmpdir(), 'rookery-starts-'))

/** The seconds until the end of a command, and those of the CPU. The latter hardly depend on what else the machine does. */
type Cost = { readonly elapsed: number; readonly cpu: number }

const TIMED = 'TIMEFORMAT="%R %U %S"; time "$@" >/dev/null 2>&1'

/** Runs Node to its end. */
function run(words: readonly string[], status: number): Cost {
  const env = { PATH: process.env.PATH, HOME: home, ROOKERY_TOKEN: 'a-token-for-nobody' }
  const line = ['-c', TIMED, 'bash', process.execPath, ...words]
  const ended = spawnSync('bash', line, { env, encoding: 'utf8' })
  if (ended.status !== status) throw new Error(`${words.join(' ')} ended with ${ended.status}`)
  const [elapsed = 0, user = 0, system = 0] = ended.stderr.trim().split(' ').map(Number)
  return { elapsed, cpu: user + system }
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN
}

const medianOf = (costs: readonly Cost[]): Cost => ({
  elapsed: median(costs.map(({ elapsed }) => elapsed)),
  cpu: median(costs.map(({ cpu }) => cpu)),
})

/** Returns the medians of both programs; their runs alternate, so that both have the same machine. */
function measure(words: readonly string[], status: number): { dist: Cost; client: Cost } {
  const dist: Cost[] = []
  const client: Cost[] = []
  for (let round = 0; round < WARM_UPS + RUNS; round += 1) {
    dist.push(run([PROGRAMS.dist, ...words], status))
    client.push(run([PROGRAMS.client, ...words], status))
  }
  return { dist: medianOf(dist.slice(WARM_UPS)), client: medianOf(client.slice(WARM_UPS)) }
}

const milliseconds = ({ elapsed, cpu }: Cost) =>
  `${(elapsed * 1000).toFixed(0)} ms (CPU ${(cpu * 1000).toFixed(0)} ms)`

try {
  const empty = medianOf(Array.from({ length: RUNS }, () => run(['-e', '0'], 0)))
  console.log(`Node ${process.versions.node} alone: ${milliseconds(empty)}`)
  for (const [words, status] of COMMANDS) {
    const { dist, client } = measure(words, status)
    const share = (client.cpu - empty.cpu) / (dist.cpu - empty.cpu)
    console.log(
      `${words.join(' ').replaceAll(root, '')}: dist ${milliseconds(dist)}, client ${milliseconds(client)}; ` +
        `without Node itself ${share.toFixed(2)} of the CPU`,
    )
  }
} finally {
  rmSync(home, { recursive: true, force: true })
}

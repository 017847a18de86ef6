import { type ChildProcess, spawn } from 'node:child_process'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it } from 'vitest'

const LINES = {
  // Without scripts: `npm start` builds first, and other tests run what is built.
  'npm start': ['npm', 'start', '--ignore-scripts'],
  'bin/rookery serve': ['bin/rookery', 'serve'],
  'npm start of a shell that ends': ['sh', '-c', 'npm start --ignore-scripts & wait'],
} as const
/** The server looks for npm twice a second. */
const LOOKS_MILLISECONDS = 2_000
const ENDED = { timeout: 30_000, interval: 100 }

let folder: string
let child: ChildProcess | undefined

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-signals-'))
  await chmod(folder, 0o755)
})

afterEach(async () => {
  if (isGroupAlive()) process.kill(-groupOf(), 'SIGKILL')
  await rm(folder, { recursive: true, force: true })
})

function groupOf(): number {
  if (child?.pid === undefined) throw new Error('nothing was started')
  return child.pid
}

/** True while npm, its shell or the server runs. Postgres has a process group of its own. */
function isGroupAlive(): boolean {
  try {
    return process.kill(-groupOf(), 0)
  } catch {
    return false
  }
}

/** Starts the line in a process group of its own, as a terminal does. Returns what it wrote so far. */
async function start(line: keyof typeof LINES): Promise<{ output(): string }> {
  const [program, ...args] = LINES[line]
  let output = ''
  const started = spawn(program, args, {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      ROOKERY_DATA_DIR: join(folder, 'data'),
      ROOKERY_LISTEN: '127.0.0.1:0',
      ROOKERY_LOG_LEVEL: 'info',
    },
  })
  child = started
  for (const stream of [started.stdout, started.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk
    })
  }
  await expect.poll(() => output, ENDED).toMatch(/^Documentation: /m)
  return { output: () => output }
}

it.each([
  ['npm start', 'SIGTERM', 'its own process'],
  ['npm start', 'SIGHUP', 'its own process'],
  ['npm start', 'SIGTERM', 'its process group'],
  ['bin/rookery serve', 'SIGTERM', 'its own process'],
] as const)('%s ends in order after %s to %s', async (line, signal, receiver) => {
  const { output } = await start(line)
  process.kill(receiver === 'its own process' ? groupOf() : -groupOf(), signal)
  await expect.poll(isGroupAlive, ENDED).toBe(false)
  const messages = [...output().matchAll(/"msg":"([^"]*)"/g)].map(([, text]) => text)
  expect(messages.at(-1)).toBe('stopped')
  expect(messages.filter((text) => text?.endsWith('stopping'))).toHaveLength(1)
  expect(output()).not.toMatch(/"level":"(warn|error)"|^\s+at /m)
})

it('a server of one process without a terminal goes on after SIGHUP, and says that it has no worker', async () => {
  const { output } = await start('bin/rookery serve')
  process.kill(groupOf(), 'SIGHUP')
  await expect.poll(output, ENDED).toMatch(/"level":"warn".*no worker that SIGHUP can replace/)
  const url = /http:\/\/[^\s]+:\d+/.exec(output())?.[0] ?? ''
  expect((await fetch(`${url}/healthz`)).status).toBe(200)
  process.kill(groupOf(), 'SIGTERM')
  await expect.poll(isGroupAlive, ENDED).toBe(false)
  expect(output()).toMatch(/"msg":"stopped"/)
})

it('npm start goes on when the shell that started it ends, as after a logout', async () => {
  const { output } = await start('npm start of a shell that ends')
  child?.kill('SIGKILL')
  await delay(LOOKS_MILLISECONDS)
  const url = /http:\/\/[^\s]+:\d+/.exec(output())?.[0] ?? ''
  expect((await fetch(`${url}/healthz`)).status).toBe(200)
  expect(output()).not.toContain('stopping')
  process.kill(-groupOf(), 'SIGTERM')
  await expect.poll(isGroupAlive, ENDED).toBe(false)
})

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const WAIT_MILLISECONDS_MAX = 60_000

export type ServerProcess = {
  readonly child: ChildProcess
  readonly url: string
  /** Everything on standard output so far. */
  readonly banner: string
}

export type ExitedProcess = {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

export type Settings = Record<string, string>

type Identity = {
  uid?: number
  gid?: number
  cwd?: string
  /** The limit of open files. */
  openFilesMax?: number
  /** The `rookery` that runs; the built one of this tree by default. */
  main?: string
}

function run(settings: Settings, { openFilesMax, main = MAIN, ...identity }: Identity) {
  // Without the ROOKERY_ variables of this environment.
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('ROOKERY_'))
  const env = { ...Object.fromEntries(inherited), ROOKERY_LISTEN: '127.0.0.1:0', ...settings }
  const words = [process.execPath, main, 'serve']
  const limited =
    openFilesMax === undefined
      ? words
      : ['sh', '-c', `ulimit -n ${openFilesMax} && exec "$@"`, 'sh', ...words]
  const [command = '', ...rest] = limited
  const child = spawn(command, rest, { env, ...identity })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk) => {
    output.stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    output.stderr += chunk
  })
  return { child, output }
}

/** Runs `rookery serve` until it has printed its banner. */
export async function startProcess(
  settings: Settings,
  identity: Identity = {},
): Promise<ServerProcess> {
  const { child, output } = run(settings, identity)
  const ended = once(child, 'exit').then(([status]) => {
    throw new Error(`rookery ended with ${status}: ${output.stderr}`)
  })
  ended.catch(() => {})
  const ready = new Promise<void>((resolve) => {
    child.stdout.on('data', () => {
      if (/^Documentation: .*\n/m.test(output.stdout)) resolve()
    })
  })
  const late = new AbortController()
  const timeout = setTimeout(() => late.abort(), WAIT_MILLISECONDS_MAX)
  const aborted = once(late.signal, 'abort').then(() => {
    throw new Error(`rookery did not greet: ${output.stdout} ${output.stderr}`)
  })
  aborted.catch(() => {})
  try {
    await Promise.race([ready, ended, aborted])
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  } finally {
    clearTimeout(timeout)
  }
  const url = /http:\/\/[^\s]+:\d+/.exec(output.stdout)?.[0] ?? ''
  return { child, url, banner: output.stdout }
}

/** Runs `rookery serve` until it ends by itself. */
export async function runUntilExit(
  settings: Settings,
  identity: Identity = {},
): Promise<ExitedProcess> {
  const { child, output } = run(settings, identity)
  const timeout = setTimeout(() => child.kill('SIGKILL'), WAIT_MILLISECONDS_MAX)
  const [status] = await once(child, 'close')
  clearTimeout(timeout)
  return { status, ...output }
}

/** Stops the server as an operator does, and returns its exit status. */
export async function stopProcess({ child }: ServerProcess, signal: NodeJS.Signals = 'SIGTERM') {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode
  const ended = once(child, 'exit')
  child.kill(signal)
  const [status] = await ended
  return status as number | null
}

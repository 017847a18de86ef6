import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { ROOT } from '../house/tree.ts'

const runFile = promisify(execFile)
// npm unpacks hundreds of packages, and a busy machine takes minutes.
const RUN_MILLISECONDS_MAX = 300_000
const START_MILLISECONDS_MAX = 60_000
const CACHE = process.env.npm_config_cache ?? join(homedir(), '.npm')
const GIT = ['-c', 'user.name=test', '-c', 'user.email=test@example.org']

/** A folder in which a user works, and the user. */
export type Place = {
  readonly cwd: string
  /** A folder for what npm and the shell keep of the user. */
  readonly home: string
  readonly uid?: number
  readonly env?: Readonly<Record<string, string>>
}

export type Ended = {
  /** The exit status, or the signal that ended it. */
  readonly status: number | string
  readonly stdout: string
  readonly stderr: string
}

/** A server that runs; `banner` has its lines for a second terminal. */
export type Server = Awaited<ReturnType<typeof startServer>>

/** Copies the project as it is in git, with the changes of this working tree, into a new repository. */
export async function copyProject(folder: string): Promise<void> {
  const list = ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '--deduplicate']
  const { stdout } = await runFile('git', list, { cwd: ROOT, maxBuffer: 2 ** 24 })
  for (const path of stdout.split('\0').filter((one) => one !== '')) {
    await mkdir(dirname(join(folder, path)), { recursive: true })
    await cp(join(ROOT, path), join(folder, path)).catch((error: NodeJS.ErrnoException) => {
      // A file that was deleted and is still in the index.
      if (error.code !== 'ENOENT') throw error
    })
  }
  await runFile('git', ['init', '-q'], { cwd: folder })
  await runFile('git', ['add', '-A'], { cwd: folder })
  await runFile('git', [...GIT, 'commit', '-qm', 'all'], { cwd: folder })
}

/** Runs a line of a shell to its end. */
export async function shell(place: Place, line: string): Promise<Ended> {
  const options = { ...optionsOf(place), timeout: RUN_MILLISECONDS_MAX, maxBuffer: 2 ** 24 }
  return runFile('bash', ['-c', line], options).then(
    (output) => ({ status: 0, ...output }),
    // A line that takes too long is killed, and has no exit status.
    ({ code, signal, stdout, stderr }) => ({ status: code ?? signal, stdout, stderr }),
  )
}

/** Runs a line of a shell that must succeed, and returns its output. */
export async function succeed(place: Place, line: string): Promise<string> {
  const ended = await shell(place, line)
  expect(ended, `${line}\n${ended.stdout}${ended.stderr}`).toMatchObject({ status: 0 })
  return ended.stdout
}

/** Runs the command that starts a server, and returns when it has printed its address. */
export async function startServer(place: Place, line: string) {
  const child = spawn('bash', ['-c', `exec ${line}`], { ...optionsOf(place), detached: true })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk
    })
  }
  const isReady = () => /^Documentation: /m.test(output) || child.exitCode !== null
  await expect.poll(isReady, { timeout: START_MILLISECONDS_MAX }).toBe(true)
  const [, banner = ''] = /^Paste in a second terminal.*:\n((?: {2}.*\n)+)/m.exec(output) ?? []
  const [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(output) ?? []
  if (url === undefined) throw new Error(`${line}\n${output}`)
  return { url, output, banner, stop: () => stop(child) }
}

/** Sends SIGTERM to the process alone, as a supervisor does, and returns its exit status. */
async function stop(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const [status] = await exited
  return status as number | null
}

function optionsOf({ cwd, home, uid, env = {} }: Place) {
  const path = [...(env.PATH === undefined ? [] : [env.PATH]), dirname(process.execPath)]
  const user = uid === undefined ? {} : { uid, gid: uid }
  // Nothing of the npm that runs these tests, but its cache.
  const PATH = [...path, '/usr/local/bin', '/usr/bin', '/bin'].join(delimiter)
  const npm = {
    ...(uid === undefined ? { npm_config_cache: CACHE } : {}),
    ...{ npm_config_prefer_offline: 'true', npm_config_audit: 'false', npm_config_fund: 'false' },
  }
  return { cwd, ...user, env: { HOME: home, ROOKERY_LISTEN: '127.0.0.1:0', ...npm, ...env, PATH } }
}

export const removeFolder = (folder: string) => rm(folder, { recursive: true, force: true })

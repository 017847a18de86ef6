import { spawn } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { EmbeddedPostgresError } from './errors.ts'
import type { Log } from './log.ts'
import { commandAs, NOBODY, type OsUser } from './os-user.ts'
import { isPostmaster, type PostmasterIdentity, sendSignal } from './processes.ts'
import { PORT } from './settings.ts'
import { readSmallFile } from './small-file.ts'

/** The content of `postmaster.pid`, which stays when the postmaster is killed. */
export type LockFile = { readonly pid: number; readonly socketFolder: string }

// SIGINT rolls transactions back and writes a checkpoint; SIGQUIT leaves both to the next recovery.
const STOP_STEPS: readonly [NodeJS.Signals, milliseconds: number][] = [
  ['SIGINT', 20_000],
  ['SIGQUIT', 7_000],
  ['SIGKILL', 2_000],
]
const STOP_POLL_MILLISECONDS = 10
// `LOG` lines are routine, except when a server process crashed.
const PROBLEM = /^(WARNING|ERROR|FATAL|PANIC):|^LOG: .*(terminated by signal|exited with exit code)/
const FAILURE = /^(ERROR|FATAL|PANIC):\s*(.*)/
// It refuses our connections while it starts, which explains nothing.
const REFUSAL = /^FATAL:\s*the database system is /

/**
 * Returns the lock file when the postmaster that it names is running. Postgres can write any pid there, so the process
 * must be a Postgres of the user in this cluster.
 */
export async function findRunningPostmaster(
  identity: PostmasterIdentity,
): Promise<LockFile | undefined> {
  const lock = await readLockFile(identity)
  return lock !== undefined && isPostmaster(lock.pid, identity) ? lock : undefined
}

/** Throws EmbeddedPostgresError while the Postgres of a former release, which ran as `nobody`, runs on the cluster. */
export async function assertNoFormerPostmaster(cluster: string): Promise<void> {
  const running = await findRunningPostmaster({ uid: NOBODY, cluster })
  if (running === undefined) return
  throw new EmbeddedPostgresError(
    `a Postgres of uid ${NOBODY} (pid ${running.pid}) still runs on ${cluster}; stop the rookery that started it, or run: kill -INT ${running.pid}`,
  )
}

async function readLockFile({ uid, cluster }: PostmasterIdentity): Promise<LockFile | undefined> {
  // pid, cluster, start time, port, socket folder, ...; a pid below 0 is not a postmaster's.
  const text = await readSmallFile(join(cluster, 'postmaster.pid'), [uid])
  const lines = text?.split('\n') ?? []
  const pid = Number(lines[0])
  return pid > 0 ? { pid, socketFolder: lines[4] ?? '' } : undefined
}

/**
 * Removes lock files whose pid is not a running Postgres. Postgres itself only checks that the pid exists,
 * and never starts when a zombie or another process has it. Postgres still checks the other protection of
 * the data: shared memory that old server processes use.
 */
export async function clearStaleLocks(
  identity: PostmasterIdentity,
  socketFolder: string,
): Promise<void> {
  for (const file of [
    join(identity.cluster, 'postmaster.pid'),
    join(socketFolder, `.s.PGSQL.${PORT}.lock`),
  ]) {
    const text = await readSmallFile(file, [identity.uid])
    if (text === undefined) continue
    const pid = Math.abs(Number.parseInt(text, 10))
    if (pid > 0 && !isPostmaster(pid, identity)) await rm(file, { force: true })
  }
}

/** A postmaster that this process started. */
export class Postmaster {
  /** Undefined when the process did not start. */
  readonly pid: number | undefined
  /** The last error message of Postgres, without its severity. */
  lastError = 'it ended without an error message'
  ended = false
  endedBySignal = false
  #log: Log | undefined

  constructor(osUser: OsUser, binary: string, serverArguments: readonly string[], cwd: string) {
    const { command, args, options } = commandAs(osUser, binary, serverArguments, cwd)
    const child = spawn(command, args, {
      ...options,
      // A process group of its own, because Ctrl-C is for us, and we stop Postgres last.
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    this.pid = child.pid
    child.once('error', (error) => {
      this.lastError = error.message
      this.ended = true
    })
    child.once('close', (_code, by) => {
      this.ended = true
      this.endedBySignal = by !== null
    })
    if (child.stderr === null) return
    createInterface({ input: child.stderr }).on('line', (line) => this.#readLine(line))
  }

  /** Logs error messages from now on. Until then they only explain why a start failed. */
  startLogging(log: Log): void {
    this.#log = log
  }

  stopLogging(): void {
    this.#log = undefined
  }

  #readLine(line: string): void {
    if (REFUSAL.test(line)) return
    this.lastError =
      FAILURE.exec(line)?.[2] ?? (FAILURE.test(this.lastError) ? line : this.lastError)
    if (PROBLEM.test(line)) this.#log?.warn({ line }, 'Postgres reports a problem')
  }
}

/** Stops a postmaster, even one that another process started. Returns false when it still runs. */
export async function stopPostmaster(pid: number, identity: PostmasterIdentity): Promise<boolean> {
  for (const [name, milliseconds] of STOP_STEPS) {
    if (!isPostmaster(pid, identity) || !sendSignal(pid, name)) return true
    const deadline = Date.now() + milliseconds
    while (Date.now() < deadline) {
      if (!isPostmaster(pid, identity)) return true
      await delay(STOP_POLL_MILLISECONDS)
    }
  }
  return false
}

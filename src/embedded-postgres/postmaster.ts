import { spawn } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { errnoOf } from '../async/errno.ts'
import type { Log } from './log.ts'
import { commandAs, type OsUser } from './os-user.ts'
import { isPostgres, sendSignal } from './processes.ts'
import { PORT } from './settings.ts'

/** What a postmaster writes into `postmaster.pid`, and what stays there when it is killed. */
export type LockFile = { readonly pid: number; readonly socketFolder: string }

// SIGINT rolls transactions back and writes a checkpoint, SIGQUIT leaves all to the next recovery.
const STOP_STEPS: readonly [NodeJS.Signals, milliseconds: number][] = [
  ['SIGINT', 20_000],
  ['SIGQUIT', 7_000],
  ['SIGKILL', 2_000],
]
const STOP_POLL_MILLISECONDS = 10
// `LOG` is chatter, except when a server process broke.
const TROUBLE = /^(WARNING|ERROR|FATAL|PANIC):|^LOG: .*(terminated by signal|exited with exit code)/
const FAILURE = /^(ERROR|FATAL|PANIC):\s*(.*)/

/** Who says to run the cluster, or undefined when nobody does. */
export async function readLockFile(cluster: string): Promise<LockFile | undefined> {
  try {
    // pid, cluster, start time, port, socket folder, ...; a pid below 0 is not a postmaster's.
    const lines = (await readFile(join(cluster, 'postmaster.pid'), 'utf8')).split('\n')
    const pid = Number(lines[0])
    return pid > 0 ? { pid, socketFolder: lines[4] ?? '' } : undefined
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

/** What the lock file says, when the postmaster that wrote it lives. */
export async function findRunningPostmaster(cluster: string): Promise<LockFile | undefined> {
  const lock = await readLockFile(cluster)
  return lock !== undefined && (await isPostgres(lock.pid)) ? lock : undefined
}

/**
 * Removes lock files whose pid is no Postgres any more. Postgres itself asks only whether the pid
 * lives, and gives up for ever when a zombie or another process has it. What else guards the data,
 * the shared memory that old server processes still hold, it goes on checking.
 */
export async function clearStaleLocks(cluster: string, socketFolder: string): Promise<void> {
  for (const file of [
    join(cluster, 'postmaster.pid'),
    join(socketFolder, `.s.PGSQL.${PORT}.lock`),
  ]) {
    const text = await readFile(file, 'utf8').catch((error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return undefined
      throw error
    })
    if (text === undefined) continue
    const pid = Math.abs(Number.parseInt(text, 10))
    if (pid > 0 && !(await isPostgres(pid))) await rm(file, { force: true })
  }
}

/** A postmaster that this process started. */
export class Postmaster {
  /** Undefined when it could not even be started. */
  readonly pid: number | undefined
  /** The last complaint of Postgres, without its severity. */
  lastError = 'it ended without a word'
  ended = false
  endedBySignal = false
  #log: Log | undefined

  constructor(identity: OsUser, binary: string, serverArguments: readonly string[]) {
    const { command, args, options } = commandAs(identity, binary, serverArguments)
    const child = spawn(command, args, {
      ...options,
      // A process group of its own: Ctrl-C is for us, and we stop Postgres last.
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
    createInterface({ input: child.stderr }).on('line', (line) => this.#hear(line))
  }

  /** From now on complaints are logged; before, they only explain why a start failed. */
  startLogging(log: Log): void {
    this.#log = log
  }

  stopLogging(): void {
    this.#log = undefined
  }

  #hear(line: string): void {
    this.lastError =
      FAILURE.exec(line)?.[2] ?? (FAILURE.test(this.lastError) ? line : this.lastError)
    if (TROUBLE.test(line)) this.#log?.warn({ line }, 'Postgres reports trouble')
  }
}

/** Stops a postmaster, also one of another parent. False when it is still there. */
export async function stopPostmaster(pid: number): Promise<boolean> {
  for (const [name, milliseconds] of STOP_STEPS) {
    if (!(await isPostgres(pid)) || !sendSignal(pid, name)) return true
    const deadline = Date.now() + milliseconds
    while (Date.now() < deadline) {
      if (!(await isPostgres(pid))) return true
      await delay(STOP_POLL_MILLISECONDS)
    }
  }
  return false
}

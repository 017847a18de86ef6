import { realpath } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { errnoOf } from '../async/errno.ts'
import { findBinaries } from './binaries.ts'
import { findDataMajor, prepareCluster, preparePostgresFolder } from './cluster.ts'
import { type ClusterPlan, connectOrStart, type RunningPostgres } from './connect-or-start.ts'
import { EmbeddedPostgresError, messageOf, OwnedByAnotherError } from './errors.ts'
import type { Log } from './log.ts'
import { chooseOsUser, withFolderAccess } from './os-user.ts'
import { createDatabase, LOCK_MILLISECONDS_MAX, takeOwnership } from './ownership.ts'
import { type Postmaster, stopPostmaster } from './postmaster.ts'
import { sendSignal } from './processes.ts'
import { CONNECTIONS_DEFAULT, DATABASE, PORT, USER } from './settings.ts'
import { chooseSocketFolder } from './socket.ts'

export { EmbeddedPostgresError } from './errors.ts'

export type EmbeddedPostgres = {
  /** What `pg` needs to connect: host is the socket folder. */
  readonly connection: { host: string; port: number; user: string; database: string }
  /** Stops the postmaster (SIGINT, fast) within a bounded time, also one that was adopted. */
  stop(): Promise<void>
}

export type EmbeddedOptions = {
  /** `<data>/postgres`; created when missing. */
  folder: string
  log: Log
  /** Most connections that the owner opens; commands find room beside them. */
  connectionsMax?: number
  /** Called once when Postgres is gone for good, or another rookery took the folder. */
  onLost(error: Error): void
}

const RESTARTS_MAX = 5
const RESTART_WINDOW_MILLISECONDS = 60_000
const RESTART_AGAIN_MILLISECONDS = 500

/** Throws EmbeddedPostgresError for what an operator can mend; then nothing that we started runs. */
export function startEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  return withAdvice(options, async (supervisor) => {
    await supervisor.start()
    return supervisor
  })
}

/**
 * The Postgres of a rookery that is running, or one that runs until `stop`: for commands that work
 * beside a server or without one. Throws EmbeddedPostgresError.
 */
export function connectToEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  return withAdvice(options, async (supervisor) => {
    try {
      // Whoever owns it is to go on owning it: there is nothing to wait for.
      await supervisor.start(0)
      return supervisor
    } catch (error) {
      if (!(error instanceof OwnedByAnotherError)) throw error
      return { connection: supervisor.connection, stop: async () => {} }
    }
  })
}

async function withAdvice(
  options: EmbeddedOptions,
  work: (supervisor: Supervisor) => Promise<EmbeddedPostgres>,
): Promise<EmbeddedPostgres> {
  const { connectionsMax = CONNECTIONS_DEFAULT } = options
  const folder = resolve(options.folder)
  try {
    return await work(new Supervisor(await makePlan(folder, connectionsMax), options))
  } catch (cause) {
    // What a system call refuses (no space, no permission) is for an operator to mend, too.
    if (cause instanceof EmbeddedPostgresError || errnoOf(cause) === undefined) throw cause
    throw new EmbeddedPostgresError(
      `cannot run Postgres in ${folder} (${messageOf(cause)}); mend that, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
      { cause },
    )
  }
}

async function makePlan(path: string, connectionsMax: number): Promise<ClusterPlan> {
  const nobody = chooseOsUser()
  await preparePostgresFolder(path, nobody)
  const folder = await realpath(path)
  const cluster = join(folder, 'cluster')
  const identity = await withFolderAccess(nobody, folder)
  const binaries = await findBinaries(folder, identity, await findDataMajor(cluster))
  await prepareCluster(cluster, binaries, identity)
  const socketFolder = await chooseSocketFolder(folder, cluster, identity)
  return { cluster, socketFolder, binaries, identity, connectionsMax }
}

/**
 * Keeps a postmaster running. One connection holds the lock that makes us the folder's owner, and
 * it ends with every fault that matters: the postmaster's death, a server crash, a lost lock.
 */
class Supervisor implements EmbeddedPostgres {
  readonly connection: EmbeddedPostgres['connection']
  readonly #plan: ClusterPlan
  readonly #log: Log
  readonly #onLost: (error: Error) => void
  readonly #stopping = new AbortController()
  #owned: RunningPostgres | undefined
  #postmaster: Postmaster | undefined
  #restarts: number[] = []
  #restarting: Promise<void> | undefined
  #stopped: Promise<void> | undefined

  constructor(plan: ClusterPlan, options: EmbeddedOptions) {
    this.connection = { host: plan.socketFolder, port: PORT, user: USER, database: DATABASE }
    this.#plan = plan
    this.#log = options.log
    this.#onLost = options.onLost
  }

  /** For so long an owner that was killed may seem to live. */
  async start(patienceMilliseconds = LOCK_MILLISECONDS_MAX): Promise<void> {
    await this.#own(patienceMilliseconds)
    process.once('exit', this.#leave)
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #own(patienceMilliseconds = LOCK_MILLISECONDS_MAX): Promise<void> {
    const running = await connectOrStart(this.#plan, this.#log, this.#stopping.signal)
    try {
      const { signal: stopping } = this.#stopping
      await takeOwnership(running.client, this.#plan, stopping, patienceMilliseconds)
      await createDatabase(running.client)
    } catch (error) {
      await running.client.end()
      // An owner that was faster already works on what we started.
      if (running.spawned && !(error instanceof OwnedByAnotherError)) {
        await stopPostmaster(running.pid)
      }
      throw error
    }
    this.#owned = running
    this.#postmaster = running.spawned ?? this.#postmaster
    const { pid, spawned } = running
    const what = spawned ? 'started Postgres' : 'took over the Postgres that was still running'
    this.#log.info({ pid, cluster: this.#plan.cluster, major: this.#plan.binaries.major }, what)
    void running.ended.then(() => {
      this.#owned = undefined
      if (!this.#stopping.signal.aborted) this.#restarting = this.#bringBack()
    })
  }

  async #bringBack(): Promise<void> {
    this.#log.warn({}, 'lost the connection that owns Postgres; bringing it back')
    let last: unknown
    while (this.#mayRestart()) {
      try {
        await this.#own()
        return
      } catch (error) {
        if (this.#stopping.signal.aborted) return
        last = error
        if (error instanceof OwnedByAnotherError) break
        this.#log.warn({ error: messageOf(error) }, 'Postgres did not come back; trying again')
        await delay(RESTART_AGAIN_MILLISECONDS)
      }
    }
    const why = last === undefined ? `it was lost more than ${RESTARTS_MAX} times` : messageOf(last)
    const lost = new EmbeddedPostgresError(`Postgres is gone for good: ${why}`, { cause: last })
    this.#log.error({ error: lost.message }, 'gave up on Postgres')
    this.#onLost(lost)
  }

  #mayRestart(): boolean {
    const since = Date.now() - RESTART_WINDOW_MILLISECONDS
    this.#restarts = this.#restarts.filter((time) => time > since)
    return this.#restarts.push(Date.now()) <= RESTARTS_MAX
  }

  async #stop(): Promise<void> {
    this.#stopping.abort()
    await this.#restarting
    process.off('exit', this.#leave)
    this.#postmaster?.stopLogging()
    const owned = this.#owned
    if (owned === undefined) return
    // Still the owner while it stops, so nobody takes over a postmaster that is about to end.
    const gone = await stopPostmaster(owned.pid)
    await owned.client.end()
    if (!gone) this.#log.error({ pid: owned.pid }, 'Postgres does not stop')
  }

  /** At `process.exit` there is time for one signal. */
  readonly #leave = (): void => {
    if (this.#owned !== undefined) sendSignal(this.#owned.pid, 'SIGINT')
  }
}

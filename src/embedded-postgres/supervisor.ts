import { dirname, join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { errnoOf } from '../async/errno.ts'
import { type Binaries, findBinaries } from './binaries.ts'
import { completeUpgrade, dataArgument, findDataMajor, prepareCluster } from './cluster.ts'
import {
  type ClusterPlan,
  connectOrStart,
  identityOf,
  type RunningPostgres,
} from './connect-or-start.ts'
import { EmbeddedPostgresError, isTemporary, messageOf, OwnedByAnotherError } from './errors.ts'
import { preparePostgresFolder } from './folder.ts'
import type { Log } from './log.ts'
import { LOCK_MILLISECONDS_MAX, takeOwnership } from './ownership.ts'
import { type Postmaster, stopPostmaster } from './postmaster.ts'
import { isPostmaster, sendSignal } from './processes.ts'
import { prepareDatabase } from './roles.ts'
import { prepareRuntime, removeRuntime } from './runtime.ts'
import { CONNECTIONS_DEFAULT, DATABASE, PORT, USER } from './settings.ts'

export { EmbeddedPostgresError } from './errors.ts'

export type EmbeddedPostgres = {
  /** Connection options of `pg`: host is the socket folder. */
  readonly connection: { host: string; port: number; user: string; database: string }
  /** Stops the postmaster (SIGINT, fast shutdown) within a bounded time, even one that was taken over. */
  stop(): Promise<void>
}

export type EmbeddedOptions = {
  /** `<data>/postgres`; created when missing. */
  folder: string
  log: Log
  /** Maximum connections of the owner; commands have their own. */
  connectionsMax?: number
  /** The binaries to run; those of the package or the system when they are left out. */
  binaries?: Binaries
  /** Called once when Postgres failed for good, or another rookery owns the folder. */
  onLost(error: Error): void
}

/** Attempts after a failure that only an operator can end. */
const ATTEMPTS_MAX = 5
/** A full disk, and others that end by themselves, are waited for during this time. */
const TEMPORARY_MILLISECONDS_MAX = 24 * 3_600_000
/** The pause after a failed attempt doubles between these. */
const PAUSE_MILLISECONDS_MIN = 500
const PAUSE_MILLISECONDS_MAX = 10_000
/** A Postgres that is lost more often in this time is started with the longest pause. */
const LOSSES_MAX = 5
const LOSSES_MILLISECONDS = 60_000

/** Starts Postgres. Throws EmbeddedPostgresError for a failure that an operator can fix; then Postgres does not run. */
export function startEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  return withAdvice(options, true, async (supervisor) => {
    await supervisor.start()
    return supervisor
  })
}

/**
 * Connects to the Postgres of a running rookery, or starts one until `stop`: for commands that run with or
 * without a server. Throws EmbeddedPostgresError.
 */
export function connectToEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  return withAdvice(options, false, async (supervisor) => {
    try {
      // No wait: the owner of a running Postgres keeps it.
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
  mayAdopt: boolean,
  work: (supervisor: Supervisor) => Promise<EmbeddedPostgres>,
): Promise<EmbeddedPostgres> {
  const { connectionsMax = CONNECTIONS_DEFAULT } = options
  const folder = resolve(options.folder)
  try {
    const plan = await makePlan(folder, connectionsMax, mayAdopt, options.binaries)
    return await work(new Supervisor(plan, options))
  } catch (cause) {
    // An operator can fix failed system calls, too (no space, no permission).
    if (cause instanceof EmbeddedPostgresError || errnoOf(cause) === undefined) throw cause
    throw new EmbeddedPostgresError(
      `cannot run Postgres in ${folder} (${messageOf(cause)}); fix that, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
      { cause },
    )
  }
}

async function makePlan(
  path: string,
  connectionsMax: number,
  mayAdopt: boolean,
  given: Binaries | undefined,
): Promise<ClusterPlan> {
  const { folder, osUser } = await preparePostgresFolder(path, mayAdopt)
  const cluster = join(folder, 'cluster')
  await completeUpgrade(folder)
  const dataMajor = await findDataMajor(cluster, osUser)
  const binaries = given ?? (await findBinaries(folder, osUser, dataMajor))
  await prepareCluster(cluster, binaries, osUser)
  const data = await dataArgument(cluster, osUser)
  const runtime = await prepareRuntime(folder, cluster, osUser)
  return { cluster, data, runtime, binaries, osUser, connectionsMax }
}

/**
 * Keeps a postmaster running. One connection has the lock that makes us the owner of the folder. Every
 * relevant failure ends this connection: the end of the postmaster, a server crash, a lost lock.
 */
class Supervisor implements EmbeddedPostgres {
  readonly connection: EmbeddedPostgres['connection']
  readonly #plan: ClusterPlan
  readonly #log: Log
  readonly #onLost: (error: Error) => void
  readonly #stopping = new AbortController()
  #owned: RunningPostgres | undefined
  #postmaster: Postmaster | undefined
  #losses: number[] = []
  #restarting: Promise<void> | undefined
  #stopped: Promise<void> | undefined

  constructor(plan: ClusterPlan, options: EmbeddedOptions) {
    this.connection = {
      host: plan.runtime.socketFolder,
      port: PORT,
      user: USER,
      database: DATABASE,
    }
    this.#plan = plan
    this.#log = options.log
    this.#onLost = options.onLost
  }

  /** Waits for the lock, because Postgres needs a moment to notice that a killed owner is gone. */
  async start(waitMilliseconds = LOCK_MILLISECONDS_MAX): Promise<void> {
    await this.#own(waitMilliseconds)
    process.once('exit', this.#leave)
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #own(waitMilliseconds = LOCK_MILLISECONDS_MAX): Promise<void> {
    const running = await connectOrStart(this.#plan, this.#log, this.#stopping.signal)
    try {
      const { signal: stopping } = this.#stopping
      await takeOwnership(running.client, this.#plan, stopping, waitMilliseconds)
      if (running.hbaFile !== this.#plan.runtime.hbaFile) {
        return await this.#replace(running, waitMilliseconds)
      }
      await prepareDatabase(running.client)
    } catch (error) {
      await running.client.end()
      // A faster owner already uses the Postgres that we started.
      if (running.spawned && !(error instanceof OwnedByAnotherError)) {
        await this.#stopPostmaster(running.pid)
      }
      throw error
    }
    this.#owned = running
    this.#postmaster = running.spawned ?? this.#postmaster
    const { pid, spawned } = running
    const message = spawned ? 'started Postgres' : 'took over the Postgres that was still running'
    this.#log.info({ pid, cluster: this.#plan.cluster, major: this.#plan.binaries.major }, message)
    void running.ended.then(() => {
      this.#owned = undefined
      if (!this.#stopping.signal.aborted) this.#restarting = this.#restart()
    })
  }

  /** Stops a postmaster with the access rules of a former release, and starts ours. */
  async #replace({ client, pid }: RunningPostgres, waitMilliseconds: number): Promise<void> {
    await this.#stopPostmaster(pid)
    await client.end()
    await this.#own(waitMilliseconds)
  }

  #stopPostmaster(pid: number): Promise<boolean> {
    return stopPostmaster(pid, identityOf(this.#plan))
  }

  /** Starts Postgres again, in attempts with growing pauses, until it runs or only an operator can help. */
  async #restart(): Promise<void> {
    this.#log.warn({}, 'lost the connection that owns Postgres; restarting')
    const { signal } = this.#stopping
    const endsAt = performance.now() + TEMPORARY_MILLISECONDS_MAX
    let pause = PAUSE_MILLISECONDS_MIN
    let failures = 0
    try {
      if (this.#isLostOften()) await delay(PAUSE_MILLISECONDS_MAX, undefined, { signal })
      for (;;) {
        const error = await this.#failureToOwn()
        if (error === undefined) return
        signal.throwIfAborted()
        if (!isTemporary(error)) failures += 1
        const isLast = failures === ATTEMPTS_MAX || performance.now() > endsAt
        if (isLast || error instanceof OwnedByAnotherError) return this.#giveUp(error)
        this.#log.warn({ error: messageOf(error) }, 'Postgres did not restart; retrying')
        await delay(pause, undefined, { signal })
        pause = Math.min(2 * pause, PAUSE_MILLISECONDS_MAX)
      }
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }

  async #failureToOwn(): Promise<unknown> {
    try {
      await this.#own()
      return undefined
    } catch (error) {
      return error
    }
  }

  #giveUp(cause: unknown): void {
    const message = `Postgres failed for good: ${messageOf(cause)}`
    const lost = new EmbeddedPostgresError(message, { cause })
    this.#log.error({ error: lost.message }, 'gave up on Postgres')
    this.#onLost(lost)
  }

  #isLostOften(): boolean {
    const since = performance.now() - LOSSES_MILLISECONDS
    this.#losses = this.#losses.filter((time) => time > since)
    return this.#losses.push(performance.now()) > LOSSES_MAX
  }

  async #stop(): Promise<void> {
    this.#stopping.abort()
    await this.#restarting
    process.off('exit', this.#leave)
    this.#postmaster?.stopLogging()
    const owned = this.#owned
    if (owned === undefined) return
    const { cluster, runtime, osUser } = this.#plan
    let gone = false
    try {
      await removeRuntime(dirname(cluster), runtime, osUser)
    } finally {
      // Still the owner while it stops, so nobody takes over a postmaster that is ending.
      gone = await this.#stopPostmaster(owned.pid)
      await owned.client.end()
    }
    if (!gone) this.#log.error({ pid: owned.pid }, 'Postgres does not stop')
  }

  /** Sends one signal at `process.exit`, which leaves no time for more. */
  readonly #leave = (): void => {
    const pid = this.#owned?.pid
    if (pid !== undefined && isPostmaster(pid, identityOf(this.#plan))) sendSignal(pid, 'SIGINT')
  }
}

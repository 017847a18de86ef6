import { realpath } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { errnoOf } from '../async/errno.ts'
import type { Binaries } from './binaries.ts'
import { EmbeddedPostgresError, messageOf } from './errors.ts'
import type { Log } from './log.ts'
import type { OsUser } from './os-user.ts'
import { clearStaleLocks, Postmaster, readLockFile, stopPostmaster } from './postmaster.ts'
import { PORT, serverArguments, USER } from './settings.ts'

/** Everything that is decided before Postgres starts. */
export type ClusterPlan = {
  readonly cluster: string
  readonly socketFolder: string
  readonly binaries: Binaries
  readonly osUser: OsUser
  /** Connections of the owner, besides the connection that owns the cluster. */
  readonly connectionsMax: number
}

/** A postmaster that accepts connections. `spawned` is set when this call started it. */
export type RunningPostgres = {
  readonly client: pg.Client
  /** Resolves when the connection ends, for any reason. */
  readonly ended: Promise<void>
  readonly pid: number
  readonly spawned: Postmaster | undefined
}

/** Limit of retries while Postgres reports that a previous server has not ended yet. */
const REFUSED_MILLISECONDS_MAX = 10_000
/** Limit of the wait while Postgres replays its log; killing it would only restart the replay. */
const RECOVERY_MILLISECONDS_MAX = 300_000
const LOG_AFTER_MILLISECONDS = 2_000
const CONNECT_MILLISECONDS_MAX = 5_000
const QUERY_MILLISECONDS_MAX = 30_000
const POLL_MILLISECONDS = 10
const RESTART_MILLISECONDS = 150

const LOCKED = /lock file .* already exists/
const TRANSIENT = /lock file .* already exists|shared memory block .* is still in use|shutting down/
const RECOVERING = /starting up|recovery|not (yet )?accepting connections/

/** Connects to the postmaster that runs on the cluster, or starts one; and stops it on failure. */
export async function connectOrStart(
  plan: ClusterPlan,
  log: Log,
  signal: AbortSignal,
): Promise<RunningPostgres> {
  const startedAt = Date.now()
  const recoveredBy = startedAt + RECOVERY_MILLISECONDS_MAX
  let acceptedBy = startedAt + REFUSED_MILLISECONDS_MAX
  let spawned: Postmaster | undefined
  let refusal = 'it does not answer'
  let isLogged = false
  try {
    for (;;) {
      signal.throwIfAborted()
      const answer = await connect(plan)
      if ('client' in answer) {
        const pid = (await readLockFile(plan.cluster))?.pid
        if (pid !== undefined) {
          spawned?.startLogging(log)
          return { ...answer, pid, spawned: spawned?.pid === pid ? spawned : undefined }
        }
        // A postmaster removes its lock file last, so this one is about to end.
        await answer.client.end()
        continue
      }
      if (RECOVERING.test(answer.problem ?? '')) {
        acceptedBy = Math.min(Date.now() + REFUSED_MILLISECONDS_MAX, recoveredBy)
        if (!isLogged && Date.now() - startedAt > LOG_AFTER_MILLISECONDS) {
          isLogged = true
          log.info({}, 'Postgres replays its log after a crash; this may take minutes')
        }
      }
      if (spawned?.ended) {
        refusal = spawned.lastError
        if (!spawned.endedBySignal && !TRANSIENT.test(refusal)) throw startFailed(plan, refusal)
        spawned = undefined
        await delay(RESTART_MILLISECONDS, undefined, { signal })
      }
      if (Date.now() > acceptedBy) throw startFailed(plan, answer.problem ?? refusal)
      if (spawned === undefined && answer.problem === undefined) {
        if (LOCKED.test(refusal)) await clearStaleLocks(plan.cluster, plan.socketFolder)
        spawned = start(plan)
      }
      await delay(POLL_MILLISECONDS, undefined, { signal })
    }
  } catch (error) {
    if (spawned?.pid !== undefined) await stopPostmaster(spawned.pid)
    throw error
  }
}

function start({
  cluster,
  socketFolder,
  binaries,
  osUser,
  connectionsMax,
}: ClusterPlan): Postmaster {
  const args = serverArguments(cluster, socketFolder, binaries.major, connectionsMax)
  return new Postmaster(osUser, binaries.postgres, args)
}

/** A connection, or the server's error message; undefined when nothing listens. */
type Answer = Pick<RunningPostgres, 'client' | 'ended'> | { readonly problem: string | undefined }

async function connect(plan: ClusterPlan): Promise<Answer> {
  const client = new pg.Client({
    host: plan.socketFolder,
    port: PORT,
    user: USER,
    // Every cluster has this database, and session locks belong to one database.
    database: 'postgres',
    application_name: `rookery ${process.pid}`,
    connectionTimeoutMillis: CONNECT_MILLISECONDS_MAX,
    query_timeout: QUERY_MILLISECONDS_MAX,
    ssl: false,
  })
  // A broken connection resolves `ended`.
  client.on('error', () => {})
  const ended = new Promise<void>((resolve) => client.once('end', resolve))
  try {
    await client.connect()
    const sql = `select current_setting('data_directory') as cluster`
    const { rows } = await client.query<{ cluster: string }>(sql)
    const served = rows[0]?.cluster ?? ''
    if ((await realpath(served).catch(() => served)) === plan.cluster) return { client, ended }
    throw startFailed(plan, `the Postgres on ${plan.socketFolder} serves ${served}`)
  } catch (error) {
    void client.end().catch(() => {})
    if (error instanceof EmbeddedPostgresError) throw error
    // Nothing listens, as expected before the first attempt.
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ECONNREFUSED')
      return { problem: undefined }
    return { problem: messageOf(error) }
  }
}

function startFailed(plan: ClusterPlan, problem: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `Postgres does not start on ${plan.cluster}: ${problem.trim()}; fix that, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
  )
}

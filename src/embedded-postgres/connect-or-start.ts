import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { errnoOf } from '../async/errno.ts'
import type { Binaries } from './binaries.ts'
import { EmbeddedPostgresError, messageOf } from './errors.ts'
import type { Log } from './log.ts'
import type { OsUser } from './os-user.ts'
import { clearStaleLocks, findRunningPostmaster, Postmaster, stopPostmaster } from './postmaster.ts'
import type { PostmasterIdentity } from './processes.ts'
import { makeSuperuser } from './roles.ts'
import { prepareRuntime } from './runtime.ts'
import { PORT, type RuntimeFiles, SUPERUSER, serverArguments } from './settings.ts'

/** Everything that is decided before Postgres starts. */
export type ClusterPlan = {
  readonly cluster: string
  /** The cluster as Postgres names it. */
  readonly data: string
  readonly runtime: RuntimeFiles
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
  /** The access rules that it reads; those of a former release differ. */
  readonly hbaFile: string
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
// A former server has not ended yet, or the rookery that stops it has just removed the folder of the socket.
const TRANSIENT =
  /lock file .* already exists|shared memory block .* is still in use|shutting down|(lock|configuration) file .*: No such file|could not load .*pg_hba\.conf/
// A cluster of a former release.
const NO_SUPERUSER = /role "rookery_supervisor" does not exist/
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
        const pid = (await findRunningPostmaster(identityOf(plan)))?.pid
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
        // A rookery that stopped has removed the folder of its socket.
        await prepareRuntime(dirname(plan.cluster), plan.cluster, plan.osUser)
      }
      if (Date.now() > acceptedBy) throw startFailed(plan, answer.problem ?? refusal)
      if (spawned === undefined && answer.problem === undefined) {
        if (LOCKED.test(refusal)) {
          await clearStaleLocks(identityOf(plan), plan.runtime.socketFolder)
        }
        spawned = start(plan)
      }
      await delay(POLL_MILLISECONDS, undefined, { signal })
    }
  } catch (error) {
    if (spawned?.pid !== undefined) await stopPostmaster(spawned.pid, identityOf(plan))
    throw error
  }
}

/** How the postmaster of a plan is recognized. */
export function identityOf({ cluster, osUser }: ClusterPlan): PostmasterIdentity {
  return { uid: osUser.uid, cluster }
}

function start({
  cluster,
  data,
  runtime,
  binaries,
  osUser,
  connectionsMax,
}: ClusterPlan): Postmaster {
  const args = serverArguments(data, runtime, binaries.major, connectionsMax)
  return new Postmaster(osUser, binaries.postgres, args, cluster)
}

/** A connection, or the server's error message; undefined when nothing listens. */
type Answer =
  | Pick<RunningPostgres, 'client' | 'ended' | 'hbaFile'>
  | { readonly problem: string | undefined }

async function connect(plan: ClusterPlan): Promise<Answer> {
  const client = new pg.Client({
    host: plan.runtime.socketFolder,
    port: PORT,
    user: SUPERUSER,
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
    const sql = `select current_setting('data_directory') as data, current_setting('hba_file') as "hbaFile"`
    const { rows } = await client.query<{ data: string; hbaFile: string }>(sql)
    const { data = '', hbaFile = '' } = rows[0] ?? {}
    if (data === plan.data) return { client, ended, hbaFile }
    throw startFailed(plan, `the Postgres on ${plan.runtime.socketFolder} serves ${data}`)
  } catch (error) {
    void client.end().catch(() => {})
    if (error instanceof EmbeddedPostgresError) throw error
    // Nothing listens, as expected before the first attempt.
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ECONNREFUSED')
      return { problem: undefined }
    if (NO_SUPERUSER.test(messageOf(error))) await makeSuperuser(plan.runtime.socketFolder)
    return { problem: messageOf(error) }
  }
}

function startFailed(plan: ClusterPlan, problem: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `Postgres does not start on ${plan.cluster}: ${problem.trim()}; fix that, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
  )
}

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

/** All that is settled before Postgres is asked for anything. */
export type ClusterPlan = {
  readonly cluster: string
  readonly socketFolder: string
  readonly binaries: Binaries
  readonly identity: OsUser
  /** What its owner opens beside the connection that owns it. */
  readonly connectionsMax: number
}

/** A postmaster that answers. `spawned` only when this call started it. */
export type RunningPostgres = {
  readonly client: pg.Client
  /** Resolves when the connection is gone, for whatever reason. */
  readonly ended: Promise<void>
  readonly pid: number
  readonly spawned: Postmaster | undefined
}

/** So long we try again when Postgres says that what was there before is not gone yet. */
const REFUSED_MILLISECONDS_MAX = 10_000
/** So long we wait while it replays its log; to kill it then would only begin it anew. */
const RECOVERY_MILLISECONDS_MAX = 300_000
const TELL_AFTER_MILLISECONDS = 2_000
const CONNECT_MILLISECONDS_MAX = 5_000
const QUERY_MILLISECONDS_MAX = 30_000
const POLL_MILLISECONDS = 10
const AGAIN_MILLISECONDS = 150

const LOCKED = /lock file .* already exists/
const PASSES = /lock file .* already exists|shared memory block .* is still in use|shutting down/
const RECOVERS = /starting up|recovery|not (yet )?accepting connections/

/** Connects to the postmaster that runs on the cluster, or starts one; and stops it on failure. */
export async function connectOrStart(
  plan: ClusterPlan,
  log: Log,
  signal: AbortSignal,
): Promise<RunningPostgres> {
  const begun = Date.now()
  const recoveredBy = begun + RECOVERY_MILLISECONDS_MAX
  let acceptedBy = begun + REFUSED_MILLISECONDS_MAX
  let spawned: Postmaster | undefined
  let refusal = 'it does not answer'
  let told = false
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
        // A postmaster removes its lock file last of all, so this one is about to end.
        await answer.client.end()
        continue
      }
      if (RECOVERS.test(answer.problem ?? '')) {
        acceptedBy = Math.min(Date.now() + REFUSED_MILLISECONDS_MAX, recoveredBy)
        if (!told && Date.now() - begun > TELL_AFTER_MILLISECONDS) {
          told = true
          log.info({}, 'Postgres replays its log after a crash; this may take minutes')
        }
      }
      if (spawned?.ended) {
        refusal = spawned.lastError
        if (!spawned.endedBySignal && !PASSES.test(refusal)) throw failed(plan, refusal)
        spawned = undefined
        await delay(AGAIN_MILLISECONDS, undefined, { signal })
      }
      if (Date.now() > acceptedBy) throw failed(plan, answer.problem ?? refusal)
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
  identity,
  connectionsMax,
}: ClusterPlan): Postmaster {
  const args = serverArguments(cluster, socketFolder, binaries.major, connectionsMax)
  return new Postmaster(identity, binaries.postgres, args)
}

/** A connection; or what the server said, undefined when nobody listens. */
type Answer = Pick<RunningPostgres, 'client' | 'ended'> | { readonly problem: string | undefined }

async function connect(plan: ClusterPlan): Promise<Answer> {
  const client = new pg.Client({
    host: plan.socketFolder,
    port: PORT,
    user: USER,
    // Every cluster has this one, and session locks count for one database only.
    database: 'postgres',
    application_name: `rookery ${process.pid}`,
    connectionTimeoutMillis: CONNECT_MILLISECONDS_MAX,
    query_timeout: QUERY_MILLISECONDS_MAX,
    ssl: false,
  })
  // What breaks shows in `ended`.
  client.on('error', () => {})
  const ended = new Promise<void>((resolve) => client.once('end', resolve))
  try {
    await client.connect()
    const sql = `select current_setting('data_directory') as cluster`
    const { rows } = await client.query<{ cluster: string }>(sql)
    const served = rows[0]?.cluster ?? ''
    if ((await realpath(served).catch(() => served)) === plan.cluster) return { client, ended }
    throw failed(plan, `the one that answers on ${plan.socketFolder} serves ${served}`)
  } catch (error) {
    void client.end().catch(() => {})
    if (error instanceof EmbeddedPostgresError) throw error
    // Nobody listens: that is what one expects before the first try.
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ECONNREFUSED')
      return { problem: undefined }
    return { problem: messageOf(error) }
  }
}

function failed(plan: ClusterPlan, problem: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `Postgres does not start on ${plan.cluster}: ${problem.trim()}; mend that, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
  )
}

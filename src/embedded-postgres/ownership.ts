import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import type { ClusterPlan } from './connect-or-start.ts'
import { OwnedByAnotherError } from './errors.ts'

/** Key of the advisory lock of the folder's owner: "rook" and "ery" in ASCII. */
const LOCK_CLASS = 0x726f6f6b
const LOCK_OBJECT = 0x657279
/** Postgres may need this long to notice that the connection of a killed owner is gone. */
export const LOCK_MILLISECONDS_MAX = 2_000
const LOCK_POLL_MILLISECONDS = 50

/**
 * Makes this connection the owner of the folder until it closes. Throws OwnedByAnotherError when another
 * connection owns the folder for longer than `waitMilliseconds`.
 */
export async function takeOwnership(
  client: pg.Client,
  plan: ClusterPlan,
  signal: AbortSignal,
  waitMilliseconds: number,
): Promise<void> {
  const deadline = Date.now() + waitMilliseconds
  while (!(await tryLock(client))) {
    if (Date.now() >= deadline) throw await ownedByAnother(client, plan)
    await delay(LOCK_POLL_MILLISECONDS, undefined, { signal })
  }
}

async function tryLock(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ locked: boolean }>(
    'select pg_try_advisory_lock($1, $2) as locked',
    [LOCK_CLASS, LOCK_OBJECT],
  )
  return rows[0]?.locked === true
}

async function ownedByAnother(client: pg.Client, plan: ClusterPlan): Promise<OwnedByAnotherError> {
  const { rows } = await client.query<{ name: string }>(
    `select a.application_name as name
       from pg_locks l
       join pg_stat_activity a on a.pid = l.pid
      where l.locktype = 'advisory' and l.classid = $1 and l.objid = $2 and l.granted`,
    [LOCK_CLASS, LOCK_OBJECT],
  )
  const pid = /^rookery (\d+)$/.exec(rows[0]?.name ?? '')?.[1] ?? 'unknown'
  return new OwnedByAnotherError(
    `another rookery (pid ${pid}) is already running on ${dirname(plan.cluster)}; stop it, or give this one its own ROOKERY_DATA_DIR`,
  )
}

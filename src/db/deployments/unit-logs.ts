import type { Digest } from '../../oci/digest.ts'
import type { Queryable, Transaction } from '../database.ts'

/** Bytes that are kept of one unit, without its last lines. */
const KEPT_BYTES_MAX = 240 * 1024

/** Lines that a kernel printed, as one report sent them. */
export type NewUnitLog = {
  readonly hostId: number
  readonly unit: string
  readonly deployment: string | null
  readonly kernel: Digest | null
  readonly text: string
}

/** The class of advisory locks of the logs of deployments. */
const LOGS_LOCK = 7

/** Adds lines to the log of a unit, and removes its oldest ones. Its shared lock is for `findLastLog`. */
export async function addUnitLog(tx: Transaction, log: NewUnitLog): Promise<void> {
  await tx.query(
    `with held as materialized (
       select pg_advisory_xact_lock_shared(${LOGS_LOCK}, hashtext($3::uuid::text))
     ), old as (
       delete from unit_logs
        where id in (
          select kept.id
            from (
              select l.id, sum(octet_length(l.text)) over (order by l.id desc) as bytes
                from unit_logs l
               where l.host_id = $1
                 and l.unit = $2
            ) kept
           where kept.bytes > ${KEPT_BYTES_MAX}
        )
     )
     insert into unit_logs (host_id, unit, deployment_id, kernel, text)
     select $1, $2, $3, $4, $5
       from held`,
    [log.hostId, log.unit, log.deployment, log.kernel, log.text],
  )
}

/** True when the kernels of a deployment printed anything after the entry `after`. */
export async function hasLogs(db: Queryable, deployment: string, after: number): Promise<boolean> {
  const { rows } = await db.query<{ id: number }>(
    `select id
       from unit_logs
      where deployment_id = $1
        and id > $2
      limit 1`,
    [deployment, after],
  )
  return rows.length > 0
}

/**
 * Finds the last entry of a deployment, 0 without any. Waits for reports that are being stored: each later entry has a greater
 * id, so that a reader who continues after this one misses none.
 */
export async function findLastLog(tx: Transaction, deployment: string): Promise<number> {
  await tx.query('select pg_advisory_xact_lock($1, hashtext($2))', [LOGS_LOCK, deployment])
  const { rows } = await tx.query<{ last: number }>(
    `select coalesce(max(id), 0) as last
       from unit_logs
      where deployment_id = $1`,
    [deployment],
  )
  return rows[0]?.last ?? 0
}

/** Removes lines of more than `days` days, at most `limit`. Returns how many were removed. */
export async function removeOldUnitLogs(
  db: Queryable,
  days: number,
  limit: number,
): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    `delete from unit_logs
      where id in (
        select id
          from unit_logs
         where at < now() - make_interval(days => $1)
         order by at
         limit $2
      )
     returning id`,
    [days, limit],
  )
  return rows.length
}

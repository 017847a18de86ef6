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

/** Adds lines to the log of a unit, and removes its oldest ones. */
export async function addUnitLog(tx: Transaction, log: NewUnitLog): Promise<void> {
  await tx.query(
    `with old as (
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
     values ($1, $2, $3, $4, $5)`,
    [log.hostId, log.unit, log.deployment, log.kernel, log.text],
  )
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

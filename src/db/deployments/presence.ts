import type { Queryable, Transaction } from '../database.ts'
import { TARGET_IS_OPEN } from './targets.ts'

/** A host whose presence changed. */
export type PresenceChange = {
  readonly id: number
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  /** The time of its last request before it was lost. */
  readonly seenAt: Date | null
}

/**
 * Records that hosts sent a request, at most once in `everySeconds` for each, in one statement. Returns those that were lost
 * before.
 */
export async function recordSeen(
  tx: Transaction,
  hostIds: readonly number[],
  everySeconds: number,
): Promise<PresenceChange[]> {
  // In the order of ids, so that two processes wait for each other instead of deadlocking.
  const { rows } = await tx.query<PresenceChange & { isLost: boolean }>(
    `with seen as materialized (
       select h.id, h.name, h.labels, h.seen_at, h.lost_at
         from hosts h
        where h.id = any($1::bigint[])
          and h.state = 'active'
          and (h.seen_at is null or h.lost_at is not null
               or h.seen_at < now() - make_interval(secs => $2)
               -- The clock of the database was ahead.
               or h.seen_at > now())
        order by h.id
          for no key update
     ), updated as (
       update hosts h
          set seen_at = now(),
              lost_at = null
         from seen
        where h.id = seen.id
     )
     select id, name, labels, seen_at as "seenAt", lost_at is not null as "isLost"
       from seen`,
    [hostIds, everySeconds],
  )
  return rows.filter(({ isLost }) => isLost)
}

/** Marks hosts as lost that sent no request for `seconds`, at most `limit`, and returns them. */
export async function markLost(
  tx: Transaction,
  seconds: number,
  limit: number,
): Promise<PresenceChange[]> {
  const { rows } = await tx.query<PresenceChange>(
    `with lost as materialized (
       select h.id
         from hosts h
        where h.state = 'active'
          and h.lost_at is null
          and h.seen_at < now() - make_interval(secs => $1)
        order by h.seen_at
        limit $2
          for no key update skip locked
     )
     update hosts h
        set lost_at = now()
       from lost
      where h.id = lost.id
     returning h.id, h.name, h.labels, h.seen_at as "seenAt"`,
    [seconds, limit],
  )
  return rows
}

/** Lists the deployments in which these hosts have a target that is not over. */
export async function listOpenDeploymentsOf(
  db: Queryable,
  hostIds: readonly number[],
): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select distinct o.deployment_id as id
       from targets o
      where o.host_id = any($1::bigint[])
        and ${TARGET_IS_OPEN}`,
    [hostIds],
  )
  return rows.map(({ id }) => id)
}

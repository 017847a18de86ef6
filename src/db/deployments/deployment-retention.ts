import type { Queryable } from '../database.ts'

/** Lists deployments that ended more than `days` ago and are not among the `kept` newest of their tags, the oldest first. */
export async function listExpiredDeployments(
  db: Queryable,
  days: number,
  kept: number,
  limit: number,
): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select d.id
       from deployments d
      where d.finished_at < now() - make_interval(days => $1)
        and d.wake_at is null
        and d.number <= (
              select max(n.number)
                from deployments n
               where n.repository_id = d.repository_id
                 and n.tag = d.tag
            ) - $2
      order by d.finished_at, d.id
      limit $3`,
    [days, kept, limit],
  )
  return rows.map(({ id }) => id)
}

/** Removes up to `limit` targets of deployments. Returns their number. */
export async function removeTargets(
  db: Queryable,
  deployments: readonly string[],
  limit: number,
): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `with old as materialized (
       select deployment_id, host_id, unit
         from targets
        where deployment_id = any($1::uuid[])
        limit $2
     ), removed as (
       delete from targets t
        using old s
        where t.deployment_id = s.deployment_id
          and t.host_id = s.host_id
          and t.unit = s.unit
       returning t.unit
     )
     select count(*) as count
       from removed`,
    [deployments, limit],
  )
  return rows[0]?.count ?? 0
}

/** Removes deployments whose targets are removed. */
export async function removeDeployments(
  db: Queryable,
  deployments: readonly string[],
): Promise<void> {
  await db.query(
    `delete from deployments
      where id = any($1::uuid[])`,
    [deployments],
  )
}

import type { TargetState } from '../../deployments/states.ts'
import type { Transaction } from '../database.ts'
import type { LockedDeployment } from './deployments.ts'
import { RECORD_TARGETS, TARGET_IS_OPEN, type UnitKey } from './targets.ts'

/** Locks units in the order of hosts and names, so that two deployments wait for each other instead of deadlocking. */
export async function lockUnits(tx: Transaction, units: readonly UnitKey[]): Promise<void> {
  await tx.query(
    `select u.host_id
       from units u
       join unnest($1::bigint[], $2::text[]) as l (host_id, unit)
         on l.host_id = u.host_id and l.unit = u.name
      order by u.host_id, u.name
        for no key update of u`,
    [units.map(({ hostId }) => hostId), units.map(({ unit }) => unit)],
  )
}

// True when a newer deployment of the tag exists, for the deployment $1. In a statement after that of `lockUnits`, so
// that it sees what was committed before the locks.
const IS_SUPERSEDED = `exists (
          select 1
            from deployments d
            join deployments n on n.repository_id = d.repository_id and n.tag = d.tag and n.number > d.number
           where d.id = $1
        )`

/**
 * Grants the digest of a deployment to units that the transaction has locked: from the commit on, they should run it. A unit
 * that runs the kernel already, and was on the way to no other, is healthy at once. The target of an earlier deployment is skipped there. Returns the
 * granted targets with their states.
 */
export async function grantUnits(
  tx: Transaction,
  { id, repository, tag, digest, rollout }: LockedDeployment,
  units: readonly UnitKey[],
): Promise<(UnitKey & { readonly state: TargetState })[]> {
  const { rows } = await tx.query<UnitKey & { state: TargetState }>(
    `with wanted as materialized (
       -- The deployment as a column: Postgres expects few targets of a new deployment, and would compare each with each unit.
       select $1::uuid as deployment_id, w.host_id, w.unit,
              -- Its last grant has concluded: what it said before may not be true any more while it is at another kernel.
              case
                when u.granted_digest is not distinct from u.good_digest and u.state in ('healthy', 'rolled-back')
                then u.kernel end as runs
         from unnest($2::bigint[], $3::text[]) as w (host_id, unit)
        -- By their keys: Postgres would compare all units of the tag with each.
        cross join lateral (
          select repository, tag, state, kernel, granted_digest, good_digest
            from units
           where host_id = w.host_id
             and name = w.unit
          offset 0
        ) u
        where u.repository = $5
          and u.tag = $6
     ), granted as (
       update units u
          set granted_digest = $4,
              granted_by = $1,
              granted_at = clock_timestamp(),
              failed_digest = null,
              good_digest = case when t.state = 'waiting' and t.kernel = w.runs then $4 else u.good_digest end,
              earlier_good_digest = case
                when t.state = 'waiting' and t.kernel = w.runs and u.good_digest <> $4 then u.good_digest
                else u.earlier_good_digest end
         from wanted w
        -- By its key: with its state, Postgres would find it among all open targets of the deployment.
        cross join lateral (
          select state, kernel
            from targets
           where deployment_id = w.deployment_id
             and host_id = w.host_id
             and unit = w.unit
          offset 0
        ) t
        where t.state in ('waiting', 'offline')
          and u.host_id = w.host_id
          and u.name = w.unit
          and not ${IS_SUPERSEDED}
       returning w.deployment_id, u.host_id, u.name,
              coalesce(t.kernel = w.runs, false) as runs
     ), earlier as (
       select o.deployment_id, o.host_id, o.unit
         from granted g
        -- One probe for each unit: at rest no target is open, and Postgres would compare all that are now with each unit.
        cross join lateral (
          select o.deployment_id, o.host_id, o.unit
            from targets o
           where o.host_id = g.host_id
             and o.unit = g.name
             and o.deployment_id <> g.deployment_id
             and ${TARGET_IS_OPEN}
          offset 0
        ) o
     ), skipped as (
       update targets t
          set state = 'skipped',
              reason = 'superseded',
              changed_at = clock_timestamp(),
              ended_at = clock_timestamp()
         from earlier e
        where t.deployment_id = e.deployment_id
          and t.host_id = e.host_id
          and t.unit = e.unit
          -- Once more: another step may have ended it since. In other words than those of the index of open targets, which
          -- Postgres would read whole.
          and t.state not in ('healthy', 'failed', 'rolled-back', 'refused', 'skipped', 'overdue')
       returning t.*
     ), taken as (
     update targets t
        set granted_at = clock_timestamp(),
            changed_at = clock_timestamp(),
            state = case
              when t.state = 'offline' then 'offline'
              when g.runs then 'healthy'
              else 'granted' end,
            healthy_at = case when t.state <> 'offline' and g.runs then clock_timestamp() end,
            deadline_at = case
              when t.state <> 'offline' and not g.runs then
                clock_timestamp() + make_interval(secs => $7) end
       from granted g
      where t.deployment_id = g.deployment_id
        and t.host_id = g.host_id
        and t.unit = g.name
     returning t.*
     ), changed as (
       select * from taken where state <> 'offline'
        union all
       select * from skipped
     ), ${RECORD_TARGETS}
     select host_id as "hostId", unit, state
       from taken`,
    [
      ...[id, units.map(({ hostId }) => hostId), units.map(({ unit }) => unit)],
      ...[digest, repository, tag, rollout.deadlineSeconds],
    ],
  )
  return rows
}

/**
 * Takes the digest of a deployment back from units that the transaction has locked: they should run what was good there, or
 * else the digest of the newest deployment of the tag that succeeded.
 */
export async function withdrawGrants(
  tx: Transaction,
  { id, repositoryId, tag, digest }: LockedDeployment,
  units: readonly UnitKey[],
): Promise<void> {
  await tx.query(
    `with w as materialized (
       select host_id, unit
         from unnest($2::bigint[], $3::text[]) as w (host_id, unit)
     )
     update units u
        set granted_digest = coalesce(u.good_digest, (
              select s.digest
                from deployments s
               where s.repository_id = $4
                 and s.tag = $5
                 and s.state = 'succeeded'
                 and s.digest <> $6
               order by s.number desc
               limit 1
            )),
            granted_by = null,
            granted_at = clock_timestamp()
       from w
      where u.host_id = w.host_id
        and u.name = w.unit
        and u.granted_by = $1`,
    [
      ...[id, units.map(({ hostId }) => hostId), units.map(({ unit }) => unit)],
      ...[repositoryId, tag, digest],
    ],
  )
}

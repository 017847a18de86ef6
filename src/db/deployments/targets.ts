import type { TargetState } from '../../deployments/states.ts'
import type { TargetCounts } from '../../events/event.ts'
import type { Digest } from '../../oci/digest.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable, Transaction } from '../database.ts'
import type { LockedDeployment } from './deployments.ts'

/** True for an open target `o`, as the indexes of open targets say it. */
export const TARGET_IS_OPEN = `o.state in ('waiting', 'granted', 'fetching', 'starting', 'checking', 'offline')`

/** A unit of a host. */
export type UnitKey = { readonly hostId: number; readonly unit: string }

/** A unit that follows the tag of a deployment, and is no part of it yet. */
export type Candidate = UnitKey & {
  readonly host: string
  /** See `units` in the schema. */
  readonly target: string | null
  readonly devices: readonly string[] | null
  readonly tenders: readonly {
    readonly target: string
    readonly abi: number | null
    readonly architecture: string | null
  }[]
  /** The value of the label by which the rollout orders the hosts. */
  readonly orderValue: string | null
  /** True when the unit was in flight with an earlier deployment, or failed with it. */
  readonly isDisturbed: boolean
}

const NOT_HEALTHY = `select o.host_id, o.unit
          from targets o
         where o.deployment_id = $::uuid
           and o.state <> 'healthy'`
const FAILED = `select o.host_id, o.unit
          from targets o
         where o.deployment_id = $::uuid
           and o.state in ('failed', 'rolled-back', 'refused', 'overdue')`

/** The targets of a deployment that a retry tries again. */
export type Retried = {
  readonly deployment: string
  /** Undefined: those that failed. Otherwise all of this host that are not healthy. */
  readonly host: string | undefined
}

/** Lists candidates after the unit `after`, in the order of hosts and names. `retried`: only these. */
export async function listCandidates(
  tx: Transaction,
  { id, repository, tag, rollout }: LockedDeployment,
  retried: Retried | undefined,
  after: UnitKey,
  limit: number,
): Promise<Candidate[]> {
  const ofHost = retried?.host === undefined ? undefined : retried.deployment
  const failed = retried?.host === undefined ? retried?.deployment : undefined
  const statement = withConditions(
    `select u.host_id as "hostId", u.name as unit, h.name as host, u.target, u.devices, h.tenders,
            h.labels ->> $4 as "orderValue",
            u.failed_digest is not null
              or coalesce(last.state in ('granted', 'fetching', 'starting', 'checking', 'overdue'), false)
              as "isDisturbed"
       from units u
       -- One probe for each unit: Postgres knows little of new hosts, and would compare all of them with each unit.
      cross join lateral (
         select name, state, tenders, labels
           from hosts
          where id = u.host_id
         offset 0
       ) h
       left join targets last
         on last.deployment_id = u.granted_by
        and last.host_id = u.host_id
        and last.unit = u.name
      where u.repository = $2
        and u.tag = $3
        and h.state = 'active'
        and h.labels @> $5
        and (u.host_id, u.name) > ($6, $7)
        and not exists (
              select 1
                from targets t
               where t.deployment_id = $1
                 and t.host_id = u.host_id
                 and t.unit = u.name
              offset 0
            )
        {retried}
      order by u.host_id, u.name
      limit $8`,
    [
      ...[id, repository, tag, rollout.order, JSON.stringify(rollout.require)],
      ...[after.hostId, after.unit, limit],
    ],
    {
      retried: [
        ...given('and h.name = $', retried?.host),
        ...given(`and (u.host_id, u.name) in (${NOT_HEALTHY})`, ofHost),
        ...given(`and (u.host_id, u.name) in (${FAILED})`, failed),
      ],
    },
  )
  const { rows } = await tx.query<Candidate>(...statement)
  return rows
}

/** A target before it is granted. */
export type NewTarget = UnitKey & {
  readonly state: 'waiting' | 'refused'
  readonly kernel: Digest | null
  readonly reason: string | null
  readonly message: string | null
}

/** Inserts targets after all targets that the deployment has, in their order, and records the events of refused ones. */
export async function insertTargets(
  tx: Transaction,
  id: string,
  targets: readonly NewTarget[],
): Promise<void> {
  await tx.query(
    `with added as (
       insert into targets (deployment_id, host_id, unit, place, state, kernel, reason, message, ended_at)
       select $1, n.host_id, n.unit, last.place + n.position, n.state, n.kernel, n.reason, n.message,
              case when n.state = 'refused' then clock_timestamp() end
         from (
           select coalesce(max(place), 0) as place
             from targets
            where deployment_id = $1
         ) last,
              unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
              with ordinality as n (host_id, unit, state, kernel, reason, message, position)
           on conflict (deployment_id, host_id, unit) do nothing
       returning *
     ), changed as (
       select *
         from added
        where state = 'refused'
     ), ${RECORD_TARGETS}
     select count(*) from added`,
    [
      id,
      targets.map(({ hostId }) => hostId),
      targets.map(({ unit }) => unit),
      targets.map(({ state }) => state),
      targets.map(({ kernel }) => kernel),
      targets.map(({ reason }) => reason),
      targets.map(({ message }) => message),
    ],
  )
}

/** A target with what its host does at the moment. */
export type TargetToPlan = UnitKey & {
  readonly host: string
  readonly place: number
  readonly state: TargetState
  readonly kernel: Digest | null
  readonly grantedAt: Date | null
  readonly deadlineAt: Date | null
  readonly healthyAt: Date | null
  readonly settledAt: Date | null
  readonly presence: 'online' | 'offline' | 'gone'
}

/** Lists all targets of a deployment, in the order of its rollout. */
export async function listTargetsToPlan(
  db: Queryable,
  { id, repository, tag }: Pick<LockedDeployment, 'id' | 'repository' | 'tag'>,
): Promise<TargetToPlan[]> {
  const { rows } = await db.query<TargetToPlan>(
    `select t.host_id as "hostId", t.unit, h.name as host, t.place, t.state, t.kernel,
            t.granted_at as "grantedAt", t.deadline_at as "deadlineAt", t.healthy_at as "healthyAt",
            t.settled_at as "settledAt",
            case
              when h.state <> 'active' or u.host_id is null then 'gone'
              when h.lost_at is not null then 'offline'
              else 'online' end as presence
       from targets t
       join hosts h on h.id = t.host_id
       -- By its key: Postgres would compare all units of the tag with each target.
       left join lateral (
         select host_id, repository, tag
           from units
          where host_id = t.host_id
            and name = t.unit
         offset 0
       ) u on u.repository = $2 and u.tag = $3
      where t.deployment_id = $1
      order by t.place, t.host_id, t.unit`,
    [id, repository, tag],
  )
  return rows
}

/** A target that gets another state or deadline, when it still has the state `from`: a report may have changed it. */
export type TargetChange = UnitKey & {
  readonly from: TargetState
  readonly state: TargetState
  readonly deadlineAt: Date | null
  readonly reason: string | null
}

/** Records the events of targets in a statement: of the rows `changed`, which are rows of `targets`. */
export const RECORD_TARGETS = `recorded as (
       insert into event_outbox (type, repository_id, tag, digest, data)
       select 'deployment.target.changed', d.repository_id, d.tag, d.digest,
              json_build_object(
                'type', 'deployment.target.changed', 'repository', coalesce(r.deleted_name, r.name), 'tag', d.tag,
                'digest', d.digest, 'previousDigest', d.previous, 'actor', d.actor,
                'deployment', d.id, 'number', d.number, 'kind', d.kind, 'host', h.name,
                'unit', g.unit, 'state', g.state, 'settled', g.settled_at is not null,
                'kernel', g.kernel, 'exitCode', g.exit_code, 'exitMeaning', g.exit_meaning,
                'reason', g.reason, 'message', g.message)
         from changed g
         join deployments d on d.id = g.deployment_id
         join repositories r on r.id = d.repository_id
         join hosts h on h.id = g.host_id
        order by g.deployment_id, g.place
     )`

/** Changes targets, and records their events. The caller has locked the deployment. */
export async function changeTargets(
  tx: Transaction,
  id: string,
  changes: readonly TargetChange[],
): Promise<void> {
  await tx.query(
    `with c as materialized (
       select $1::uuid as deployment_id, host_id, unit, before, state, deadline_at, reason
         from unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[])
              as c (host_id, unit, before, state, deadline_at, reason)
     ), done as (
     update targets t
        set state = c.state,
            deadline_at = c.deadline_at,
            reason = case when t.state = c.state then t.reason else c.reason end,
            changed_at = case when t.state = c.state then t.changed_at else clock_timestamp() end,
            ended_at = case when c.state in ('overdue', 'skipped') then clock_timestamp() end
       from c
      where t.deployment_id = c.deployment_id
        and t.host_id = c.host_id
        and t.unit = c.unit
        and t.state = c.before
     returning t.*, c.before
     ), changed as (
       select *
         from done
        where state <> before
     ), ${RECORD_TARGETS}
     select count(*) from done`,
    [
      id,
      changes.map(({ hostId }) => hostId),
      changes.map(({ unit }) => unit),
      changes.map(({ from }) => from),
      changes.map(({ state }) => state),
      changes.map(({ deadlineAt }) => deadlineAt),
      changes.map(({ reason }) => reason),
    ],
  )
}

/** Marks healthy targets as settled, and records their events. */
export async function settleTargets(
  tx: Transaction,
  id: string,
  units: readonly UnitKey[],
): Promise<void> {
  await tx.query(
    `with s as materialized (
       select $1::uuid as deployment_id, host_id, unit
         from unnest($2::bigint[], $3::text[]) as s (host_id, unit)
     ), changed as (
     update targets t
        set settled_at = clock_timestamp(),
            ended_at = clock_timestamp()
       from s
      where t.deployment_id = s.deployment_id
        and t.host_id = s.host_id
        and t.unit = s.unit
        and t.state = 'healthy'
        and t.settled_at is null
     returning t.*
     ), ${RECORD_TARGETS}
     select count(*) from changed`,
    [id, units.map(({ hostId }) => hostId), units.map(({ unit }) => unit)],
  )
}

/** The counts of the targets of deployment `d`, for statements. */
export const TARGET_COUNTS = `(
              select json_build_object(
                       'waiting', count(*) filter (where t.state = 'waiting'),
                       'inFlight', count(*) filter (where t.state in ('granted', 'fetching', 'starting', 'checking')),
                       'healthy', count(*) filter (where t.state = 'healthy'),
                       'settled', count(*) filter (where t.state = 'healthy' and t.settled_at is not null),
                       'failed', count(*) filter (where t.state in ('failed', 'rolled-back', 'overdue')),
                       'refused', count(*) filter (where t.state = 'refused'),
                       'offline', count(*) filter (where t.state = 'offline'),
                       'skipped', count(*) filter (where t.state = 'skipped'),
                       'of', count(*))
                from targets t
               where t.deployment_id = d.id)`

/** Counts the targets of a deployment. */
export async function countTargets(db: Queryable, id: string): Promise<TargetCounts> {
  const { rows } = await db.query<{ counts: TargetCounts }>(
    `select ${TARGET_COUNTS} as counts
       from deployments d
      where d.id = $1`,
    [id],
  )
  const row = rows[0]
  if (row === undefined) throw new Error(`deployment ${id} is locked, but missing`)
  return row.counts
}

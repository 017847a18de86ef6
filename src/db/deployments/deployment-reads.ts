import type { Rollout } from '../../deployments/rollout.ts'
import type { DeploymentKind, DeploymentState, TargetState } from '../../deployments/states.ts'
import type { TargetCounts } from '../../events/event.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import type { View, Visibility } from '../registry/repositories.ts'
import { TARGET_COUNTS } from './targets.ts'

/** A deployment, and the number of its targets in each state. */
export type DeploymentRow = {
  readonly id: string
  readonly repository: Repository
  readonly visibility: Visibility
  readonly tag: Tag
  readonly number: number
  readonly digest: Digest
  readonly previous: Digest | null
  readonly kind: DeploymentKind
  readonly state: DeploymentState
  readonly reason: string | null
  readonly rollout: Rollout
  readonly actor: string
  readonly createdAt: Date
  readonly finishedAt: Date | null
  readonly counts: TargetCounts
}

/** The columns of a DeploymentRow, for queries on deployments `d` and repositories `r`. */
export const DEPLOYMENT_COLUMNS = `d.id, r.name as repository, r.visibility, d.tag, d.number, d.digest, d.previous, d.kind, d.state,
            d.reason, d.rollout, d.actor, d.created_at as "createdAt", d.finished_at as "finishedAt",
            ${TARGET_COUNTS} as counts`

/** Finds deployments by their ids, in no order. A deleted repository has none. */
export async function findDeployments(
  db: Queryable,
  ids: readonly string[],
): Promise<DeploymentRow[]> {
  const { rows } = await db.query<DeploymentRow>(
    `select ${DEPLOYMENT_COLUMNS}
       from deployments d
       join repositories r on r.id = d.repository_id and r.deleted_at is null
      where d.id = any($1::uuid[])`,
    [ids],
  )
  return rows
}

/** The deployments of a list. */
export type DeploymentFilter = {
  readonly tag: Tag | undefined
  readonly digest: Digest | undefined
}

/**
 * Lists deployments of a repository, newest first: those that are older than the one with the id `before`. A repository that the
 * view does not have has none.
 */
export async function listDeployments(
  db: Queryable,
  view: View,
  { tag, digest }: DeploymentFilter,
  before: string | undefined,
  limit: number,
): Promise<DeploymentRow[]> {
  const statement = withConditions(
    `select ${DEPLOYMENT_COLUMNS}
       from deployments d
       join repositories r on r.id = d.repository_id
      where d.repository_id = (
              select id
                from repositories
               where name = $1
                 and (visibility = 'public' or not $2)
            )
        {filter}
      order by d.id desc
      limit $3`,
    [view.repository, view.publicOnly, limit],
    {
      filter: [
        ...given('and d.tag = $', tag),
        ...given('and d.digest = $', digest),
        ...given('and d.id < $::uuid', before),
      ],
    },
  )
  const { rows } = await db.query<DeploymentRow>(...statement)
  return rows
}

/** A unit in a deployment. */
export type TargetRow = {
  readonly deploymentId: string
  readonly host: string
  /** The patterns of what its host may follow; null for a revoked host. */
  readonly hostRepositories: readonly string[] | null
  readonly unit: string
  readonly state: TargetState
  readonly kernel: Digest | null
  /** When it came into its state. */
  readonly since: Date
  readonly grantedAt: Date | null
  readonly healthyAt: Date | null
  readonly settledAt: Date | null
  readonly exitCode: number | null
  /** The exit code in words; null: its host does not say. */
  readonly exitMeaning: string | null
  readonly reason: string | null
  readonly message: string | null
  /** The last lines that its kernel printed; null unless it failed. */
  readonly log: string | null
}

/** Characters of the log of a target. */
const LOG_LENGTH_MAX = 4096

/** Lists at most `limit` targets of each deployment: those that failed first, and then in the order of the rollout. */
export async function listTargets(
  db: Queryable,
  ids: readonly string[],
  limit: number,
): Promise<TargetRow[]> {
  const { rows } = await db.query<TargetRow>(
    `select k.id as "deploymentId", h.name as host,
            case when h.state = 'active' then h.repositories end as "hostRepositories",
            t.unit, t.state, t.kernel, t.changed_at as since,
            t.granted_at as "grantedAt", t.healthy_at as "healthyAt", t.settled_at as "settledAt",
            t.exit_code as "exitCode", t.exit_meaning as "exitMeaning", t.reason, t.message, printed.log
       from unnest($1::uuid[]) as k (id)
      cross join lateral (
        select t.*, t.state in ('failed', 'rolled-back', 'refused', 'overdue') as is_failure
          from targets t
         where t.deployment_id = k.id
         order by is_failure desc, t.place, t.host_id, t.unit
         limit $2
      ) t
       join hosts h on h.id = t.host_id
       left join lateral (
         select right(l.text, ${LOG_LENGTH_MAX}) as log
           from unit_logs l
          where t.is_failure
            and l.host_id = t.host_id
            and l.unit = t.unit
            and l.deployment_id = k.id
          order by l.id desc
          limit 1
       ) printed on true
      order by k.id, t.is_failure desc, t.place, t.host_id, t.unit`,
    [ids, limit],
  )
  return rows
}

/** Lines that the kernel of a target printed. */
export type LogRow = {
  readonly id: number
  readonly host: string
  readonly unit: string
  readonly at: Date
  readonly text: string
}

/** Lists what the kernels of a deployment printed after the entry `after` and up to the entry `last`, in the order of arrival. */
export async function listDeploymentLogs(
  db: Queryable,
  id: string,
  after: number,
  last: number,
  limit: number,
): Promise<LogRow[]> {
  const { rows } = await db.query<LogRow>(
    `select l.id, h.name as host, l.unit, l.at, l.text
       from unit_logs l
       join hosts h on h.id = l.host_id
      where l.deployment_id = $1
        and l.id > $2
        and l.id <= $3
      order by l.id
      limit $4`,
    [id, after, last, limit],
  )
  return rows
}

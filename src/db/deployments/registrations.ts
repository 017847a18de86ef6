import type { Rollout } from '../../deployments/rollout.ts'
import type { DeploymentState, TargetState } from '../../deployments/states.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Transaction } from '../database.ts'
import type { StoredReport } from './reports.ts'

/** The state of a tag that a unit begins to follow. */
export type FollowedTag = {
  /** Null: there is no such tag. */
  readonly digest: Digest | null
  /** The newest deployment of this digest. */
  readonly deployment: {
    readonly id: string
    readonly state: DeploymentState
    readonly rollout: Rollout
    readonly areTargetsMade: boolean
  } | null
  /** The newest digest of the tag whose deployment succeeded. */
  readonly succeededDigest: Digest | null
}

/**
 * Reads the tag that a unit begins to follow, and locks its open deployment, which does not end before the unit has
 * joined it.
 */
export async function findFollowedTag(
  tx: Transaction,
  repository: Repository,
  tag: Tag,
): Promise<FollowedTag> {
  await tx.query(
    `select d.id
       from deployments d
       join repositories r on r.id = d.repository_id
      where r.name = $1
        and d.tag = $2
        and d.finished_at is null
      order by d.id
        for share of d`,
    [repository, tag],
  )
  const { rows } = await tx.query<FollowedTag>(
    `select t.digest, newest.deployment, (
              select s.digest
                from deployments s
               where s.repository_id = r.id
                 and s.tag = $2
                 and s.state = 'succeeded'
               order by s.number desc
               limit 1
            ) as "succeededDigest"
       from repositories r
       left join tags t on t.repository_id = r.id and t.name = $2
       left join lateral (
         select json_build_object('id', d.id, 'state', d.state, 'rollout', d.rollout,
                                  'areTargetsMade', d.targets_made) as deployment
           from deployments d
          where d.repository_id = r.id
            and d.tag = $2
            and d.digest = t.digest
          order by d.number desc
          limit 1
       ) newest on true
      where r.name = $1`,
    [repository, tag],
  )
  return rows[0] ?? { digest: null, deployment: null, succeededDigest: null }
}

/** Adds a unit that waits for its first grant. Returns false when another request added it first. */
export async function insertUnit(
  tx: Transaction,
  hostId: number,
  name: string,
  report: StoredReport,
): Promise<boolean> {
  const { rows } = await tx.query<{ name: string }>(
    `insert into units (host_id, name, repository, tag, target, devices, state, boot_id, sequence, since)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp())
         on conflict (host_id, name) do nothing
     returning name`,
    [
      ...[hostId, name, report.repository, report.tag, report.target, report.devices],
      ...[report.state, report.bootId, report.sequence],
    ],
  )
  return rows.length > 0
}

/** Sets the digest that a unit should run when it begins to follow a tag. Digests that were good or failed before do not count any more. */
export async function setFirstGrant(
  tx: Transaction,
  hostId: number,
  name: string,
  digest: Digest | null,
  deployment: string | null,
): Promise<void> {
  await tx.query(
    `update units
        set granted_digest = $3,
            granted_by = $4,
            granted_at = clock_timestamp(),
            registered_at = clock_timestamp(),
            good_digest = null,
            failed_digest = null
      where host_id = $1
        and name = $2`,
    [hostId, name, digest, deployment],
  )
}

/** Adds a unit to a deployment in progress, after all its other units. */
export async function insertLateTarget(
  tx: Transaction,
  deployment: string,
  hostId: number,
  unit: string,
  target: {
    readonly state: TargetState
    readonly kernel: Digest | null
    readonly reason: string | null
    readonly message: string | null
  },
): Promise<void> {
  await tx.query(
    `insert into targets (deployment_id, host_id, unit, place, state, kernel, reason, message, ended_at)
     select $1, $2, $3,
            coalesce((select max(place) from targets where deployment_id = $1), 0) + 1,
            $4, $5, $6, $7, case when $4 = 'refused' then clock_timestamp() end
         on conflict (deployment_id, host_id, unit) do nothing`,
    [deployment, hostId, unit, target.state, target.kernel, target.reason, target.message],
  )
}

import type { Rollout } from '../../deployments/rollout.ts'
import type { DeploymentState } from '../../deployments/states.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'
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

/** Marks a unit as one that begins to follow its tag: digests that were good or failed before do not count any more. */
export async function markRegistered(tx: Transaction, hostId: number, name: string): Promise<void> {
  await tx.query(
    `update units
        set registered_at = clock_timestamp(),
            good_digest = null,
            earlier_good_digest = null,
            failed_digest = null
      where host_id = $1
        and name = $2`,
    [hostId, name],
  )
}

/** Sets the digest that a unit should run which begins to follow a tag. */
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
            granted_at = clock_timestamp()
      where host_id = $1
        and name = $2`,
    [hostId, name, digest, deployment],
  )
}

/** A unit that registered while its tag moved. */
export type MissedUnit = {
  readonly hostId: number
  readonly name: string
  readonly repository: Repository
  readonly tag: Tag
  readonly target: string | null
  readonly devices: readonly string[] | null
}

/**
 * Lists units that registered in the last `seconds`, and have neither the digest of their tag nor a place in a deployment
 * of it since: the move of the tag and the registration did not see each other. A unit on which the digest failed, or whose
 * deployment halted before its turn, had its place.
 */
export async function listMissedUnits(
  db: Queryable,
  seconds: number,
  limit: number,
): Promise<MissedUnit[]> {
  const { rows } = await db.query<MissedUnit>(
    `select u.host_id as "hostId", u.name, u.repository, u.tag, u.target, u.devices
       from units u
       join repositories r on r.name = u.repository
       join tags t on t.repository_id = r.id and t.name = u.tag
       left join lateral (
         select d.id, d.state, d.targets_made
           from deployments d
          where d.repository_id = r.id
            and d.tag = u.tag
            and d.digest = t.digest
          order by d.number desc
          limit 1
       ) newest on true
      where u.registered_at > now() - make_interval(secs => $1)
        and u.granted_digest is distinct from t.digest
        and (newest.id is null
             or newest.state = 'succeeded'
             or (newest.state in ('rolling', 'paused')
                 and newest.targets_made
                 and not exists (
                       select 1
                         from targets g
                        where g.deployment_id = newest.id
                          and g.host_id = u.host_id
                          and g.unit = u.name)))
        and u.failed_digest is distinct from t.digest
        and not exists (
              select 1
                from targets had
                join deployments of on of.id = had.deployment_id
               where had.host_id = u.host_id
                 and had.unit = u.name
                 and had.changed_at > u.registered_at
                 and of.repository_id = r.id
                 and of.tag = u.tag
                 and of.digest = t.digest)
      order by u.registered_at
      limit $2`,
    [seconds, limit],
  )
  return rows
}

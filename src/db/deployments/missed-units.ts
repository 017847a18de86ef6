import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'
import { DEPLOYMENTS_CHANNEL } from './notifications.ts'

/** A tag whose present digest is no deployment, although a unit follows it. */
export type MissedTag = {
  readonly repositoryId: number
  readonly repository: Repository
  readonly tag: Tag
  readonly digest: Digest
  /** The actor of its last move. */
  readonly actor: string
}

// Units that lately began to follow a tag, and run something else than it names. The registration of a unit and the move of
// a tag may each commit without seeing the other.
const MISSED = `units u
       join hosts h on h.id = u.host_id and h.state = 'active'
       join repositories r on r.name = u.repository
       join tags t on t.repository_id = r.id and t.name = u.tag
       left join lateral (
         select d.id, d.digest, d.kind, d.finished_at, d.targets_made, d.rollout
           from deployments d
          where d.repository_id = r.id
            and d.tag = u.tag
          order by d.number desc
          limit 1
       ) newest on true
      where u.registered_at > now() - make_interval(secs => $1)
        and u.granted_digest is distinct from t.digest
        and u.failed_digest is distinct from t.digest`

/** Lists tags with units that registered within the last `seconds` and that no deployment of the present digest has. */
export async function listMissedTags(
  db: Queryable,
  seconds: number,
  limit: number,
): Promise<MissedTag[]> {
  const { rows } = await db.query<MissedTag>(
    `select distinct r.id as "repositoryId", r.name as repository, u.tag, t.digest, coalesce((
              select moved.actor
                from tag_history moved
               where moved.repository_id = r.id
                 and moved.tag = u.tag
               order by moved.id desc
               limit 1
            ), '') as actor
       from ${MISSED}
        and newest.digest is distinct from t.digest
      limit $2`,
    [seconds, limit],
  )
  return rows
}

/**
 * Lets the controller look for units once more, for open deployments that miss some which registered within the last
 * `seconds`.
 */
export async function remakeTargets(
  tx: Transaction,
  seconds: number,
  limit: number,
): Promise<void> {
  await tx.query(
    `with missing as (
       select distinct newest.id
         from ${MISSED}
          and newest.finished_at is null
          and newest.targets_made
          and newest.kind <> 'retry'
          and h.labels @> (newest.rollout -> 'require')
          and not exists (
                select 1
                  from targets g
                 where g.deployment_id = newest.id
                   and g.host_id = u.host_id
                   and g.unit = u.name
              )
        limit $2
     ), remade as (
       update deployments
          set targets_made = false,
              wake_at = clock_timestamp()
        where id in (select id from missing)
          and finished_at is null
       returning id
     )
     select pg_notify('${DEPLOYMENTS_CHANNEL}', 'deployment:' || id)
       from remade`,
    [seconds, limit],
  )
}

import type { Rollout } from '../../deployments/rollout.ts'
import type { DeploymentKind, DeploymentState } from '../../deployments/states.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { newTimeOrderedUuid } from '../../oci/uuid.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable, Transaction } from '../database.ts'
import { DEPLOYMENTS_CHANNEL } from './notifications.ts'

/** A deployment of a transaction that is not committed yet. */
export type CreatedDeployment = {
  readonly id: string
  readonly tag: Tag
  /** Counts the deployments of the tag. */
  readonly number: number
}

/** The deployment of one tag. */
export type NewDeployment = {
  readonly tag: Tag
  /** The digest that the tag had before; null: it is new. */
  readonly previous: Digest | null
  readonly rollout: Rollout
}

/**
 * Inserts deployments of one digest, and notifies every process when the transaction commits. The caller holds the locks of
 * the tags' rows, so that the deployments of a tag are numbered one after the other.
 */
export async function insertDeployments(
  tx: Transaction,
  cause: {
    readonly repositoryId: number
    readonly digest: Digest
    readonly kind: DeploymentKind
    readonly actor: { readonly name: string; readonly origin: string | null }
  },
  deployments: readonly NewDeployment[],
): Promise<CreatedDeployment[]> {
  const { repositoryId, digest, kind, actor } = cause
  const { rows } = await tx.query<CreatedDeployment>(
    `with inserted as (
       insert into deployments
              (id, repository_id, tag, number, digest, previous, kind, rollout, actor, origin)
       select n.id, $1, n.tag,
              coalesce((
                select max(d.number)
                  from deployments d
                 where d.repository_id = $1
                   and d.tag = n.tag
              ), 0) + 1,
              $2, n.previous, $3, n.rollout, $4, $5
         from json_to_recordset($6::json) as n (id uuid, tag text, previous text, rollout jsonb)
       returning id, tag, number
     )
     select id, tag, number, pg_notify('${DEPLOYMENTS_CHANNEL}', 'deployment:' || id)
       from inserted`,
    [
      repositoryId,
      digest,
      kind,
      actor.name,
      actor.origin,
      JSON.stringify(deployments.map((one) => ({ ...one, id: newTimeOrderedUuid() }))),
    ],
  )
  return rows.map(({ id, tag, number }) => ({ id, tag, number }))
}

/** A deployment that this transaction has locked, and the tag that it is about. */
export type LockedDeployment = {
  readonly id: string
  readonly repositoryId: number
  readonly repository: Repository
  readonly tag: Tag
  readonly number: number
  readonly digest: Digest
  readonly previous: Digest | null
  readonly kind: DeploymentKind
  readonly state: DeploymentState
  readonly rollout: Rollout
  readonly actor: string
  readonly origin: string | null
  readonly areTargetsMade: boolean
  readonly isRollbackDue: boolean
  readonly resumes: number
  readonly inReview: boolean
  readonly createdAt: Date
  readonly wakeAt: Date | null
  /** The time of the database. */
  readonly now: Date
  /** Null: the tag was deleted. */
  readonly tagDigest: Digest | null
  readonly isRepositoryDeleted: boolean
  /** The number of the newest deployment of the tag. */
  readonly newestNumber: number
}

/** Lists deployments that have to be looked at, those first that wait longest. */
export async function listDueDeployments(db: Queryable, limit: number): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select id
       from deployments
      where wake_at <= clock_timestamp()
         -- No step puts the next one off for so long: the clock of the database was ahead.
         or (wake_at > clock_timestamp() + interval '2 minutes' and wake_at < 'infinity')
      order by wake_at
      limit $1`,
    [limit],
  )
  return rows.map(({ id }) => id)
}

/** Lists older deployments of the same tag that are open. */
export async function listOpenBefore(
  db: Queryable,
  { repositoryId, tag, number }: Pick<LockedDeployment, 'repositoryId' | 'tag' | 'number'>,
  limit: number,
): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select id
       from deployments
      where repository_id = $1
        and tag = $2
        and number < $3
        and finished_at is null
      order by number
      limit $4`,
    [repositoryId, tag, number, limit],
  )
  return rows.map(({ id }) => id)
}

/**
 * Locks a deployment until the transaction ends. Undefined: it does not exist, or another process has it. `isPatient`: waits
 * for the other process. Otherwise a deployment whose time is `infinity` is left alone.
 */
export async function lockDeployment(
  tx: Transaction,
  id: string,
  isPatient = false,
): Promise<LockedDeployment | undefined> {
  const { rows: locked } = await tx.query<{ id: string }>(
    isPatient
      ? `${ROW} for no key update`
      : `${ROW} and coalesce(wake_at, now()) < 'infinity' for no key update skip locked`,
    [id],
  )
  if (locked.length === 0) return undefined
  // A statement of its own, so that it sees what was committed before the lock.
  const { rows } = await tx.query<LockedDeployment>(
    `select d.id, d.repository_id as "repositoryId", coalesce(r.deleted_name, r.name) as repository, d.tag,
            d.number, d.digest, d.previous, d.kind, d.state, d.rollout, d.actor, d.origin,
            d.targets_made as "areTargetsMade", d.rollback_due as "isRollbackDue", d.resumes,
            d.in_review as "inReview", d.created_at as "createdAt", d.wake_at as "wakeAt",
            clock_timestamp() as now, t.digest as "tagDigest",
            r.deleted_at is not null as "isRepositoryDeleted",
            (
              select max(n.number)
                from deployments n
               where n.repository_id = d.repository_id
                 and n.tag = d.tag
            ) as "newestNumber"
       from deployments d
       join repositories r on r.id = d.repository_id
       left join tags t on t.repository_id = d.repository_id and t.name = d.tag
      where d.id = $1`,
    [id],
  )
  return rows[0]
}

const ROW = `select id
       from deployments
      where id = $1`

/** The change of a deployment by one step. */
export type DeploymentChange = {
  readonly state: DeploymentState
  /** Replaces the reason when the state changes. */
  readonly reason: string | null
  readonly inReview: boolean
  readonly resumes: number
  readonly isRollbackDue: boolean
  readonly wakeAt: Date | null
}

/** Changes a deployment that the transaction has locked. */
export async function updateDeployment(
  tx: Transaction,
  id: string,
  { state, reason, inReview, resumes, isRollbackDue, wakeAt }: DeploymentChange,
): Promise<void> {
  await tx.query(
    `update deployments
        set state = $2,
            reason = case when state = $2 then reason else $3 end,
            in_review = $4,
            resumes = $5,
            rollback_due = $6,
            wake_at = $7,
            finished_at = case
              when $2 in ('rolling', 'paused') then null
              else coalesce(finished_at, clock_timestamp()) end
      where id = $1`,
    [id, state, reason, inReview, resumes, isRollbackDue, wakeAt],
  )
}

/** Records that the targets of a deployment were made. */
export async function setTargetsMade(tx: Transaction, id: string): Promise<void> {
  await tx.query(
    `update deployments
        set targets_made = true
      where id = $1`,
    [id],
  )
}

/** Sets when a deployment is looked at next. */
export async function postponeDeployment(
  db: Queryable,
  id: string,
  seconds: number,
): Promise<void> {
  await db.query(
    `update deployments
        set wake_at = clock_timestamp() + make_interval(secs => $2)
      where id = $1
        and wake_at is not null`,
    [id, seconds],
  )
}

/**
 * Notifies every process, when the transaction commits, of the open deployments of a repository whose tags go, so that they
 * end at once. `tags`: only of these tags; undefined: of all.
 */
export async function notifyOpenDeployments(
  tx: Transaction,
  repositoryId: number,
  tags: readonly Tag[] | undefined,
): Promise<void> {
  const statement = withConditions(
    `select pg_notify('${DEPLOYMENTS_CHANNEL}', 'deployment:' || id)
       from deployments
      where repository_id = $1
        and finished_at is null
        {tags}`,
    [repositoryId],
    { tags: given('and tag = any($::text[])', tags) },
  )
  await tx.query(...statement)
}

/** Locks a tag, so that it gets no other deployment meanwhile. Returns its digest; undefined: there is no such tag. */
export async function lockTag(
  tx: Transaction,
  repositoryId: number,
  tag: Tag,
): Promise<Digest | undefined> {
  const { rows } = await tx.query<{ digest: Digest }>(
    `select digest
       from tags
      where repository_id = $1
        and name = $2
        for no key update`,
    [repositoryId, tag],
  )
  return rows[0]?.digest
}

/** A deployment as its retry reads it. */
export type RetriedDeployment = Pick<
  LockedDeployment,
  'id' | 'repositoryId' | 'repository' | 'tag' | 'number' | 'digest' | 'previous'
>

/** Finds a deployment of a repository that is not deleted. */
export async function findDeployment(
  db: Queryable,
  id: string,
): Promise<RetriedDeployment | undefined> {
  const { rows } = await db.query<RetriedDeployment>(
    `select d.id, d.repository_id as "repositoryId", r.name as repository, d.tag, d.number, d.digest,
            d.previous
       from deployments d
       join repositories r on r.id = d.repository_id and r.deleted_at is null
      where d.id = $1`,
    [id],
  )
  return rows[0]
}

/** Returns the number of the newest open deployment of a tag; undefined: none is open. */
export async function findOpenNumber(
  db: Queryable,
  repositoryId: number,
  tag: Tag,
): Promise<number | undefined> {
  const { rows } = await db.query<{ number: number }>(
    `select number
       from deployments
      where repository_id = $1
        and tag = $2
        and finished_at is null
      order by number desc
      limit 1`,
    [repositoryId, tag],
  )
  return rows[0]?.number
}

/** Returns the digest of the newest deployment of a tag; undefined: it has none. */
export async function findNewestDigest(
  db: Queryable,
  repositoryId: number,
  tag: Tag,
): Promise<Digest | undefined> {
  const { rows } = await db.query<{ digest: Digest }>(
    `select digest
       from deployments
      where repository_id = $1
        and tag = $2
      order by number desc
      limit 1`,
    [repositoryId, tag],
  )
  return rows[0]?.digest
}

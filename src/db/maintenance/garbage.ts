import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'

export type GarbageRow = {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
}

/**
 * Locks up to `limit` blobs that nobody touched for `graceSeconds` and that no sweep has checked since.
 * Skips blobs that a push has locked, which it does until its manifest references them.
 */
export async function lockUntouchedBlobs(
  tx: Transaction,
  graceSeconds: number,
  limit: number,
): Promise<number[]> {
  const { rows } = await tx.query<{ id: number }>(
    `select id
       from blobs
      where unchecked
        and touched_at <= now() - make_interval(secs => $1)
      order by touched_at, id
      limit $2
        for update skip locked`,
    [graceSeconds, limit],
  )
  return rows.map(({ id }) => id)
}

/**
 * Removes the blobs among `ids` that no manifest references, takes them out of every repository, and
 * queues the deletion of their bytes. The others count as checked. The transaction must have locked all
 * of them in an earlier statement: only a new statement sees the manifest of a push that held the lock
 * until a moment ago.
 */
export async function removeUnreferencedBlobs(
  tx: Transaction,
  ids: readonly number[],
): Promise<GarbageRow[]> {
  const { rows } = await tx.query<GarbageRow>(
    `with candidates as (
       select b.id,
              exists (
                select 1
                  from manifest_blobs mb
                 where mb.blob_id = b.id
              ) as referenced
         from unnest($1::bigint[]) as b (id)
     ), checked as (
       update blobs
          set unchecked = false
         from candidates
        where blobs.id = candidates.id
          and candidates.referenced
     ), removed_links as (
       delete from repository_blobs
        using candidates
        where repository_blobs.blob_id = candidates.id
          and not candidates.referenced
     ), removed as (
       delete from blobs
        using candidates
        where blobs.id = candidates.id
          and not candidates.referenced
       returning blobs.digest, blobs.size, blobs.storage_key
     ), queued as (
       insert into deletion_queue (storage_key)
       select storage_key
         from removed
     )
     select digest, size
       from removed`,
    [ids],
  )
  return rows
}

// A repository `r` without content. A manifest that is gone leaves its events and the history of its tags.
const IS_EMPTY = `not exists (select 1 from uploads where repository_id = r.id)
        and not exists (select 1 from repository_blobs where repository_id = r.id)
        and not exists (select 1 from manifests where repository_id = r.id)
        and not exists (select 1 from tag_history where repository_id = r.id)
        and not exists (select 1 from event_outbox where repository_id = r.id)
        and not exists (select 1 from repository_sequences where repository_id = r.id)`

/**
 * Locks up to `limit` repositories older than `graceSeconds` that have no content, and whose settings nobody
 * changed. Skips those that a push has locked.
 */
export async function lockEmptyRepositories(
  tx: Transaction,
  graceSeconds: number,
  limit: number,
): Promise<number[]> {
  const { rows } = await tx.query<{ id: number }>(
    `select r.id
       from repositories r
      where not r.permanent
        and r.created_at <= now() - make_interval(secs => $1)
        and ${IS_EMPTY}
      order by r.created_at, r.id
      limit $2
        for update skip locked`,
    [graceSeconds, limit],
  )
  return rows.map(({ id }) => id)
}

/** Locks a repository that has no content, and whose settings nobody changed. Undefined when a push has locked it. */
export async function lockEmptyRepository(
  tx: Transaction,
  repository: Repository,
): Promise<number | undefined> {
  const { rows } = await tx.query<{ id: number }>(
    `select r.id
       from repositories r
      where r.name = $1
        and not r.permanent
        and ${IS_EMPTY}
        for update skip locked`,
    [repository],
  )
  return rows[0]?.id
}

/**
 * Removes the repositories among `ids` that are still empty. Returns how many. The transaction must have
 * locked them in an earlier statement: only a new statement sees a push that was committed a moment ago.
 */
export async function removeEmptyRepositories(
  tx: Transaction,
  ids: readonly number[],
): Promise<number> {
  const { rows } = await tx.query<{ id: number }>(
    `delete from repositories r
      where r.id = any($1::bigint[])
        and not r.permanent
        and ${IS_EMPTY}
     returning r.id`,
    [ids],
  )
  return rows.length
}

/** Marks up to `limit` repositories to which a manifest was pushed: later sweeps skip them. */
export async function markPermanentRepositories(db: Queryable, limit: number): Promise<void> {
  await db.query(
    `update repositories
        set permanent = true
      where id in (
        select r.id
          from repositories r
         where not r.permanent
           and exists (select 1 from manifests where repository_id = r.id)
         limit $1
      )`,
    [limit],
  )
}

/** A blob that the next sweep checks, and whether it would stay. */
export type CandidateRow = GarbageRow & {
  readonly id: number
  /** The time as Postgres writes it, to the microsecond. */
  readonly touchedAt: string
  readonly isReferenced: boolean
}

/** Before all blobs. */
export const FIRST_CANDIDATE = { touchedAt: '-infinity', id: 0 } as const

/** Lists the blobs that sweeps check next, after `after`, in their order. Blobs that a sweep has checked are not read. */
export async function listCandidates(
  db: Queryable,
  graceSeconds: number,
  after: Pick<CandidateRow, 'touchedAt' | 'id'>,
  limit: number,
): Promise<CandidateRow[]> {
  const { rows } = await db.query<CandidateRow>(
    `select b.id, b.digest, b.size, b.touched_at::text as "touchedAt",
            exists (
              select 1
                from manifest_blobs mb
               where mb.blob_id = b.id
              offset 0
            ) as "isReferenced"
       from (
         select id, digest, size, touched_at
           from blobs
          where unchecked
            and touched_at <= now() - make_interval(secs => $1)
            and (touched_at, id) > ($2::timestamptz, $3::bigint)
          order by touched_at, id
          limit $4
       ) b
      order by b.touched_at, b.id`,
    [graceSeconds, after.touchedAt, after.id, limit],
  )
  return rows
}

/** Counts the expired uploads that wait for a sweep, and the queued deletions. */
export async function countPendingCleanup(
  db: Queryable,
): Promise<{ expiredUploads: number; queuedDeletions: number }> {
  const { rows } = await db.query<{ expiredUploads: number; queuedDeletions: number }>(
    `select (
              select count(*)
                from uploads
               where expires_at < now()
                 and (lease is null or lease_until < now())
            ) as "expiredUploads",
            (select count(*) from deletion_queue) as "queuedDeletions"`,
  )
  const row = rows[0]
  if (row === undefined) throw new Error('a select of scalars returned no row')
  return row
}

import type { Digest } from '../../oci/digest.ts'
import type { Queryable } from '../database.ts'

/** Bytes without a row that are to be removed: a blob's, or all that was written for an upload. */
export type QueuedDeletion = { readonly id: number } & (
  | { readonly storageKey: string; readonly upload: null }
  | { readonly storageKey: null; readonly upload: UploadLeftovers }
)

export type UploadLeftovers = {
  readonly id: string
  /** What it was said to become; null when nobody said so. */
  readonly digest: Digest | null
  /** What it became, and stays. */
  readonly keptKey: string | null
}

/** So long whoever claimed a removal has for it, before another takes it up. */
export const DELETION_LEASE_SECONDS = 120

/**
 * Claims up to `limit` removals that are due, by moving them past the lease. Blobs' bytes stay for as
 * long as a hold lasts.
 */
export async function claimDeletions(db: Queryable, limit: number): Promise<QueuedDeletion[]> {
  const { rows } = await db.query<QueuedDeletion>(
    `update removals
        set due_at = now() + make_interval(secs => $2)
      where id in (
        select id
          from removals
         where due_at <= now()
           and (
             upload_id is not null
             or not exists (select 1 from removal_holds where until > now())
           )
         order by due_at, id
         limit $1
           for update skip locked
      )
     returning id, storage_key as "storageKey",
               case
                 when upload_id is not null then
                   json_build_object('id', upload_id, 'digest', digest, 'keptKey', kept_key)
               end as upload`,
    [limit, DELETION_LEASE_SECONDS],
  )
  return rows
}

/** Queues the removal of what an upload left behind. */
export async function queueLeftovers(db: Queryable, remains: UploadLeftovers): Promise<void> {
  await db.query(
    `insert into removals (upload_id, digest, kept_key)
     values ($1, $2, $3)`,
    [remains.id, remains.digest, remains.keptKey],
  )
}

/** Their bytes are gone. */
export async function finishDeletions(db: Queryable, ids: readonly number[]): Promise<void> {
  await db.query(
    `delete from removals
      where id = any($1::bigint[])`,
    [ids],
  )
}

/** Keeps the bytes of all blobs for so long, also of those that are not wanted any more. */
export async function pauseDeletions(
  db: Queryable,
  seconds: number,
  reason: string,
): Promise<{ id: number; until: Date }> {
  const { rows } = await db.query<{ id: number; until: Date }>(
    `insert into removal_holds (until, reason)
     values (now() + make_interval(secs => $1), $2)
     returning id, until`,
    [seconds, reason],
  )
  const row = rows[0]
  if (row === undefined) throw new Error('an insert answers with its row')
  return row
}

/** Ends one hold; others may last. */
export async function endDeletionPause(db: Queryable, id: number): Promise<void> {
  await db.query(
    `delete from removal_holds
      where id = $1`,
    [id],
  )
}

/** Ends every hold; returns how many lasted. */
export async function endDeletionPauses(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ lasted: boolean }>(
    `delete from removal_holds
     returning until > now() as lasted`,
  )
  return rows.filter(({ lasted }) => lasted).length
}

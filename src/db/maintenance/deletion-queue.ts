import type { Digest } from '../../oci/digest.ts'
import type { Queryable } from '../database.ts'

/** Bytes without a row that wait for their deletion: those of a blob, or everything that an upload wrote. */
export type QueuedDeletion = { readonly id: number } & (
  | { readonly storageKey: string; readonly upload: null }
  | { readonly storageKey: null; readonly upload: UploadLeftovers }
)

export type UploadLeftovers = {
  readonly id: string
  /** The digest that the client announced; null when it announced none. */
  readonly digest: Digest | null
  /** The key of the blob that the upload became: these bytes stay. */
  readonly keptKey: string | null
}

/** Time that a claimed deletion may take before another process claims it. */
export const DELETION_LEASE_SECONDS = 120
/** Nothing makes a deletion due later. A time that is further ahead was written by a clock that was ahead: it is due. */
const DUE_SECONDS_MAX = 2 * DELETION_LEASE_SECONDS

const UPLOAD_OBJECT = `json_build_object('id', upload_id, 'digest', digest, 'keptKey', kept_key)`

/** The columns of a QueuedDeletion. */
export const QUEUED_DELETION_COLUMNS = `id, storage_key as "storageKey",
               case when upload_id is not null then ${UPLOAD_OBJECT} end as upload`

/**
 * Claims up to `limit` due deletions by moving them past the lease. The bytes of blobs stay while a
 * pause lasts.
 */
export async function claimDeletions(db: Queryable, limit: number): Promise<QueuedDeletion[]> {
  const { rows } = await db.query<QueuedDeletion>(
    `with pause as (
       select exists (select 1 from deletion_pauses where until > now()) as lasts
     ), due as (
       select q.id
         from deletion_queue q, pause
        where q.due_at <= now()
          and (q.upload_id is not null or not pause.lasts)
        order by q.due_at, q.id
        limit $1
          for update of q skip locked
     ), ahead as (
       select q.id
         from deletion_queue q, pause
        where q.due_at > now() + make_interval(secs => $3)
          and (q.upload_id is not null or not pause.lasts)
        order by q.due_at, q.id
        limit $1
          for update of q skip locked
     )
     update deletion_queue
        set due_at = now() + make_interval(secs => $2)
      where id in (select id from due union all select id from ahead limit $1)
     returning ${QUEUED_DELETION_COLUMNS}`,
    [limit, DELETION_LEASE_SECONDS, DUE_SECONDS_MAX],
  )
  return rows
}

/** Queues the deletion of the bytes that an upload left behind. */
export async function queueLeftovers(db: Queryable, leftovers: UploadLeftovers): Promise<void> {
  await db.query(
    `insert into deletion_queue (upload_id, digest, kept_key)
     values ($1, $2, $3)`,
    [leftovers.id, leftovers.digest, leftovers.keptKey],
  )
}

/** Removes deletions from the queue after their bytes are deleted. */
export async function finishDeletions(db: Queryable, ids: readonly number[]): Promise<void> {
  await db.query(
    `delete from deletion_queue
      where id = any($1::bigint[])`,
    [ids],
  )
}

/** Keeps the bytes of all blobs for `seconds`, even of blobs without a row. */
export async function pauseDeletions(
  db: Queryable,
  seconds: number,
  reason: string,
): Promise<{ id: number; until: Date }> {
  const { rows } = await db.query<{ id: number; until: Date }>(
    `insert into deletion_pauses (until, reason)
     values (now() + make_interval(secs => $1), $2)
     returning id, until`,
    [seconds, reason],
  )
  const row = rows[0]
  if (row === undefined) throw new Error('an insert returned no row')
  return row
}

/** Ends one pause; others may last. */
export async function endDeletionPause(db: Queryable, id: number): Promise<void> {
  await db.query(
    `delete from deletion_pauses
      where id = $1`,
    [id],
  )
}

/** Ends the pauses with this reason, which nobody needs any more. */
export async function endDeletionPausesOf(db: Queryable, reason: string): Promise<void> {
  await db.query(
    `delete from deletion_pauses
      where reason = $1`,
    [reason],
  )
}

/** Ends every pause. Returns how many still lasted. */
export async function endDeletionPauses(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ lasted: boolean }>(
    `delete from deletion_pauses
     returning until > now() as lasted`,
  )
  return rows.filter(({ lasted }) => lasted).length
}

import type { Digest } from '../../oci/digest.ts'
import type { Queryable } from '../database.ts'
import { PROCESS_LOCK_CLASS } from '../process-lock.ts'
import {
  UPLOAD_LEASE_SECONDS,
  UPLOAD_LEASE_SECONDS_MAX,
  type UploadWriter,
} from '../registry/upload-leases.ts'

/** A process that lost its connection, as when Postgres restarts, takes its lock again within this time. */
const RECONNECT_SECONDS = 5
/** A writer that had no lock is gone when it did not renew its lease for this time. */
const UNKNOWN_WRITER_SECONDS = 600

/**
 * Ends up to `limit` expired uploads that have no writer, and queues the deletion of their bytes.
 * Returns how many.
 */
export async function retireExpiredUploads(db: Queryable, limit: number): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `with ended as (
       delete from uploads
        where id in (
          select id
            from uploads
           where expires_at < now()
             and (lease is null or lease_until not between now() and now() + make_interval(secs => $2))
           order by expires_at
           limit $1
             for update skip locked
        )
       returning id, digest
     ), queued as (
       insert into deletion_queue (upload_id, digest)
       select id, digest
         from ended
     )
     select count(*) as count
       from ended`,
    [limit, UPLOAD_LEASE_SECONDS_MAX],
  )
  return rows[0]?.count ?? 0
}

/**
 * Ends up to `limit` uploads of single requests whose process is gone, and queues the deletion of their bytes. Returns
 * how many.
 */
export async function retireAbandonedRequests(db: Queryable, limit: number): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `with ended as (
       delete from uploads
        where id in (
          select id
            from uploads
           where single_request
             and coalesce(lease_until, created_at + make_interval(secs => $2)) not between
                   now() - make_interval(secs => case when writer is null then $4::float8 else $3::float8 end)
                   and now() + make_interval(secs => $5)
             and (writer is null or pg_try_advisory_xact_lock_shared($6, writer))
           limit $1
             for update skip locked
        )
       returning id, digest
     ), queued as (
       insert into deletion_queue (upload_id, digest)
       select id, digest
         from ended
     )
     select count(*) as count
       from ended`,
    [
      limit,
      UPLOAD_LEASE_SECONDS,
      RECONNECT_SECONDS,
      UNKNOWN_WRITER_SECONDS,
      UPLOAD_LEASE_SECONDS_MAX,
      PROCESS_LOCK_CLASS,
    ],
  )
  return rows[0]?.count ?? 0
}

/** An upload without acknowledged bytes whose writer is gone. */
export type DeadUpload = {
  readonly id: string
  readonly stage: unknown
  readonly digest: Digest | null
}

/**
 * Claims up to `limit` uploads that have no acknowledged bytes and whose process is gone: their bytes are of no use, and
 * a client may still continue them from the beginning.
 */
export async function claimDeadUploads(
  db: Queryable,
  writer: UploadWriter,
  limit: number,
): Promise<DeadUpload[]> {
  const { rows } = await db.query<DeadUpload>(
    `update uploads
        set lease = $2,
            lease_until = now() + make_interval(secs => $4),
            writer = $3,
            needs_cleanup = true
      where id in (
        select id
          from uploads
         where lease is not null
           and size = 0
           and not single_request
           and lease_until not between
                 now() - make_interval(secs => case when writer is null then $6::float8 else $5::float8 end)
                 and now() + make_interval(secs => $7)
           and (writer is null or pg_try_advisory_xact_lock_shared($8, writer))
         limit $1
           for update skip locked
      )
     returning id, stage, digest`,
    [
      limit,
      writer.lease,
      writer.process,
      UPLOAD_LEASE_SECONDS,
      RECONNECT_SECONDS,
      UNKNOWN_WRITER_SECONDS,
      UPLOAD_LEASE_SECONDS_MAX,
      PROCESS_LOCK_CLASS,
    ],
  )
  return rows
}

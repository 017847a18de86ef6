import type { Digest } from '../../oci/digest.ts'
import { type Rights, rightsValues } from '../auth/audit.ts'
import type { Queryable } from '../database.ts'
import { PROCESS_LOCK_CLASS } from '../process-lock.ts'
import { uploadOwnerOf } from './upload-owner.ts'
import type { UploadKey, UploadRow } from './uploads.ts'

/**
 * A writer keeps its upload for this time after it renewed its lease. It renews it while bytes arrive, so a writer whose
 * client sends nothing loses the upload to another one after this time.
 */
export const UPLOAD_LEASE_SECONDS = 9
/** The end of a lease that is further away was written by a clock that was ahead: the lease has ended. */
export const UPLOAD_LEASE_SECONDS_MAX = 2 * UPLOAD_LEASE_SECONDS

export type UploadClaim = UploadRow & {
  /** False when another writer holds the upload, or the upload does not have `start` bytes. */
  readonly claimed: boolean
  /** True when the previous writer never released its lease, and may still be writing. */
  readonly takenOver: boolean
  /** True when no other request can continue the upload. */
  readonly singleRequest: boolean
}

/** The writer that claims an upload. */
export type UploadWriter = {
  readonly lease: string
  /** The key of its process's lock. */
  readonly process: number | null
}

/**
 * Makes `writer` the only writer of the upload, provided that there is no other one and that the upload has `start`
 * bytes (when given). Another writer is gone when its lease has ended, or when its process does not hold its lock any
 * more. `digest` comes from the closing request. Returns undefined when the upload does not exist. Throws UNAUTHORIZED
 * when the actor's right was revoked.
 */
export async function claimUpload(
  db: Queryable,
  key: UploadKey,
  writer: UploadWriter,
  start: number | undefined,
  digest: Digest | undefined,
): Promise<UploadClaim | undefined> {
  const { rows } = await db.query<UploadClaim>(
    `with found as (
       select u.id, u.size, u.algorithm, u.stage, u.single_request,
              u.lease is not null as leased,
              case when u.lease is null
                     or u.lease_until not between now() and now() + make_interval(secs => $14) then true
                   else u.writer is not null and pg_try_advisory_xact_lock_shared($13, u.writer) end as free
         from uploads u, assert_unrevoked($9, $10, $11)
        where u.id = $1
          and u.actor = $3
          and u.expires_at > now()
          and u.created_at < coalesce($8::timestamptz, 'infinity')
          and u.repository_id = (select r.id from repositories r where r.name = $2)
          for update of u
     ), claimed as (
       update uploads
          set lease = $4,
              lease_until = now() + make_interval(secs => $5),
              writer = $12,
              digest = coalesce($7, uploads.digest),
              needs_cleanup = uploads.needs_cleanup or found.leased
         from found
        where uploads.id = found.id
          and found.free
          and found.size = coalesce($6::bigint, found.size)
       returning uploads.id
     )
     select found.id, found.size, found.algorithm, found.stage, found.single_request as "singleRequest",
            claimed.id is not null as claimed,
            found.leased and found.free as "takenOver"
       from found
       left join claimed on claimed.id = found.id`,
    [
      key.id,
      key.repository,
      uploadOwnerOf(key.actor),
      writer.lease,
      UPLOAD_LEASE_SECONDS,
      start ?? null,
      digest ?? null,
      key.startedBefore ?? null,
      ...rightsValues(key.actor),
      writer.process,
      PROCESS_LOCK_CLASS,
      UPLOAD_LEASE_SECONDS_MAX,
    ],
  )
  return rows[0]
}

/**
 * Renews the lease, also one that has ended while nobody claimed the upload. Returns false when the lease was lost: the
 * writer must stop. Throws UNAUTHORIZED when the writer's right was revoked.
 */
export async function renewLease(
  db: Queryable,
  id: string,
  writer: UploadWriter,
  rights: Rights,
): Promise<boolean> {
  const { rows } = await db.query<{ id: string }>(
    `update uploads
        set lease_until = now() + make_interval(secs => $3),
            writer = $4
       from assert_unrevoked($5, $6, $7)
      where id = $1
        and lease = $2
     returning id`,
    [id, writer.lease, UPLOAD_LEASE_SECONDS, writer.process, ...rightsValues(rights)],
  )
  return rows.length > 0
}

/** Releases the lease after a failure. The upload keeps its size. */
export async function releaseUpload(db: Queryable, id: string, lease: string): Promise<void> {
  await db.query(
    `update uploads
        set lease = null,
            lease_until = null,
            needs_cleanup = true
      where id = $1
        and lease = $2`,
    [id, lease],
  )
}

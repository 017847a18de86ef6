import type { Algorithm, Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import { type Actor, type Rights, rightsValues } from '../auth/audit.ts'
import type { Queryable } from '../database.ts'
import {
  DELETION_LEASE_SECONDS,
  QUEUED_DELETION_COLUMNS,
  type QueuedDeletion,
} from '../maintenance/deletion-queue.ts'
import type { BlobRow } from './blobs.ts'
import { ENSURE_REPOSITORY, type Visibility } from './repositories.ts'
import { uploadOwnerOf } from './upload-owner.ts'

export type UploadRow = {
  readonly id: string
  /** Bytes received and acknowledged. */
  readonly size: number
  readonly algorithm: Algorithm
  /** Written and read by the store only. */
  readonly stage: unknown
}

/** Uploads that an actor may have in progress at the same time. */
export const OPEN_UPLOADS_MAX = 1000

/** Identifies an upload: a session belongs to the repository and the owner that started it. */
export type UploadKey = {
  readonly id: string
  readonly repository: Repository
  readonly actor: Actor
  /** An upload that started later does not match. */
  readonly startedBefore?: Date | undefined
}

export type NewUpload = UploadKey & {
  readonly algorithm: Algorithm
  readonly stage: unknown
  /** The key of the lock of the process that starts it. */
  readonly writer: number | null
  /** True when no other request can continue it. */
  readonly singleRequest: boolean
}

/**
 * Starts an upload, and creates its repository when it does not exist. Throws TOOMANYREQUESTS when the actor
 * has `OPEN_UPLOADS_MAX` uploads in progress, and UNAUTHORIZED when its right was revoked. The commit does not wait for the
 * disk: after a power cut the client starts again, and the next commit that waits includes this one.
 */
export async function createUpload(
  db: Queryable,
  upload: NewUpload,
  visibility: Visibility,
  lifetimeSeconds: number,
): Promise<void> {
  await db.query(
    `with ${ENSURE_REPOSITORY}
     insert into uploads (id, repository_id, actor, algorithm, stage, expires_at, writer, single_request)
     select $3, repository.id, $4, $5, $6, now() + make_interval(secs => $7), $12, $13
       from repository, set_config('synchronous_commit', 'off', true), assert_unrevoked($8, $9, $10),
            assert_open_uploads_below($11, $4)`,
    [
      upload.repository,
      visibility,
      upload.id,
      uploadOwnerOf(upload.actor),
      upload.algorithm,
      JSON.stringify(upload.stage),
      lifetimeSeconds,
      ...rightsValues(upload.actor),
      OPEN_UPLOADS_MAX,
      upload.writer,
      upload.singleRequest,
    ],
  )
}

/** Returns undefined when the upload does not exist, is expired, or belongs to another actor. */
export async function findUpload(db: Queryable, key: UploadKey): Promise<UploadRow | undefined> {
  const { rows } = await db.query<UploadRow>(
    `select u.id, u.size, u.algorithm, u.stage
       from uploads u
       join repositories r on r.id = u.repository_id
      where u.id = $1
        and r.name = $2
        and u.actor = $3
        and u.expires_at > now()
        and u.created_at < coalesce($4::timestamptz, 'infinity')`,
    [key.id, key.repository, uploadOwnerOf(key.actor), key.startedBefore ?? null],
  )
  return rows[0]
}

/**
 * Records the appended bytes and releases the lease. Returns false when the lease was lost. Throws
 * UNAUTHORIZED when the writer's right was revoked.
 */
export async function advanceUpload(
  db: Queryable,
  id: string,
  lease: string,
  progress: { size: number; stage: unknown },
  lifetimeSeconds: number,
  rights: Rights,
): Promise<boolean> {
  const { rows } = await db.query<{ id: string }>(
    `update uploads
        set size = $3,
            stage = $4,
            lease = null,
            lease_until = null,
            expires_at = now() + make_interval(secs => $5)
       from assert_unrevoked($6, $7, $8)
      where id = $1
        and lease = $2
     returning id`,
    [
      id,
      lease,
      progress.size,
      JSON.stringify(progress.stage),
      lifetimeSeconds,
      ...rightsValues(rights),
    ],
  )
  return rows.length > 0
}

/** Replaces the stage that has the acknowledged bytes. Returns false when the lease was lost. */
export async function replaceStage(
  db: Queryable,
  id: string,
  lease: string,
  stage: unknown,
): Promise<boolean> {
  const { rows } = await db.query<{ id: string }>(
    `update uploads
        set stage = $3
      where id = $1
        and lease = $2
     returning id`,
    [id, lease, JSON.stringify(stage)],
  )
  return rows.length > 0
}

/** Records the digest of the upload's bytes. Returns false when the lease was lost. */
export async function recordDigest(
  db: Queryable,
  id: string,
  lease: string,
  digest: Digest,
): Promise<boolean> {
  const { rows } = await db.query<{ id: string }>(
    `update uploads
        set digest = $3
      where id = $1
        and lease = $2
     returning id`,
    [id, lease, digest],
  )
  return rows.length > 0
}

export type FinishedUpload = {
  /** The key of the blob's bytes: those of an earlier push when the blob existed already. */
  readonly storageKey: string
  /** True when the store is known to have lost those of the earlier push. */
  readonly lost: boolean
  /** The deletion of the new bytes, when the blob existed already. */
  readonly deletionId: number | null
  /** True when the repository did not have the blob. */
  readonly isNew: boolean
}

/**
 * Turns the committed bytes into a blob of the repository and ends the upload, if `lease` still holds
 * it. Returns undefined when the lease was lost. Throws UNAUTHORIZED when the writer's right was revoked.
 */
export async function finishUpload(
  db: Queryable,
  uploadId: string,
  lease: string,
  blob: BlobRow,
  rights: Rights,
): Promise<FinishedUpload | undefined> {
  const { rows } = await db.query<FinishedUpload>(
    `with finished as (
       delete from uploads
        using assert_unrevoked($7, $8, $9)
        where id = $1
          and lease = $2
       returning id, repository_id, needs_cleanup
     ), put as (
       insert into blobs (digest, size, storage_key)
       select $3, $4, $5
         from finished
           on conflict (digest) do update set touched_at = now(), unchecked = true
       returning id, storage_key, lost_at is not null as lost
     ), linked as (
       insert into repository_blobs (repository_id, blob_id)
       select finished.repository_id, put.id
         from finished, put
           on conflict do nothing
       returning repository_id
     ), duplicate as (
       insert into deletion_queue (storage_key, due_at)
       select $5, now() + make_interval(secs => $6)
         from put
        where storage_key <> $5
       returning id
     ), leftovers as (
       insert into deletion_queue (upload_id, digest, kept_key)
       select finished.id, $3, $5
         from finished
        where finished.needs_cleanup
     )
     select storage_key as "storageKey", lost, (select id from duplicate) as "deletionId",
            exists (select 1 from linked) as "isNew"
       from put`,
    [
      uploadId,
      lease,
      blob.digest,
      blob.size,
      blob.storageKey,
      DELETION_LEASE_SECONDS,
      ...rightsValues(rights),
    ],
  )
  return rows[0]
}

/** Marks that the store may hold bytes that the stage does not list: the end of the upload cleans up. */
export async function markNeedsCleanup(db: Queryable, id: string): Promise<void> {
  await db.query(
    `update uploads
        set needs_cleanup = true
      where id = $1`,
    [id],
  )
}

/**
 * Ends an upload and queues the deletion of its bytes, if `lease` still holds it: from then on nobody
 * can finish it. The deletion is left to the caller for `dueSeconds`. Returns the deletion, or undefined
 * when the lease was lost.
 */
export async function retireUpload(
  db: Queryable,
  id: string,
  lease: string,
  dueSeconds: number,
): Promise<QueuedDeletion | undefined> {
  const { rows } = await db.query<QueuedDeletion>(
    `with ended as (
       delete from uploads
        where id = $1
          and lease = $2
       returning id, digest
     )
     insert into deletion_queue (upload_id, digest, due_at)
     select id, digest, now() + make_interval(secs => $3)
       from ended
     returning ${QUEUED_DELETION_COLUMNS}`,
    [id, lease, dueSeconds],
  )
  return rows[0]
}

/** Counts the uploads in progress. */
export async function countUploads(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `select count(*) as count
       from uploads
      where expires_at > now()`,
  )
  return rows[0]?.count ?? 0
}

import type { Algorithm, Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import type { QueuedDeletion } from '../maintenance/deletion-queue.ts'
import type { Visibility } from './repositories.ts'

export type UploadRow = {
  readonly id: string
  /** Bytes received and acknowledged. */
  readonly size: number
  readonly algorithm: Algorithm
  /** The store's own bookmark. */
  readonly stage: unknown
}

/** Whose upload: a session belongs to the repository and the actor that started it. */
export type UploadKey = {
  readonly id: string
  readonly repository: Repository
  readonly actor: string
  /** Only one that was started before then. */
  readonly startedBefore?: Date | undefined
}

/**
 * Starts an upload, in a repository that the first push makes. The commit does not wait for the
 * disk: after a power cut the client starts again, and the next commit that waits includes this one.
 */
export async function createUpload(
  db: Queryable,
  upload: UploadKey & { readonly algorithm: Algorithm; readonly stage: unknown },
  visibility: Visibility,
  lifetimeSeconds: number,
): Promise<void> {
  await db.query(
    `with existing as (
       select id
         from repositories
        where name = $2
     ), created as (
       insert into repositories (name, visibility)
       select $2, $3
        where not exists (select 1 from existing)
           on conflict (name) do update set name = excluded.name
       returning id
     )
     insert into uploads (id, repository_id, actor, algorithm, stage, expires_at)
     select $1, r.id, $4, $5, $6, now() + make_interval(secs => $7)
       from (select id from existing union all select id from created) r,
            set_config('synchronous_commit', 'off', true)`,
    [
      upload.id,
      upload.repository,
      visibility,
      upload.actor,
      upload.algorithm,
      JSON.stringify(upload.stage),
      lifetimeSeconds,
    ],
  )
}

/** Undefined when there is no such upload, it expired, or somebody else started it. */
export async function findUpload(db: Queryable, key: UploadKey): Promise<UploadRow | undefined> {
  const { rows } = await db.query<UploadRow>(
    `select u.id, u.size, u.algorithm, u.stage
       from uploads u
       join repositories r on r.id = u.repository_id
      where u.id = $1
        and r.name = $2
        and u.actor = $3
        and u.expires_at > now()
        and ($4::timestamptz is null or u.created_at < $4)`,
    [key.id, key.repository, key.actor, key.startedBefore ?? null],
  )
  return rows[0]
}

export type UploadClaim = UploadRow & {
  /** False when another writer holds the upload, or it stands at another size than `start`. */
  readonly claimed: boolean
  /** True when the writer before never gave its lease back, and may still be writing. */
  readonly takenOver: boolean
}

/**
 * Makes `lease` the upload's only writer for a while, provided that nobody else is and that the
 * upload stands at `start` bytes (when given). `digest` is what the closing request says that it is.
 * Undefined when there is no such upload.
 */
export async function claimUpload(
  db: Queryable,
  key: UploadKey,
  lease: string,
  leaseSeconds: number,
  start: number | undefined,
  digest: Digest | undefined,
): Promise<UploadClaim | undefined> {
  const { rows } = await db.query<UploadClaim>(
    `with found as (
       select u.id, u.size, u.algorithm, u.stage,
              u.lease is not null as leased,
              u.lease is null or u.lease_until < now() as free
         from uploads u
        where u.id = $1
          and u.actor = $3
          and u.expires_at > now()
          and ($8::timestamptz is null or u.created_at < $8)
          and u.repository_id = (select r.id from repositories r where r.name = $2)
          for update
     ), claimed as (
       update uploads
          set lease = $4,
              lease_until = now() + make_interval(secs => $5),
              digest = coalesce($7, uploads.digest),
              untidy = uploads.untidy or found.leased
         from found
        where uploads.id = found.id
          and found.free
          and ($6::bigint is null or found.size = $6)
       returning uploads.id
     )
     select found.id, found.size, found.algorithm, found.stage,
            claimed.id is not null as claimed,
            found.leased and found.free as "takenOver"
       from found
       left join claimed on claimed.id = found.id`,
    [
      key.id,
      key.repository,
      key.actor,
      lease,
      leaseSeconds,
      start ?? null,
      digest ?? null,
      key.startedBefore ?? null,
    ],
  )
  return rows[0]
}

/** False when the lease was lost: the writer must stop. */
export async function renewLease(
  db: Queryable,
  id: string,
  lease: string,
  leaseSeconds: number,
): Promise<boolean> {
  const { rows } = await db.query<{ id: string }>(
    `update uploads
        set lease_until = now() + make_interval(secs => $3)
      where id = $1
        and lease = $2
     returning id`,
    [id, lease, leaseSeconds],
  )
  return rows.length > 0
}

/** Records what was appended and gives the lease back. False when the lease was lost. */
export async function advanceUpload(
  db: Queryable,
  id: string,
  lease: string,
  progress: { size: number; stage: unknown },
  lifetimeSeconds: number,
): Promise<boolean> {
  const { rows } = await db.query<{ id: string }>(
    `update uploads
        set size = $3,
            stage = $4,
            lease = null,
            lease_until = null,
            expires_at = now() + make_interval(secs => $5)
      where id = $1
        and lease = $2
     returning id`,
    [id, lease, progress.size, JSON.stringify(progress.stage), lifetimeSeconds],
  )
  return rows.length > 0
}

/** Puts the acknowledged bytes elsewhere. False when the lease was lost. */
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

/** Says what the upload is to become, as soon as it is known. False when the lease was lost. */
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

/** Gives the lease back after a failure, and leaves the upload where it stood. */
export async function releaseUpload(db: Queryable, id: string, lease: string): Promise<void> {
  await db.query(
    `update uploads
        set lease = null,
            lease_until = null,
            untidy = true
      where id = $1
        and lease = $2`,
    [id, lease],
  )
}

/** More lies in the store than the upload's stage tells: its end has to look for it. */
export async function markNeedsCleanup(db: Queryable, id: string): Promise<void> {
  await db.query(
    `update uploads
        set untidy = true
      where id = $1`,
    [id],
  )
}

/**
 * Ends an upload and queues the removal of its bytes, if `lease` still holds it: from here on nobody
 * can finish it. The removal is left to the caller for `dueSeconds`. Returns the removal to do, or undefined when the lease was lost.
 */
export async function retireUpload(
  db: Queryable,
  id: string,
  lease: string,
  dueSeconds: number,
): Promise<QueuedDeletion | undefined> {
  const { rows } = await db.query<QueuedDeletion>(
    `with gone as (
       delete from uploads
        where id = $1
          and lease = $2
       returning id, digest
     )
     insert into removals (upload_id, digest, due_at)
     select id, digest, now() + make_interval(secs => $3)
       from gone
     returning id, storage_key as "storageKey",
               json_build_object('id', upload_id, 'digest', digest, 'keptKey', kept_key) as upload`,
    [id, lease, dueSeconds],
  )
  return rows[0]
}

/**
 * Ends up to `limit` uploads that expired and have no writer, and queues the removal of their bytes.
 * Returns how many.
 */
export async function retireExpiredUploads(db: Queryable, limit: number): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `with gone as (
       delete from uploads
        where id in (
          select id
            from uploads
           where expires_at < now()
             and (lease is null or lease_until < now())
           order by expires_at
           limit $1
             for update skip locked
        )
       returning id, digest
     ), queued as (
       insert into removals (upload_id, digest)
       select id, digest
         from gone
     )
     select count(*) as count
       from gone`,
    [limit],
  )
  return rows[0]?.count ?? 0
}

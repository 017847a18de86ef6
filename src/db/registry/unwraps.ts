import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'
import { IMAGE_TAGS_MAX } from '../images/image-lists.ts'

/** The image of a kernel in a container image. */
export type NewUnwrappedImage = {
  readonly repositoryId: number
  readonly digest: Digest
  readonly mediaType: string
  readonly artifactType: string | undefined
  readonly annotations: Readonly<Record<string, string>> | undefined
  readonly bytes: Uint8Array
  /** The container image, which the transaction has locked. */
  readonly container: Digest
  readonly blobIds: readonly number[]
  readonly pushedBy: string
  readonly analyzerVersion: number
}

/** Puts the manifest of an unwrapped image. Returns how many of its blobs the repository still has. */
export async function putUnwrappedImage(
  tx: Transaction,
  image: NewUnwrappedImage,
): Promise<number> {
  const { rows } = await tx.query<{ blobs: number }>(
    `with put as (
       insert into manifests
              (repository_id, digest, media_type, artifact_type, subject, annotations, bytes,
               pushed_by, analyzer_version, unwrapped_from)
       select $1, $2, $3, $4, $5, $6, $7, $8, $9, c.id
         from manifests c
        where c.repository_id = $1
          and c.digest = $5
           on conflict (repository_id, digest) do update
          set unwrapped_from = excluded.unwrapped_from
       returning id
     ), blob_edges as (
       insert into manifest_blobs (manifest_id, blob_id, repository_id)
       select put.id, b.id, $1
         from put, unnest($10::bigint[]) as b (id)
           on conflict do nothing
     )
     select (
              select count(*)
                from repository_blobs
               where repository_id = $1
                 and blob_id = any($10::bigint[])
            ) as blobs
       from put`,
    [
      image.repositoryId,
      image.digest,
      image.mediaType,
      image.artifactType ?? null,
      image.container,
      image.annotations === undefined ? null : JSON.stringify(image.annotations),
      image.bytes,
      image.pushedBy,
      image.analyzerVersion,
      image.blobIds,
    ],
  )
  const row = rows[0]
  if (row === undefined) throw new Error(`${image.container} is locked, but missing`)
  return row.blobs
}

/** Keeps the unwrapped images of a container image that have a tag of their own, when it is removed. */
export async function keepTaggedUnwrapped(
  tx: Transaction,
  repositoryId: number,
  container: Digest,
): Promise<void> {
  await tx.query(
    `update manifests u
        set unwrapped_from = null
       from manifests c
      where c.repository_id = $1
        and c.digest = $2
        and u.unwrapped_from = c.id
        and exists (
          select 1
            from tags t
           where t.repository_id = u.repository_id
             and t.digest = u.digest
        )`,
    [repositoryId, container],
  )
}

/** True when the client has read the container image lately, or mounted the layer with the kernel: its push is a copy. */
export async function isCopyOfContainer(
  tx: Transaction,
  repositoryId: number,
  client: string,
  container: Digest,
  layer: Digest,
  seconds: number,
): Promise<boolean> {
  const { rows } = await tx.query<{ copy: boolean }>(
    `select exists (
              select 1
                from manifest_reads r
               where r.reader = $2
                 and r.manifest_digest = $3
                 and r.read_at between clock_timestamp() - make_interval(secs => $5)
                                   and clock_timestamp() + make_interval(secs => $5)
            ) or exists (
              select 1
                from blobs b
                join repository_blobs rb on rb.blob_id = b.id and rb.repository_id = $1
               where b.digest = $4
                 and rb.mounted_by = $2
                 and rb.mounted_at between clock_timestamp() - make_interval(secs => $5)
                                       and clock_timestamp() + make_interval(secs => $5)
            ) as copy`,
    [repositoryId, client, container, layer, seconds],
  )
  return rows[0]?.copy === true
}

/** The state of a container image: layers that are left to read, or the reason why kernels may be missing. */
export type UnwrapState = {
  readonly isPending: boolean
  readonly problem: string | undefined
  readonly builderOrigin: string | null
}

/** Records the state of a container image of the transaction. Without anything to record, the row goes. */
export async function putUnwrapState(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
  { isPending, problem, builderOrigin }: UnwrapState,
): Promise<void> {
  await tx.query(
    `with container as (
       select id
         from manifests
        where repository_id = $1
          and digest = $2
     ), done as (
       delete from unwraps
        where manifest_id = (select id from container)
          and not $3
          and $4::text is null
     )
     insert into unwraps (manifest_id, is_pending, problem, builder_origin)
     select id, $3, $4, $5
       from container
      where $3
         or $4 is not null
         on conflict (manifest_id) do update
        set is_pending = excluded.is_pending,
            problem = excluded.problem,
            builder_origin = excluded.builder_origin,
            attempts = 0,
            due_at = now()`,
    [repositoryId, digest, isPending, problem ?? null, builderOrigin],
  )
}

/** A container image whose layers are read in the background. */
export type PendingUnwrap = {
  readonly manifestId: number
  readonly repositoryId: number
  readonly repository: Repository
  readonly digest: Digest
  readonly mediaType: string
  readonly bytes: Buffer
  readonly pushedBy: string
  readonly builderOrigin: string | null
  readonly attempts: number
}

/** Claims a container image that is due, until the lease ends. Undefined when none is. */
export async function claimUnwrap(
  db: Queryable,
  leaseSeconds: number,
): Promise<PendingUnwrap | undefined> {
  const { rows } = await db.query<PendingUnwrap>(
    `with claimed as (
       update unwraps
          set due_at = now() + make_interval(secs => $1),
              attempts = attempts + 1
        where manifest_id = (
                select manifest_id
                  from unwraps
                 where is_pending
                   -- Nothing is due later than a lease, unless the clock was ahead.
                   and (due_at <= now() or due_at > now() + make_interval(secs => $1))
                 order by due_at
                 limit 1
                   for update skip locked
              )
       returning manifest_id, builder_origin, attempts
     )
     select m.id as "manifestId", m.repository_id as "repositoryId", r.name as repository, m.digest,
            m.media_type as "mediaType", m.bytes, m.pushed_by as "pushedBy",
            claimed.builder_origin as "builderOrigin", claimed.attempts
       from claimed
       join manifests m on m.id = claimed.manifest_id
       join repositories r on r.id = m.repository_id`,
    [leaseSeconds],
  )
  return rows[0]
}

/** Sets when a claimed container image is tried again. */
export async function postponeUnwrap(
  db: Queryable,
  manifestId: number,
  seconds: number,
): Promise<void> {
  await db.query(
    `update unwraps
        set due_at = now() + make_interval(secs => $2)
      where manifest_id = $1`,
    [manifestId, seconds],
  )
}

/** Lists the tags of a manifest and of the indexes that list it, the first by name. */
export async function listTagsOf(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
): Promise<Tag[]> {
  const { rows } = await tx.query<{ name: Tag }>(
    `select name
       from tags
      where repository_id = $1
        and digest in (
          select $2::text collate "C"
          union
          select p.digest
            from manifest_children c
            join manifests p on p.id = c.manifest_id
           where c.repository_id = $1
             and c.digest = $2
        )
      order by name
      limit ${IMAGE_TAGS_MAX}`,
    [repositoryId, digest],
  )
  return rows.map(({ name }) => name)
}

/** Finds the state of a manifest. Undefined when nothing is left to do, and nothing is missing. */
export async function findUnwrapState(
  db: Queryable,
  repositoryId: number,
  digest: Digest,
): Promise<Pick<UnwrapState, 'isPending' | 'problem'> | undefined> {
  const { rows } = await db.query<{ isPending: boolean; problem: string | null }>(
    `select u.is_pending as "isPending", u.problem
       from manifests m
       join unwraps u on u.manifest_id = m.id
      where m.repository_id = $1
        and m.digest = $2`,
    [repositoryId, digest],
  )
  const row = rows[0]
  return row && { isPending: row.isPending, problem: row.problem ?? undefined }
}

import { Batcher } from '../../async/batcher.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import { DELETION_LEASE_SECONDS } from '../maintenance/deletion-queue.ts'
import type { View } from './repositories.ts'

export type BlobRow = {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  readonly storageKey: string
}

export type FoundBlob = BlobRow & {
  /** True when nobody touched it for longer than the question said. */
  readonly stale: boolean
}

/** `repositoryId` is null when the view has no such repository, `blob` when the repository lacks it. */
export type BlobLookup = {
  readonly repositoryId: number | null
  readonly blob: FoundBlob | undefined
}

type BlobQuestion = { readonly view: View; readonly digest: Digest }

const LOOKUPS_A_QUERY_MAX = 256

export type BlobLookups = { load(question: BlobQuestion): Promise<BlobLookup> }

/** Lookups that share round trips; see `Batch`. */
export function blobLookups(db: Queryable, staleSeconds: number): BlobLookups {
  return new Batcher((questions) => findBlobs(db, questions, staleSeconds), LOOKUPS_A_QUERY_MAX)
}

type BlobLookupRow = { repositoryId: number | null } & (
  | { digest: Digest; size: number; storageKey: string; stale: boolean }
  | { digest: null; size: null; storageKey: null; stale: null }
)

async function findBlobs(
  db: Queryable,
  questions: readonly BlobQuestion[],
  staleSeconds: number,
): Promise<BlobLookup[]> {
  // `limit 1` keeps each lookup an index probe, whatever the planner thinks of the tables' sizes.
  const { rows } = await db.query<BlobLookupRow>(
    `select r.id as "repositoryId", b.digest, b.size, b.storage_key as "storageKey", b.stale
       from unnest($1::text[], $2::bool[], $3::text[])
            with ordinality as k (name, public_only, digest, position)
       left join lateral (
         select id
           from repositories
          where name = k.name
            and (visibility = 'public' or not k.public_only)
          limit 1
       ) r on true
       left join lateral (
         select digest, size, storage_key,
                touched_at <= now() - make_interval(secs => $4) as stale
           from blobs
          where digest = k.digest
            and exists (
              select 1
                from repository_blobs rb
               where rb.repository_id = r.id
                 and rb.blob_id = blobs.id
            )
          limit 1
       ) b on true
      order by k.position`,
    [
      questions.map(({ view }) => view.repository),
      questions.map(({ view }) => view.publicOnly),
      questions.map(({ digest }) => digest),
      staleSeconds,
    ],
  )
  return rows.map((row) => ({
    repositoryId: row.repositoryId,
    blob: row.digest === null ? undefined : row,
  }))
}

export type FinishedUpload = {
  /** The key that the blob has now. */
  readonly storageKey: string
  /** The removal of the bytes that were not needed: the same were here already. */
  readonly removalId: number | null
}

/**
 * Takes the stored bytes over into the repository and ends the upload, if `lease` still holds it.
 * Undefined when the lease was lost.
 */
export async function finishUpload(
  db: Queryable,
  uploadId: string,
  lease: string,
  blob: BlobRow,
): Promise<FinishedUpload | undefined> {
  const { rows } = await db.query<FinishedUpload>(
    `with finished as (
       delete from uploads
        where id = $1
          and lease = $2
       returning id, repository_id, untidy
     ), put as (
       insert into blobs (digest, size, storage_key)
       select $3, $4, $5
         from finished
           on conflict (digest) do update set touched_at = now(), unchecked = true
       returning id, storage_key
     ), held as (
       insert into repository_blobs (repository_id, blob_id)
       select finished.repository_id, put.id
         from finished, put
           on conflict do nothing
     ), doubled as (
       insert into removals (storage_key, due_at)
       select $5, now() + make_interval(secs => $6)
         from put
        where storage_key <> $5
       returning id
     ), untidy as (
       insert into removals (upload_id, digest, kept_key)
       select finished.id, $3, put.storage_key
         from finished, put
        where finished.untidy
     )
     select storage_key as "storageKey", (select id from doubled) as "removalId"
       from put`,
    [uploadId, lease, blob.digest, blob.size, blob.storageKey, DELETION_LEASE_SECONDS],
  )
  return rows[0]
}

/**
 * Makes a blob of `from`, or of any repository in view when `from` is undefined, also a blob of the
 * repository. In view is what is public, and what `visible` expressions match. False when there is none to be had.
 */
export async function mountBlob(
  db: Queryable,
  repositoryId: number,
  digest: Digest,
  from: Repository | undefined,
  visible: readonly string[],
): Promise<boolean> {
  const { rows } = await db.query<{ id: number }>(
    `with source as (
       select b.id
         from blobs b
        where b.digest = $2
          and exists (
            select 1
              from repository_blobs rb
              join repositories r on r.id = rb.repository_id
             where rb.blob_id = b.id
               and ($3::text is null or r.name = $3)
               and (r.visibility = 'public' or r.name ~ any($4))
          )
     ), touched as (
       update blobs
          set touched_at = now(),
              unchecked = true
         from source
        where blobs.id = source.id
       returning blobs.id
     ), held as (
       insert into repository_blobs (repository_id, blob_id)
       select $1, id
         from touched
           on conflict do nothing
     )
     select id
       from touched`,
    [repositoryId, digest, from ?? null, visible],
  )
  return rows.length > 0
}

/** The bytes stay for other repositories, and otherwise for the garbage sweeper. */
export async function removeBlob(
  db: Queryable,
  repository: Repository,
  digest: Digest,
): Promise<'removed' | 'blob unknown' | 'repository unknown'> {
  const { rows } = await db.query<{ removed: boolean }>(
    `with gone as (
       delete from repository_blobs rb
        using repositories r, blobs b
        where r.name = $1
          and b.digest = $2
          and rb.repository_id = r.id
          and rb.blob_id = b.id
       returning rb.blob_id
     )
     select exists (select 1 from gone) as removed
       from repositories
      where name = $1`,
    [repository, digest],
  )
  const row = rows[0]
  if (row === undefined) return 'repository unknown'
  return row.removed ? 'removed' : 'blob unknown'
}

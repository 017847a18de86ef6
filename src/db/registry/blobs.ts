import { Batcher } from '../../async/batcher.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import { type Actor, rightsValues } from '../auth/audit.ts'
import { given, withConditions } from '../conditions.ts'
import type { Database, Queryable, Transaction } from '../database.ts'
import { RANGE_COLUMNS, REPOSITORY_IN_RANGE, type VisibleNames } from '../name-patterns.ts'
import { RememberedLookups } from '../remembered-lookups.ts'
import {
  ENSURE_REPOSITORY,
  JOIN_VISIBLE_REPOSITORY,
  type View,
  type Visibility,
  viewKey,
} from './repositories.ts'

export type BlobRow = {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  readonly storageKey: string
}

export type FoundBlob = BlobRow & {
  /** When it is stale, by `performance.now()`: nobody touched it for the lookup's `staleSeconds` by then. */
  readonly staleAt: number
}

/**
 * `repositoryId` is null when the view has no such repository; `blob` is undefined when the repository
 * does not have the blob.
 */
export type BlobLookup = {
  readonly repositoryId: number | null
  readonly blob: FoundBlob | undefined
}

type BlobQuestion = { readonly view: View; readonly digest: Digest }

const LOOKUPS_A_QUERY_MAX = 256
const ANSWERS_MAX = 50_000

export type BlobLookups = { load(question: BlobQuestion): Promise<BlobLookup> }

/** Lookups that share round trips (see `Batcher`), or are answered from memory (see `ContentLease`). */
export function blobLookups(db: Database, staleSeconds: number): BlobLookups {
  const batcher = new Batcher<BlobQuestion, BlobLookup>(
    (questions) => findBlobs(db, questions, staleSeconds),
    LOOKUPS_A_QUERY_MAX,
  )
  return new RememberedLookups<BlobQuestion, BlobLookup>(db.content, {
    answersMax: ANSWERS_MAX,
    load: (question) => batcher.load(question),
    keyOf: ({ view, digest }) => `${viewKey(view)} ${digest}`,
    isFound: ({ blob }) => blob !== undefined && performance.now() < blob.staleAt,
    recall: (answer) =>
      answer.blob !== undefined && performance.now() < answer.blob.staleAt ? answer : undefined,
  })
}

type BlobLookupRow = { repositoryId: number | null } & (
  | { digest: Digest; size: number; storageKey: string; freshSeconds: number }
  | { digest: null; size: null; storageKey: null; freshSeconds: null }
)

async function findBlobs(
  db: Queryable,
  questions: readonly BlobQuestion[],
  staleSeconds: number,
): Promise<BlobLookup[]> {
  const askedAt = performance.now()
  // `limit 1` keeps each lookup an index probe, regardless of the planner's estimates.
  const { rows } = await db.query<BlobLookupRow>(
    `select r.id as "repositoryId", b.digest, b.size, b.storage_key as "storageKey",
            b.fresh_seconds as "freshSeconds"
       from unnest($1::text[], $2::bool[], $3::text[])
            with ordinality as k (name, public_only, digest, position)
       ${JOIN_VISIBLE_REPOSITORY}
       left join lateral (
         select digest, size, storage_key,
                extract(epoch from touched_at - now())::float8 + $4 as fresh_seconds
           from blobs
          where digest = k.digest
            and lost_at is null
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
    blob: row.digest === null ? undefined : foundBlob(row, askedAt),
  }))
}

function foundBlob(
  { digest, size, storageKey, freshSeconds }: BlobLookupRow & { digest: Digest },
  askedAt: number,
): FoundBlob {
  return { digest, size, storageKey, staleAt: askedAt + freshSeconds * 1000 }
}

/**
 * Adds a blob of `from` to the repository; undefined `from` means any visible repository. Visible are
 * public repositories, and those in `visible`. Undefined when no visible repository has the blob, or it is lost; `isNew` is
 * true when the target did not have it. Throws UNAUTHORIZED when the actor's right was revoked.
 */
export async function mountBlob(
  db: Queryable,
  target: { readonly repository: Repository; readonly visibility: Visibility },
  digest: Digest,
  from: Repository | undefined,
  visible: VisibleNames,
  actor: Actor,
): Promise<{ readonly isNew: boolean } | undefined> {
  const statement = withConditions(
    `with ${ENSURE_REPOSITORY}, source as (
       select b.id
         from blobs b, assert_unrevoked($5, $6, $7)
        where b.digest = $3
          and b.lost_at is null
          and exists (
            select 1
              from repository_blobs rb
              join repositories r on r.id = rb.repository_id
             where rb.blob_id = b.id
               {from}
               and (r.visibility = 'public' or exists (
              select 1
                from json_to_recordset($4::json) as g (${RANGE_COLUMNS})
               where ${REPOSITORY_IN_RANGE}))
          )
     ), touched as (
       update blobs
          set touched_at = now(),
              unchecked = true
         from source
        where blobs.id = source.id
       returning blobs.id
     ), held as (
       insert into repository_blobs (repository_id, blob_id, mounted_by, mounted_at)
       select repository.id, touched.id, $8, now()
         from repository, touched
           on conflict (repository_id, blob_id) do update
          set mounted_by = excluded.mounted_by,
              mounted_at = excluded.mounted_at
       returning xmax = 0 as is_new
     )
     select is_new as "isNew"
       from held`,
    [
      target.repository,
      target.visibility,
      digest,
      visible,
      ...rightsValues(actor),
      actor.origin ?? actor.name,
    ],
    { from: given('and r.name = $', from) },
  )
  const { rows } = await db.query<{ isNew: boolean }>(...statement)
  return rows[0]
}

/**
 * Removes the blob from the repository. Its bytes stay for other repositories, or until garbage
 * collection.
 */
export async function removeBlob(
  db: Queryable,
  repository: Repository,
  digest: Digest,
): Promise<'removed' | 'blob unknown' | 'repository unknown'> {
  const { rows } = await db.query<{ removed: boolean }>(
    `with locked as (
       select id
         from blobs
        where digest = $2
          for update
     ), gone as (
       delete from repository_blobs rb
        using repositories r, locked b
        where r.name = $1
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

/**
 * Takes blobs out of the repository that none of its manifests references. Their bytes stay for other
 * repositories, or until garbage collection.
 */
export async function withdrawBlobs(
  db: Queryable,
  repository: Repository,
  digests: readonly Digest[],
): Promise<void> {
  await db.query(
    `with unlocked as (
       select id
         from blobs
        where digest = any($2::text[])
        order by id
          for update skip locked
     )
     delete from repository_blobs rb
      using repositories r, unlocked b
      where r.name = $1
        and rb.repository_id = r.id
        and rb.blob_id = b.id
        and not exists (
          select 1
            from manifest_blobs mb
           where mb.blob_id = b.id
             and mb.repository_id = r.id
        )`,
    [repository, digests],
  )
}

/**
 * Restarts the grace period of a blob. Returns false when a sweep removed the blob, it is lost, or it has other bytes by
 * now.
 */
export async function touchBlob(
  db: Queryable,
  digest: Digest,
  storageKey: string,
): Promise<boolean> {
  const { rows } = await db.query<{ id: number }>(
    `update blobs
        set touched_at = now(),
            unchecked = true
      where digest = $1
        and storage_key = $2
        and lost_at is null
     returning id`,
    [digest, storageKey],
  )
  return rows.length > 0
}

/**
 * Restarts the grace period of the blobs of a manifest, and of the images unwrapped from it, before they are removed, because a sweep must
 * check them again: possibly no other manifest references them.
 */
export async function touchBlobsOf(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
): Promise<void> {
  // Locked in the order of ids, so that two requests that remove manifests with common blobs wait for each other
  // instead of deadlocking. The lock is a statement of its own: an update that waits for a row would
  // still see the rows as they were before it waited.
  const { rows } = await tx.query<{ id: number }>(
    `select b.id
       from blobs b
      where b.id in (
        select mb.blob_id
          from manifests m
          join manifest_blobs mb on mb.manifest_id = m.id
         where m.repository_id = $1
           and m.digest = $2
        union all
        select mb.blob_id
          from manifests m
          join manifests u on u.unwrapped_from = m.id
          join manifest_blobs mb on mb.manifest_id = u.id
         where m.repository_id = $1
           and m.digest = $2
      )
      order by b.id
        for no key update`,
    [repositoryId, digest],
  )
  if (rows.length === 0) return
  await tx.query(
    `update blobs
        set touched_at = now(),
            unchecked = true
      where id = any($1::bigint[])`,
    [rows.map(({ id }) => id)],
  )
}

import type { Digest } from '../../oci/digest.ts'
import type { Queryable, Transaction } from '../database.ts'

export type GarbageRow = {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
}

/**
 * Locks up to `limit` blobs that nobody touched for so long and that no sweep has looked at since.
 * Pushes hold such a row for as long as they name it, and those are passed over.
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
 * Of blobs that this transaction has locked, removes those that no manifest names, with every hold of
 * a repository, and queues the removal of their bytes. The others count as checked. It must be a
 * statement of its own: only what it sees now includes the push that held a row a moment ago.
 */
export async function removeUnreferencedBlobs(
  tx: Transaction,
  ids: readonly number[],
): Promise<GarbageRow[]> {
  const { rows } = await tx.query<GarbageRow>(
    `with judged as (
       select b.id,
              exists (
                select 1
                  from manifest_blobs mb
                 where mb.blob_id = b.id
              ) as named
         from unnest($1::bigint[]) as b (id)
     ), kept as (
       update blobs
          set unchecked = false
         from judged
        where blobs.id = judged.id
          and judged.named
     ), let_go as (
       delete from repository_blobs
        using judged
        where repository_blobs.blob_id = judged.id
          and not judged.named
     ), gone as (
       delete from blobs
        using judged
        where blobs.id = judged.id
          and not judged.named
       returning blobs.digest, blobs.size, blobs.storage_key
     ), queued as (
       insert into removals (storage_key)
       select storage_key
         from gone
     )
     select digest, size
       from gone`,
    [ids],
  )
  return rows
}

/** What a sweep would remove, after `after` in the order of digests. */
export async function listGarbage(
  db: Queryable,
  graceSeconds: number,
  after: string,
  limit: number,
): Promise<GarbageRow[]> {
  const { rows } = await db.query<GarbageRow>(
    `select digest, size
       from blobs b
      where unchecked
        and touched_at <= now() - make_interval(secs => $1)
        and digest > $2
        and not exists (
          select 1
            from manifest_blobs mb
           where mb.blob_id = b.id
        )
      order by digest
      limit $3`,
    [graceSeconds, after, limit],
  )
  return rows
}

/** How many uploads expired and wait for a sweep, and how many removals are queued. */
export async function countPendingCleanup(
  db: Queryable,
): Promise<{ expiredUploads: number; queuedRemovals: number }> {
  const { rows } = await db.query<{ expiredUploads: number; queuedRemovals: number }>(
    `select (
              select count(*)
                from uploads
               where expires_at < now()
                 and (lease is null or lease_until < now())
            ) as "expiredUploads",
            (select count(*) from removals) as "queuedRemovals"`,
  )
  const row = rows[0]
  if (row === undefined) throw new Error('a select of scalars answers with one row')
  return row
}

/**
 * Starts the grace period of a blob anew. False when the bytes under this key are not the blob's any
 * more: a sweep was faster.
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
     returning id`,
    [digest, storageKey],
  )
  return rows.length > 0
}

/** Before a manifest goes: its blobs may be nobody's then, and a sweep has to look at them again. */
export async function touchBlobsOf(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
): Promise<void> {
  // Locked in the order of ids: two removals of manifests that share blobs then wait. A statement of
  // its own: one that also updates would meet the rows as they were before it waited.
  const { rows } = await tx.query<{ id: number }>(
    `select b.id
       from blobs b
      where b.id in (
        select mb.blob_id
          from manifests m
          join manifest_blobs mb on mb.manifest_id = m.id
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

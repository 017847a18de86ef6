import type { Digest } from '../../oci/digest.ts'
import type { Queryable } from '../database.ts'
import { DELETION_LEASE_SECONDS } from '../maintenance/deletion-queue.ts'

/** A lost blob; `isNew` is false when it was marked before. */
export type LostBlob = { readonly digest: Digest; readonly isNew: boolean }

/**
 * Marks the blob with this key as lost: from then on it is unknown to clients. `storedSize` is the size of its bytes in
 * the store, undefined when there are none. Returns undefined when no blob has the key, or its bytes have the right size.
 */
export async function markWrongSize(
  db: Queryable,
  storageKey: string,
  storedSize: number | undefined,
): Promise<LostBlob | undefined> {
  const { rows } = await db.query<LostBlob>(
    `update blobs
        set lost_at = coalesce(lost_at, now())
      where storage_key = $1
        and size is distinct from $2
     returning digest, lost_at = now() as "isNew"`,
    [storageKey, storedSize ?? null],
  )
  return rows[0]
}

/** Marks the blob with this key as lost, also when its bytes have the right size. */
export async function markLost(db: Queryable, storageKey: string): Promise<void> {
  await db.query(
    `update blobs
        set lost_at = now()
      where storage_key = $1
        and lost_at is null`,
    [storageKey],
  )
}

/** Clears the mark of the blob with this key, because the store has its bytes. */
export async function clearLost(db: Queryable, storageKey: string): Promise<void> {
  await db.query(
    `update blobs
        set lost_at = null
      where storage_key = $1`,
    [storageKey],
  )
}

/** Clears the marks of all blobs but these. */
export async function clearLostExcept(db: Queryable, lost: readonly Digest[]): Promise<void> {
  await db.query(
    `update blobs
        set lost_at = null
      where lost_at is not null
        and digest <> all($1::text[])`,
    [lost],
  )
}

/** The bytes that a blob has, according to its row. */
export type BlobBytes = { readonly storageKey: string; readonly lost: boolean }

/** Returns undefined when no repository has the blob. */
export async function findBlobBytes(db: Queryable, digest: Digest): Promise<BlobBytes | undefined> {
  const { rows } = await db.query<BlobBytes>(
    `select storage_key as "storageKey", lost_at is not null as lost
       from blobs
      where digest = $1`,
    [digest],
  )
  return rows[0]
}

/**
 * Gives a blob, in all repositories that have it, the bytes of a push instead of those under `lostKey`, whose deletion is
 * queued. `deletionId` is the deletion of the new bytes, which ends; it must not be claimed by a sweep yet. Returns false
 * when the blob has other bytes by now, or the deletion was due.
 */
export async function replaceLostBytes(
  db: Queryable,
  digest: Digest,
  lostKey: string,
  storageKey: string,
  deletionId: number,
): Promise<boolean> {
  const { rows } = await db.query<{ id: number }>(
    `with mine as (
       select id
         from deletion_queue
        where id = $4
          and queued_at > now() - make_interval(secs => $5)
          for update
     ), replaced as (
       update blobs
          set storage_key = $3,
              lost_at = null,
              replaced_at = now(),
              touched_at = now(),
              unchecked = true
        where digest = $1
          and storage_key = $2
          and exists (select 1 from mine)
       returning blobs.id
     ), kept as (
       delete from deletion_queue
        using mine, replaced
        where deletion_queue.id = mine.id
     ), queued as (
       insert into deletion_queue (storage_key)
       select $2
         from replaced
     )
     select id
       from replaced`,
    [digest, lostKey, storageKey, deletionId, DELETION_LEASE_SECONDS],
  )
  return rows.length > 0
}

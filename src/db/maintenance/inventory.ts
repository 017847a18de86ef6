import type { Digest } from '../../oci/digest.ts'
import type { Queryable } from '../database.ts'

/** A blob as scrub and copy need it. */
export type InventoryRow = {
  readonly id: number
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  readonly storageKey: string
  /** True when the store is known to miss its bytes, or to have wrong ones. */
  readonly lost: boolean
}

/** Lists blobs after the id `after`; newer blobs have larger ids. */
export async function listBlobs(
  db: Queryable,
  after: number,
  limit: number,
): Promise<InventoryRow[]> {
  const { rows } = await db.query<InventoryRow>(
    `select id, digest, size, storage_key as "storageKey", lost_at is not null as lost
       from blobs
      where id > $1
      order by id
      limit $2`,
    [after, limit],
  )
  return rows
}

/** Lists the blobs after the id `after` and up to `last` whose bytes a push replaced: their keys are newer than their ids. */
export async function listReplacedBlobs(
  db: Queryable,
  after: number,
  last: number,
  limit: number,
): Promise<InventoryRow[]> {
  const { rows } = await db.query<InventoryRow>(
    `select id, digest, size, storage_key as "storageKey", lost_at is not null as lost
       from blobs
      where id > $1
        and id <= $2
        and replaced_at is not null
      order by id
      limit $3`,
    [after, last, limit],
  )
  return rows
}

/** Returns the keys of the oldest and the newest blobs that are not lost, up to `limit` of each. */
export async function sampleKeys(db: Queryable, limit: number): Promise<string[]> {
  const { rows } = await db.query<{ key: string }>(
    `(select storage_key as key from blobs where lost_at is null order by id limit $1)
      union
     (select storage_key as key from blobs where lost_at is null order by id desc limit $1)`,
    [limit],
  )
  return rows.map(({ key }) => key)
}

/** True while the blob still has its bytes under this key. */
export async function isStillReferenced(db: Queryable, blob: InventoryRow): Promise<boolean> {
  const { rows } = await db.query<{ id: number }>(
    `select id
       from blobs
      where id = $1
        and storage_key = $2`,
    [blob.id, blob.storageKey],
  )
  return rows.length > 0
}

/**
 * Finds the keys and uploads that a row references: a key of a blob, an upload in progress, or either
 * in the deletion queue. One statement reads all of them, because one statement turns an upload into a
 * blob: no moment in between is visible.
 */
export async function findReferenced(
  db: Queryable,
  keys: readonly string[],
  uploads: readonly string[],
): Promise<{ keys: ReadonlySet<string>; uploads: ReadonlySet<string> }> {
  const { rows } = await db.query<{ key: string | null; upload: string | null }>(
    `select storage_key as key, null as upload
       from blobs
      where storage_key = any($1::text[])
     union all
     select storage_key, null
       from deletion_queue
      where storage_key = any($1::text[])
     union all
     select null, id::text
       from uploads
      where id = any($2::uuid[])
     union all
     select null, upload_id::text
       from deletion_queue
      where upload_id = any($2::uuid[])`,
    [keys, uploads],
  )
  const found = <T>(values: (T | null)[]) => new Set(values.filter((value) => value !== null))
  return { keys: found(rows.map(({ key }) => key)), uploads: found(rows.map((r) => r.upload)) }
}

import type { Digest } from '../../oci/digest.ts'
import type { Queryable } from '../database.ts'

/** A blob as work on the whole store wants it. */
export type InventoryRow = {
  readonly id: number
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  readonly storageKey: string
}

/** Blobs after `after`, by id: a later blob has a larger one. */
export async function listBlobs(
  db: Queryable,
  after: number,
  limit: number,
): Promise<InventoryRow[]> {
  const { rows } = await db.query<InventoryRow>(
    `select id, digest, size, storage_key as "storageKey"
       from blobs
      where id > $1
      order by id
      limit $2`,
    [after, limit],
  )
  return rows
}

/** True while this blob's bytes are still under this key. */
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
 * Which of these belong to something: a key to a blob, an upload to one that is in progress, either to
 * a removal that is queued. Seen in one statement: an upload becomes a blob in one, too, so nothing
 * falls in between.
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
       from removals
      where storage_key = any($1::text[])
     union all
     select null, id::text
       from uploads
      where id = any($2::uuid[])
     union all
     select null, upload_id::text
       from removals
      where upload_id = any($2::uuid[])`,
    [keys, uploads],
  )
  const found = <T>(values: (T | null)[]) => new Set(values.filter((value) => value !== null))
  return { keys: found(rows.map(({ key }) => key)), uploads: found(rows.map((r) => r.upload)) }
}

/** Uploads in progress. */
export async function countUploads(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `select count(*) as count
       from uploads
      where expires_at > now()`,
  )
  return rows[0]?.count ?? 0
}

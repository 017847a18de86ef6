import type { Digest } from '../../oci/digest.ts'
import type { Queryable } from '../database.ts'

/** A layer of an image of which a picture can be made, and the picture, if there is one. */
export type PictureRow = {
  readonly blobId: number
  readonly role: string
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
  readonly storageKey: string
  /** True when the store lost the bytes: they must not be read. */
  readonly lost: boolean
  /** JSON: what the picture shows. */
  readonly facts: string | null
  /** JSON: its coordinates. Null when it is not made, and when there is none. */
  readonly picture: string | null
  /** Why there is none. */
  readonly problem: string | null
}

export type PictureKind = 'graph' | 'sizes'

/** Finds the first of the roles that an image has, with its picture of this kind and version. Undefined without such a layer. */
export async function findPicture(
  db: Queryable,
  imageId: number,
  roles: readonly string[],
  kind: PictureKind,
  version: number,
): Promise<PictureRow | undefined> {
  const { rows } = await db.query<PictureRow>(
    `select b.id as "blobId", il.role, b.digest, b.size, b.storage_key as "storageKey",
            b.lost_at is not null as lost, p.facts, p.picture, p.problem
       from image_layers il
       join blobs b on b.id = il.blob_id
       left join layer_pictures p
         on p.blob_id = b.id
        and p.kind = $3
        and p.version = $4
      where il.manifest_id = $1
        and il.role = any($2::text[])
      order by array_position($2::text[], il.role), b.id
      limit 1`,
    [imageId, roles, kind, version],
  )
  return rows[0]
}

/**
 * Claims a picture for this process, unless it is made or another process makes it. Returns the number of times that a process
 * began with it. Undefined when it is not claimed.
 */
export async function claimPicture(
  db: Queryable,
  blobId: number,
  kind: PictureKind,
  version: number,
  leaseSeconds: number,
): Promise<number | undefined> {
  const { rows } = await db.query<{ attempts: number }>(
    `insert into layer_pictures (blob_id, kind, version)
     select id, $2, $3
       from blobs
      where id = $1
        for key share
         on conflict (blob_id, kind) do update
        set version = excluded.version,
            attempts = case when layer_pictures.version = excluded.version then layer_pictures.attempts + 1 else 1 end,
            started_at = now(),
            made_at = null,
            facts = null,
            picture = null,
            problem = null
      where layer_pictures.version < excluded.version
         or layer_pictures.version = excluded.version
            and layer_pictures.made_at is null
            and layer_pictures.started_at not between now() - make_interval(secs => $4) and now() + make_interval(secs => $4)
     returning attempts`,
    [blobId, kind, version, leaseSeconds],
  )
  return rows[0]?.attempts
}

/** A new picture and its facts, or the reason why there is none. */
export type NewPicture =
  | { readonly facts: string | null; readonly picture: string }
  | { readonly problem: string }

/** Stores a claimed picture. */
export async function putPicture(
  db: Queryable,
  blobId: number,
  kind: PictureKind,
  version: number,
  made: NewPicture,
): Promise<void> {
  const { facts, picture, problem } = { facts: null, picture: null, problem: null, ...made }
  await db.query(
    `update layer_pictures
        set made_at = now(),
            facts = $4,
            picture = $5,
            problem = $6
      where blob_id = $1
        and kind = $2
        and version = $3`,
    [blobId, kind, version, facts, picture, problem],
  )
}

/** Gives a claim back, so that the next request makes the picture. */
export async function releasePicture(
  db: Queryable,
  blobId: number,
  kind: PictureKind,
  version: number,
): Promise<void> {
  await db.query(
    `delete from layer_pictures
      where blob_id = $1
        and kind = $2
        and version = $3
        and made_at is null`,
    [blobId, kind, version],
  )
}

/** Finds the facts of a blob as `role`. Null when it has none. */
export async function findLayerFacts(
  db: Queryable,
  blobId: number,
  role: string,
): Promise<string | null> {
  const { rows } = await db.query<{ facts: string | null }>(
    `select facts
       from layer_analyses
      where blob_id = $1
        and role = $2`,
    [blobId, role],
  )
  return rows[0]?.facts ?? null
}

import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import type { VisibleNames } from '../name-patterns.ts'
import { HITS_SCANNED_MAX, type HitFilter, hitConditions } from './hit-filters.ts'
import { TAGS_OF_MANIFEST } from './image-lists.ts'
import { VISIBLE_IMAGES_OF_LIST, VISIBLE_RANGES } from './visible-images.ts'

/** Versions of one page of `listVersions`. */
export const VERSIONS_PAGE = 5_000

/**
 * Lists the versions of a package that a visible image has, with ids after `after`, in the order of ids: the order
 * in which they were first pushed.
 */
export async function listVersions(
  db: Queryable,
  ecosystem: string,
  name: string,
  roles: readonly string[],
  visible: VisibleNames,
  after: number,
): Promise<{ id: number; version: string }[]> {
  const { rows } = await db.query<{ id: number; version: string }>(
    `with ${VISIBLE_RANGES}
     select p.id, p.version
       from packages p
      where p.ecosystem = $1
        and p.name = $4
        and p.id > $5
        and exists (
              select 1
                from (
                  select blob_id
                    from layer_packages
                   where package_id = p.id
                   order by blob_id desc
                  offset 0
                ) list
               cross join lateral ${VISIBLE_IMAGES_OF_LIST} image
              offset 0)
      order by p.id
      limit $6`,
    [ecosystem, roles, visible, name, after, VERSIONS_PAGE],
  )
  return rows
}

/** A list that has a package: the layer, and the version of the package. */
export type PackageList = {
  readonly blobId: number
  readonly packageId: number
}

/** The last hit of a page: a list may have several versions of a package. */
export type PackageCursor = PackageList & { readonly manifestId: number }

/** Above every id, and short enough for a cursor. */
export const ID_MAX = 999_999_999_999_999

/** An image that has one version of a package. */
export type ImageWithPackage = {
  readonly blobId: number
  readonly manifestId: number
  readonly packageId: number
  /** How the package is known. */
  readonly basis: string
  readonly repository: Repository
  /** Digest of the manifest. */
  readonly digest: Digest
  readonly kernelDigest: Digest
  readonly target: string
  readonly pushedAt: Date
  /** The first IMAGE_TAGS_MAX by name. */
  readonly tags: readonly Tag[]
}

/** A page of hits, which may have fewer than its limit. */
export type HitPage = {
  readonly hits: readonly ImageWithPackage[]
  /** The cursor of the next page; undefined when the lists that were read have no further hit. */
  readonly next: PackageCursor | undefined
  /** The number of lists that were read; undefined when none of them has a hit. */
  readonly lists: number | undefined
}

/** The images that a search reads. */
export type PackageSelection = {
  /** The versions of the package that match. */
  readonly ids: readonly number[]
  /** All versions of its name. */
  readonly named: readonly number[]
  readonly roles: readonly string[]
  /** Only public repositories, and those of these names. */
  readonly visible: VisibleNames
  readonly filter: HitFilter
}

/**
 * The newest lists that have one of the packages $1, up to the one of the cursor ($5, $6): newest layer first, then highest
 * package id. At most $4.
 */
const NEWEST_LISTS = `(
           select list.blob_id, list.package_id
             from unnest($1::bigint[]) as wanted (id)
            cross join lateral (
              select package_id, blob_id
                from layer_packages
               where package_id = wanted.id
                 and blob_id <= $5
                 and (blob_id < $5 or package_id <= $6)
               order by blob_id desc
               limit $4
            ) list
            order by list.blob_id desc, list.package_id desc
            limit $4
         )`

/** Finds the last of the first `count` lists that `listImagesWithPackage` reads; undefined when there are fewer. */
export async function findLastList(
  db: Queryable,
  { ids }: PackageSelection,
  before: PackageCursor,
  count: number,
): Promise<PackageList | undefined> {
  const { rows } = await db.query<PackageList>(
    `select list.blob_id as "blobId", list.package_id as "packageId"
       from ${NEWEST_LISTS} list
      order by list.blob_id desc, list.package_id desc
     offset $2
      limit $3`,
    [ids, count - 1, 1, count, before.blobId, before.packageId],
  )
  return rows[0]
}

/**
 * Lists the images of the `count` newest lists that have one of the packages, in the order of NEWEST_LISTS, then newest manifest
 * first. Images that are not visible do not count for the limit. A package in the lock file of an image counts before the
 * vendored one of its name in the switch export.
 */
export async function listImagesWithPackage(
  db: Queryable,
  { ids, named, roles, visible, filter }: PackageSelection,
  before: PackageCursor,
  count: number,
  limit: number,
): Promise<HitPage> {
  const conditions = hitConditions(filter)
  const isFiltered = conditions.length > 0
  const scanned = isFiltered ? HITS_SCANNED_MAX : limit + 1
  // The images of a list are read when those of the lists before it are fewer than the limit.
  const statement = withConditions(
    `with ${VISIBLE_RANGES}, page as materialized (
       select list.blob_id, list.package_id, list.lists, image.*, lp.basis,
              row_number() over (order by list.blob_id desc, list.package_id desc, image.manifest_id desc) as place
         from (
           select list.*, count(*) over (
                    order by list.blob_id desc, list.package_id desc
                     rows between unbounded preceding and unbounded following) as lists
             from ${NEWEST_LISTS} list
         ) list
        cross join lateral (
          select *
            from ${VISIBLE_IMAGES_OF_LIST} image
           where (list.blob_id, list.package_id, image.manifest_id) < ($5, $6, $7)
           limit $8
        ) image
        cross join lateral (
          select basis
            from layer_packages
           where package_id = list.package_id
             and blob_id = list.blob_id
          offset 0
        ) lp
        order by list.blob_id desc, list.package_id desc, image.manifest_id desc
        limit $8
     ), locked as materialized (
       select lock.manifest_id, lp.package_id
         from (
           select distinct manifest_id
             from page
            where role = 'opam-switch'
         ) m
        cross join lateral (
          select manifest_id, blob_id
            from image_layers
           where manifest_id = m.manifest_id
             and role || '' = 'opam-lock'
          offset 0
        ) lock
        cross join lateral (
          select package_id
            from layer_packages
           where blob_id = lock.blob_id
             and package_id = any($9::bigint[])
          offset 0
        ) lp
     ), compared as materialized (
       select page.*,
              page.role = 'opam-switch' and exists (
                select 1
                  from locked
                 where locked.manifest_id = page.manifest_id
                   and (page.basis <> 'installed' or locked.package_id = page.package_id)
              ) as is_shadowed
         from page
     )
     select page.blob_id as "blobId", page.manifest_id as "manifestId",
            page.package_id as "packageId", page.lists, page.place, page.basis, page.repository, m.digest,
            page.kernel_digest as "kernelDigest", page.target, m.pushed_at as "pushedAt",
            ${TAGS_OF_MANIFEST} as tags, (not page.is_shadowed {matching}) as "isHit"
       from compared page
       join manifests m on m.id = page.manifest_id
      cross join lateral (select page.repository as name) r
      where (not page.is_shadowed {filters})
         or page.place = $8
      order by page.place`,
    [
      ...[ids, roles, visible, count],
      ...[before.blobId, before.packageId, before.manifestId, scanned, named],
    ],
    { matching: conditions, filters: conditions },
  )
  type Row = ImageWithPackage & { isHit: boolean; place: number; lists: number }
  const { rows } = await db.query<Row>(...statement)
  const hits = rows.filter(({ isHit }) => isHit)
  const lists = rows[0]?.lists
  if (hits.length > limit) return { hits: hits.slice(0, limit), next: hits[limit - 1], lists }
  const last = rows.at(-1)
  return { hits, next: last?.place === scanned ? last : undefined, lists }
}

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
  /** The cursor of the next page; undefined at the end. */
  readonly next: PackageCursor | undefined
}

/**
 * Lists the newest layers that have one of these packages, up to the one of the cursor: newest layer first, then highest
 * package id. At most `limit`.
 */
export async function listPackageLists(
  db: Queryable,
  packageIds: readonly number[],
  before: PackageCursor,
  limit: number,
): Promise<PackageList[]> {
  const { rows } = await db.query<PackageList>(
    `select list.blob_id as "blobId", list.package_id as "packageId"
       from unnest($1::bigint[]) as wanted (id)
      cross join lateral (
        select package_id, blob_id
          from layer_packages
         where package_id = wanted.id
           and blob_id <= $2
           and (blob_id < $2 or package_id <= $3)
         order by blob_id desc
         limit $4
      ) list
      order by list.blob_id desc, list.package_id desc
      limit $4`,
    [packageIds, before.blobId, before.packageId, limit],
  )
  return rows
}

/**
 * Lists the images of these layers, in their order, then newest manifest first, that have the layer in one of these roles.
 * Only public repositories, and repositories in `visible`, count, before the limit does. A package in the lock file of an
 * image counts before the vendored one of its name in the switch export: `named` are all versions of the name.
 */
export async function listImagesWithPackage(
  db: Queryable,
  lists: readonly PackageList[],
  named: readonly number[],
  roles: readonly string[],
  visible: VisibleNames,
  filter: HitFilter,
  before: PackageCursor,
  limit: number,
): Promise<HitPage> {
  const conditions = hitConditions(filter)
  const isFiltered = conditions.length > 0
  const scanned = isFiltered ? HITS_SCANNED_MAX : limit + 1
  // The images of a list are read when those of the lists before it are fewer than the limit.
  const statement = withConditions(
    `with ${VISIBLE_RANGES}, page as materialized (
       select list.blob_id, list.package_id, image.*, lp.basis,
              row_number() over (order by list.place, image.manifest_id desc) as place
         from unnest($1::bigint[], $4::bigint[]) with ordinality as list (blob_id, package_id, place)
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
        order by list.place, image.manifest_id desc
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
            page.package_id as "packageId", page.place, page.basis, page.repository, m.digest,
            page.kernel_digest as "kernelDigest", page.target, m.pushed_at as "pushedAt",
            ${TAGS_OF_MANIFEST} as tags, (not page.is_shadowed {matching}) as "isHit"
       from compared page
       join manifests m on m.id = page.manifest_id
       join repositories r on r.id = m.repository_id
      where (not page.is_shadowed {filters})
         or page.place = $8
      order by page.place`,
    [
      ...[lists.map(({ blobId }) => blobId), roles, visible],
      ...[
        lists.map(({ packageId }) => packageId),
        before.blobId,
        before.packageId,
        before.manifestId,
        scanned,
        named,
      ],
    ],
    { matching: conditions, filters: conditions },
  )
  const { rows } = await db.query<ImageWithPackage & { isHit: boolean; place: number }>(
    ...statement,
  )
  const hits = rows.filter(({ isHit }) => isHit)
  if (hits.length > limit) return { hits: hits.slice(0, limit), next: hits[limit - 1] }
  const last = rows.at(-1)
  return { hits, next: last?.place === scanned ? last : undefined }
}

import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import { RANGE_COLUMNS, REPOSITORY_IN_RANGE, type VisibleNames } from '../name-patterns.ts'
import { HITS_SCANNED_MAX, type HitFilter, hitConditions } from './hit-filters.ts'
import { TAGS_OF_MANIFEST } from './image-lists.ts'

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
    `select p.id, p.version
       from packages p
      where p.ecosystem = $1
        and p.name = $2
        and p.id > $5
        and exists (
              select 1
                from layer_packages lp
                join image_layers il on il.blob_id = lp.blob_id and il.role || '' = any($3)
                join images i on i.manifest_id = il.manifest_id
                join repositories r on r.id = i.repository_id
               where lp.package_id = p.id
                 and (r.visibility = 'public' or exists (
                       select 1
                         from json_to_recordset($4::json) as g (${RANGE_COLUMNS})
                        where ${REPOSITORY_IN_RANGE}))
              offset 0)
      order by p.id
      limit $6`,
    [ecosystem, name, roles, visible, after, VERSIONS_PAGE],
  )
  return rows
}

/** The last hit of a page: a list may have several versions of a package. */
export type PackageCursor = {
  readonly blobId: number
  readonly manifestId: number
  readonly packageId: number
}

/** Above every id, and short enough for a cursor. */
export const ID_MAX = 999_999_999_999_999

/** An image that has one version of a package. */
export type PackageHit = {
  readonly blobId: number
  readonly manifestId: number
  readonly packageId: number
  /** Empty when it is unknown. */
  readonly version: string
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
  readonly hits: readonly PackageHit[]
  /** The cursor of the next page; undefined at the end. */
  readonly next: PackageCursor | undefined
}

/**
 * Lists images with one of these packages, versions of one name, in a layer of these roles: newest list first, then newest
 * manifest, then highest package id. Only public repositories, and repositories in `visible`, count, before the limit does.
 * A package in the lock file of an image counts before the vendored one of its name in the switch export: `named` are all
 * versions of the name.
 */
export async function listImagesWithPackage(
  db: Queryable,
  packageIds: readonly number[],
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
  // Each package's lists come from its index, newest first, and end at the limit. `role || ''` is no condition of an index,
  // which would not be read in its order with a list of roles. The lock files are asked for the images of the page alone.
  const statement = withConditions(
    `with page as materialized (
       select hit.package_id, hit.basis, hit.role, hit.blob_id, hit.manifest_id,
              row_number() over (order by hit.blob_id desc, hit.manifest_id desc, hit.package_id desc) as place
         from unnest($1::bigint[]) as wanted (id)
        cross join lateral (
          select list.package_id, list.basis, il.role, list.blob_id, il.manifest_id
            from (
              select package_id, basis, blob_id
                from layer_packages
               where package_id = wanted.id
                 and blob_id <= $4
               order by blob_id desc
              offset 0
            ) list
           cross join lateral (
             select il.manifest_id, il.role
               from (
                 select manifest_id, role
                   from image_layers
                  where blob_id = list.blob_id
                    and role || '' = any($2)
                    and (list.blob_id, manifest_id, list.package_id) < ($4, $5, $7)
                  order by manifest_id desc
                 offset 0
               ) il
              where exists (
                    select 1
                      from images i
                      join repositories r on r.id = i.repository_id
                     where i.manifest_id = il.manifest_id
                       and (r.visibility = 'public' or exists (
                             select 1
                               from json_to_recordset($3::json) as g (${RANGE_COLUMNS})
                              where ${REPOSITORY_IN_RANGE}))
                    offset 0)
              limit $6
           ) il
           order by list.blob_id desc, il.manifest_id desc
           limit $6
        ) hit
        order by hit.blob_id desc, hit.manifest_id desc, hit.package_id desc
        limit $6
     ), named as materialized (
       select m.manifest_id
         from (
           select distinct manifest_id
             from page
            where role = 'opam-switch'
              and basis <> 'installed'
         ) m
        where exists (
              select 1
                from (
                  select blob_id
                    from image_layers
                   where manifest_id = m.manifest_id
                     and role || '' = 'opam-lock'
                  offset 0
                ) lock
                join layer_packages locked on locked.blob_id = lock.blob_id
               where locked.package_id = any($8::bigint[]))
     ), compared as materialized (
       select page.*,
              page.role = 'opam-switch' and (
                (page.basis <> 'installed' and page.manifest_id in (select manifest_id from named))
                or exists (
                  select 1
                    from (
                      select blob_id
                        from image_layers
                       where manifest_id = page.manifest_id
                         and role || '' = 'opam-lock'
                      offset 0
                    ) lock
                    join layer_packages locked on locked.package_id = page.package_id and locked.blob_id = lock.blob_id
                )
              ) as is_shadowed
         from page
     )
     select page.blob_id as "blobId", page.manifest_id as "manifestId",
            page.package_id as "packageId", page.place, p.version, page.basis, r.name as repository, m.digest,
            i.kernel_digest as "kernelDigest", i.target, m.pushed_at as "pushedAt",
            ${TAGS_OF_MANIFEST} as tags, (not page.is_shadowed {matching}) as "isHit"
       from compared page
       join images i on i.manifest_id = page.manifest_id
       join repositories r on r.id = i.repository_id
       join packages p on p.id = page.package_id
       join manifests m on m.id = page.manifest_id
      where (not page.is_shadowed {filters})
         or page.place = $6
      order by page.blob_id desc, page.manifest_id desc, page.package_id desc`,
    [
      ...[packageIds, roles, visible, before.blobId, before.manifestId, scanned],
      ...[before.packageId, named],
    ],
    { matching: conditions, filters: conditions },
  )
  const { rows } = await db.query<PackageHit & { isHit: boolean; place: number }>(...statement)
  const hits = rows.filter(({ isHit }) => isHit)
  if (hits.length > limit) return { hits: hits.slice(0, limit), next: hits[limit - 1] }
  const last = rows.at(-1)
  return { hits, next: last?.place === scanned ? last : undefined }
}

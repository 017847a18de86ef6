import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import { TAGS_OF_MANIFEST } from './image-lists.ts'

// opam's history has about a hundred versions of a package; Debian's grows more slowly.
const VERSIONS_MAX = 20_000

/** Lists the versions of a package that any list ever named. */
export async function listVersions(
  db: Queryable,
  ecosystem: string,
  name: string,
): Promise<{ id: number; version: string }[]> {
  const { rows } = await db.query<{ id: number; version: string }>(
    `select id, version
       from packages
      where ecosystem = $1
        and name = $2
      limit $3`,
    [ecosystem, name, VERSIONS_MAX],
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
  readonly version: string
  readonly repository: Repository
  /** Digest of the manifest. */
  readonly digest: Digest
  readonly kernelDigest: Digest
  readonly target: string
  readonly pushedAt: Date
  /** The first IMAGE_TAGS_MAX by name. */
  readonly tags: readonly Tag[]
}

/**
 * Lists images with one of these packages in a layer of this role, newest list first. Only public
 * repositories, and repositories that match one of `visible` (Postgres regular expressions), count.
 * Reads at most `scan` lists: when it ends there, `scannedTo` is the `before` of the next page, even if
 * few images were found.
 */
export async function listImagesWithPackage(
  db: Queryable,
  packageIds: readonly number[],
  role: string,
  visible: readonly string[],
  before: PackageCursor,
  limit: number,
  scan: number,
): Promise<{ hits: PackageHit[]; scannedTo: PackageCursor | undefined }> {
  // The lists come first, from the index alone and in its order. The cost is that of one page,
  // independent of the number of images and of the caller's access.
  const { rows } = await db.query<PackageHit>(
    `with lists as materialized (
       select hit.package_id, hit.blob_id
         from unnest($1::bigint[]) as wanted (id)
        cross join lateral (
          select package_id, blob_id
            from layer_packages
           where package_id = wanted.id
             and blob_id <= $4
           order by blob_id desc
           limit $7
        ) hit
        order by hit.blob_id desc
        limit $7
     )
     select page.blob_id as "blobId", page.manifest_id as "manifestId",
            page.package_id as "packageId", p.version, page.repository, m.digest,
            page.kernel_digest as "kernelDigest", page.target, m.pushed_at as "pushedAt",
            ${TAGS_OF_MANIFEST} as tags
       from (
         select lists.package_id, lists.blob_id, il.manifest_id, i.repository_id, i.kernel_digest,
                i.target, r.name as repository
           from lists
           join image_layers il on il.blob_id = lists.blob_id and il.role = $2
           join images i on i.manifest_id = il.manifest_id
           join repositories r on r.id = i.repository_id
          where (lists.blob_id, il.manifest_id, lists.package_id) < ($4, $5, $8)
            and (r.visibility = 'public' or r.name ~ any($3))
          order by lists.blob_id desc, il.manifest_id desc, lists.package_id desc
          limit $6
       ) page
       join packages p on p.id = page.package_id
       join manifests m on m.id = page.manifest_id
      order by page.blob_id desc, page.manifest_id desc, page.package_id desc`,
    [packageIds, role, visible, before.blobId, before.manifestId, limit, scan, before.packageId],
  )
  if (rows.length === limit) return { hits: rows, scannedTo: undefined }
  const { rows: last } = await db.query<PackageCursor>(
    `select hit.blob_id - 1 as "blobId", $4::bigint as "manifestId", $4::bigint as "packageId"
       from unnest($1::bigint[]) as wanted (id)
      cross join lateral (
        select blob_id
          from layer_packages
         where package_id = wanted.id
           and blob_id <= $2
         order by blob_id desc
         limit $3
      ) hit
      order by hit.blob_id desc
     offset $3 - 1
      limit 1`,
    [packageIds, before.blobId, scan, ID_MAX],
  )
  return { hits: rows, scannedTo: last[0] }
}

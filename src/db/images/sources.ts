import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import type { VisibleNames } from '../name-patterns.ts'
import { HITS_SCANNED_MAX, type HitFilter, hitConditions } from './hit-filters.ts'
import { TAGS_OF_MANIFEST } from './image-lists.ts'
import { VISIBLE_IMAGES_OF_LIST, VISIBLE_RANGES } from './visible-images.ts'

/** Sources of one page of `listSources`. */
export const SOURCES_PAGE = 5_000
/** Packages of one hit: a source has some ten. */
export const PACKAGES_OF_SOURCE_MAX = 100

const VISIBLE_OF_THEM = `offset 0
       ) s
      where exists (
              select 1
                from (
                  select blob_id
                    from layer_sources
                   where source_id = s.id
                   order by blob_id desc
                  offset 0
                ) list
               cross join lateral ${VISIBLE_IMAGES_OF_LIST} image
              offset 0)
      order by s.id
      limit $5`

const SOURCES_BY = {
  repository: `with ${VISIBLE_RANGES}
     select s.id, s.url
       from (
         select id, url
           from sources
          where repository = $1
            and id > $4
          order by id
         ${VISIBLE_OF_THEM}`,
  checksum: `with ${VISIBLE_RANGES}
     select s.id, s.url
       from (
         select s.id, s.url
           from source_checksums sc
          cross join lateral (
            select id, url
              from sources
             where id = sc.source_id
            offset 0
          ) s
          where sc.checksum = $1
            and sc.source_id > $4
          order by sc.source_id
         ${VISIBLE_OF_THEM}`,
} as const

/** Lists the sources of a source repository, or with a checksum, that a visible image has, with ids after `after`, by id. */
export async function listSources(
  db: Queryable,
  by: keyof typeof SOURCES_BY,
  wanted: string,
  roles: readonly string[],
  visible: VisibleNames,
  after: number,
): Promise<{ id: number; url: string }[]> {
  const { rows } = await db.query<{ id: number; url: string }>(SOURCES_BY[by], [
    ...[wanted, roles, visible, after, SOURCES_PAGE],
  ])
  return rows
}

/** The last hit of a page: a list may have a source several times. */
export type SourceCursor = {
  readonly blobId: number
  readonly ordinal: number
  readonly manifestId: number
}

/** An image that has a source. */
export type SourceHit = SourceCursor & {
  readonly url: string
  /** Its folder, or empty for the source of an installed package. */
  readonly directory: string
  readonly checksums: readonly string[]
  /** By name, at most PACKAGES_OF_SOURCE_MAX. The version is null when it is unknown. */
  readonly packages: readonly {
    readonly name: string
    readonly version: string | null
    readonly basis: string
  }[]
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
export type SourceHitPage = {
  readonly hits: readonly SourceHit[]
  /** The cursor of the next page; undefined at the end. */
  readonly next: SourceCursor | undefined
}

/**
 * Lists images with one of these sources in a layer of these roles: newest list first, then by the order of the list from its
 * end, then newest manifest. Only public repositories, and repositories in `visible`, count, before the limit does. A source
 * that the lock file of an image has, too, is listed with the packages of the lock file.
 */
export async function listImagesWithSource(
  db: Queryable,
  sourceIds: readonly number[],
  roles: readonly string[],
  visible: VisibleNames,
  filter: HitFilter,
  before: SourceCursor,
  limit: number,
): Promise<SourceHitPage> {
  const conditions = hitConditions(filter)
  const isFiltered = conditions.length > 0
  const scanned = isFiltered ? HITS_SCANNED_MAX : limit + 1
  // Each source's lists come from its index, newest first, and end at the limit, as those of a package do.
  const statement = withConditions(
    `with ${VISIBLE_RANGES}
     select page.blob_id as "blobId", page.ordinal, page.manifest_id as "manifestId", page.place,
            s.url, page.directory, s.checksums, page.repository, m.digest,
            page.kernel_digest as "kernelDigest", page.target, m.pushed_at as "pushedAt",
            ${TAGS_OF_MANIFEST} as tags, matched.is_hit as "isHit",
            case
              when page.package_name is not null then json_build_array(json_build_object(
                'name', page.package_name, 'version', page.package_version, 'basis', 'installed'))
              else coalesce((
                select json_agg(json_build_object(
                         'name', held.name, 'version', nullif(held.version, ''), 'basis', held.basis)
                         order by held.name, held.version)
                  from (
                    select p.name, p.version, lp.basis
                      from layer_packages lp
                      join packages p on p.id = lp.package_id
                     where lp.blob_id = page.blob_id
                       and lp.source = page.ordinal
                     order by lp.package_id
                     limit ${PACKAGES_OF_SOURCE_MAX}
                  ) held
              ), '[]')
            end as packages
       from (
         select hit.*,
                row_number() over (order by hit.blob_id desc, hit.ordinal desc, hit.manifest_id desc) as place
           from unnest($1::bigint[]) as wanted (id)
          cross join lateral (
            select wanted.id as source_id, list.blob_id, list.ordinal, list.directory, list.package_name,
                   list.package_version, image.manifest_id, image.kernel_digest, image.target,
                   image.repository
              from (
                select blob_id, ordinal, directory, package_name, package_version
                  from layer_sources
                 where source_id = wanted.id
                   and blob_id <= $4
                 order by blob_id desc, ordinal desc
                offset 0
              ) list
             cross join lateral (
               select image.*
                 from ${VISIBLE_IMAGES_OF_LIST} image
                where (list.blob_id, list.ordinal, image.manifest_id) < ($4, $5::bigint, $6)
                  and (image.role <> 'opam-switch' or list.package_name is not null or not exists (
                        select 1
                          from (
                            select blob_id
                              from image_layers
                             where manifest_id = image.manifest_id
                               and role || '' = 'opam-lock'
                            offset 0
                          ) lock
                          join layer_sources locked on locked.blob_id = lock.blob_id
                         where locked.source_id = wanted.id))
                limit $7
             ) image
             order by list.blob_id desc, list.ordinal desc, image.manifest_id desc
             limit $7
          ) hit
          order by hit.blob_id desc, hit.ordinal desc, hit.manifest_id desc
          limit $7
       ) page
       join sources s on s.id = page.source_id
       join manifests m on m.id = page.manifest_id
       join repositories r on r.id = m.repository_id
      cross join lateral (
        select (true {filters}) as is_hit
        offset 0
      ) matched
      where matched.is_hit
         or page.place = $8
      order by page.blob_id desc, page.ordinal desc, page.manifest_id desc`,
    [
      ...[sourceIds, roles, visible, before.blobId, before.ordinal, before.manifestId],
      ...[scanned, HITS_SCANNED_MAX],
    ],
    { filters: conditions },
  )
  const { rows } = await db.query<SourceHit & { isHit: boolean; place: number }>(...statement)
  const hits = rows.filter(({ isHit }) => isHit)
  if (hits.length > limit) return { hits: hits.slice(0, limit), next: hits[limit - 1] }
  const last = rows.at(-1)
  return { hits, next: isFiltered && last?.place === HITS_SCANNED_MAX ? last : undefined }
}

import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { type Condition, given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import type { VisibleNames } from '../name-patterns.ts'
import { type HitFilter, imageHitConditions, NAMED_DIGESTS, TAGGED_DIGEST } from './hit-filters.ts'
import { IMAGE_IS_VISIBLE } from './visible-images.ts'

/** An image in a list. */
export type ImageRow = {
  /** Ascends with the time of the push. */
  readonly id: number
  readonly repository: Repository
  /** Digest of the manifest. */
  readonly digest: Digest
  readonly kernelDigest: Digest
  readonly kernelTitle: string | null
  readonly target: string
  /** Null, as are the devices, for a kernel that is none of Solo5's. */
  readonly abiVersion: number | null
  readonly architecture: string | null
  /** `net:service`, in the order of the kernel. */
  readonly devices: readonly string[] | null
  readonly inputId: string | null
  /** One line about the unikernel, from its own opam package. */
  readonly synopsis: string | null
  readonly pushedAt: Date
  readonly pushedBy: string
  /** The first IMAGE_TAGS_MAX by name. */
  readonly tags: readonly Tag[]
  /** The container image that it was unwrapped from. */
  readonly container: Digest | null
}

export const IMAGE_TAGS_MAX = 100

/**
 * The first tags of manifest `m`, by name; those of the container image that it was unwrapped from, if any. A range of one
 * digest, because Postgres would read all tags of the repository
 * in the order of their names when it knows tags of few digests.
 */
export const TAGS_OF_MANIFEST = `array(
              select name
                from tags
               where repository_id = m.repository_id
                 and digest >= ${TAGGED_DIGEST}
                 and digest <= ${TAGGED_DIGEST}
               order by digest, name
               limit ${IMAGE_TAGS_MAX}
            )`

/** The synopsis of image `i`: of its opam switch, or else of its lock file. Null without one. */
export const SYNOPSIS_OF_IMAGE = `(
              select f.summary::json ->> 'synopsis'
                from image_layers l
                join layer_analyses f on f.blob_id = l.blob_id and f.role = l.role
               where l.manifest_id = i.manifest_id
                 and f.summary::json ->> 'synopsis' is not null
               order by l.role desc
               limit 1
            )`

/** An ImageRow of image `i`, manifest `m` and repository `r`. */
export const IMAGE_COLUMNS = `i.manifest_id as id, r.name as repository, m.digest,
            i.kernel_digest as "kernelDigest", i.kernel_title as "kernelTitle", i.target,
            i.abi_version as "abiVersion", i.architecture, i.devices, i.input_id as "inputId",
            ${SYNOPSIS_OF_IMAGE} as synopsis, m.pushed_at as "pushedAt", m.pushed_by as "pushedBy",
            ${TAGS_OF_MANIFEST} as tags,
            case when m.unwrapped_from is not null then m.subject end as container`

/** Filters the images of a repository. Undefined matches any. */
export type ImageFilter = {
  readonly target: string | undefined
  /** Any of them. */
  readonly abiVersions: readonly number[] | undefined
  readonly architecture: string | undefined
  /** All of them: each is `net`, `service` or `net:service`. */
  readonly devices: readonly string[]
  /** The number of devices. */
  readonly deviceCount: number | undefined
  /** True: images with a tag. False: those without. */
  readonly tagged: boolean | undefined
  readonly builder: string | undefined
}

/** The filter that every image passes. */
export const ANY_IMAGE: ImageFilter = {
  target: undefined,
  abiVersions: undefined,
  architecture: undefined,
  devices: [],
  deviceCount: undefined,
  tagged: undefined,
  builder: undefined,
}

/**
 * Images that one page reads, however few of them match. No page has so many: without a filter, one that is not full is the last.
 */
export const SCANNED_MAX = 2_000
export const SCANNED_BEFORE_LAST = SCANNED_MAX - 1

/** Returns the conditions of a filter for image `i`. */
export function imageConditions(filter: ImageFilter): Condition[] {
  return [
    ...given('and i.target = $', filter.target),
    ...given('and i.abi_version = any($)', filter.abiVersions),
    ...given('and i.architecture = $', filter.architecture),
    ...filter.devices.flatMap((device) => given(DEVICE_IS, device)),
    ...given('and cardinality(i.devices) = $', filter.deviceCount),
    ...given(TAGGED_IS, filter.tagged),
    ...given(BUILDER_IS, filter.builder),
  ]
}

/** The tag of an index counts for its images. A range of one digest, as in TAGS_OF_MANIFEST. */
const TAGGED_IS = `and $ = exists (
                select 1
                  from manifests m
                 cross join lateral ${NAMED_DIGESTS}
                 cross join lateral (
                   select t.name
                     from tags t
                    where t.repository_id = m.repository_id
                      and t.digest >= named.digest
                      and t.digest <= named.digest
                    order by t.digest, t.name
                    limit 1
                 ) t
                 where m.id = i.manifest_id
                offset 0)` as const

/** A page of images. */
export type ImagePage = {
  readonly images: readonly ImageRow[]
  /** `before` of the next page; undefined at the end. The page may have fewer images than its limit. */
  readonly next: number | undefined
}

/** Lists images of a repository, newest first, with ids below `before`. Reads at most SCANNED_MAX images. */
export async function listImages(
  db: Queryable,
  repositoryId: number,
  filter: ImageFilter,
  before: number,
  limit: number,
): Promise<ImagePage> {
  const filters = imageConditions(filter)
  const { rows } = await db.query<ImageRow>(
    ...withConditions(
      `select ${IMAGE_COLUMNS}
         from (
           select i.*
             from (
               select *
                 from images
                where repository_id = $1
                  and manifest_id < $2
                order by manifest_id desc
                limit ${SCANNED_MAX}
             ) i
            where true
              {filters}
            order by i.manifest_id desc
            limit $3
         ) i
         join manifests m on m.id = i.manifest_id
         join repositories r on r.id = i.repository_id
        order by i.manifest_id desc`,
      [repositoryId, before, limit + 1],
      { filters },
    ),
  )
  const images = rows.slice(0, limit)
  if (rows.length > limit) return { images, next: images.at(-1)?.id }
  if (filters.length === 0) return { images, next: undefined }
  const { rows: last } = await db.query<{ id: number }>(
    `select manifest_id as id
       from images
      where repository_id = $1
        and manifest_id < $2
      order by manifest_id desc
     offset ${SCANNED_BEFORE_LAST}
      limit 1`,
    [repositoryId, before],
  )
  return { images, next: last[0]?.id }
}

const DEVICE_IS = `and exists (
                select 1
                  from unnest(i.devices) as d (name)
                 where $::text in (d.name, split_part(d.name, ':', 1), substr(d.name, strpos(d.name, ':') + 1)))`
const BUILDER_IS = `and exists (
                select 1
                  from manifests m
                 where m.id = i.manifest_id
                   and m.pushed_by = $)`

/**
 * Lists images with this kernel, newest first, with ids below `before`. Only public repositories, and repositories in
 * `visible`, count: those of others neither fill a page nor end it. Compares at most SCANNED_MAX of them.
 */
export async function listImagesOfKernel(
  db: Queryable,
  kernel: Digest,
  filter: HitFilter,
  visible: VisibleNames,
  before: number,
  limit: number,
): Promise<ImagePage> {
  const filters = imageHitConditions(filter)
  const { rows } = await db.query<ImageRow>(
    ...withConditions(
      `select ${IMAGE_COLUMNS}
         from (
           select i.*
             from (
               select i.*
                 from images i
                where i.kernel_digest = $1
                  and i.manifest_id < $2
                  {visible}
                order by i.manifest_id desc
                limit ${SCANNED_MAX}
             ) i
             join repositories r on r.id = i.repository_id
            where true
              {filters}
            order by i.manifest_id desc
            limit $3
         ) i
         join manifests m on m.id = i.manifest_id
         join repositories r on r.id = i.repository_id
        order by i.manifest_id desc`,
      [kernel, before, limit + 1],
      { visible: given(IMAGE_IS_VISIBLE, visible), filters },
    ),
  )
  const images = rows.slice(0, limit)
  if (rows.length > limit) return { images, next: images.at(-1)?.id }
  if (filters.length === 0) return { images, next: undefined }
  const { rows: last } = await db.query<{ id: number }>(
    ...withConditions(
      `select i.manifest_id as id
         from images i
        where i.kernel_digest = $1
          and i.manifest_id < $2
          {visible}
        order by i.manifest_id desc
       offset ${SCANNED_BEFORE_LAST}
        limit 1`,
      [kernel, before],
      { visible: given(IMAGE_IS_VISIBLE, visible) },
    ),
  )
  return { images, next: last[0]?.id }
}

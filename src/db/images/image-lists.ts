import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import { RANGE_COLUMNS, REPOSITORY_IN_RANGE, type VisibleNames } from '../name-patterns.ts'
import type { View } from '../registry/repositories.ts'

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
  readonly abiVersion: number
  readonly architecture: string | null
  /** `net:service`, in the order of the kernel. */
  readonly devices: readonly string[]
  readonly inputId: string | null
  readonly pushedAt: Date
  readonly pushedBy: string
  /** The first IMAGE_TAGS_MAX by name. */
  readonly tags: readonly Tag[]
}

export const IMAGE_TAGS_MAX = 100

/** The first tags of manifest `m`, by name. */
export const TAGS_OF_MANIFEST = `array(
              select name
                from tags
               where repository_id = m.repository_id
                 and digest = m.digest
               order by name
               limit ${IMAGE_TAGS_MAX}
            )`

/** An ImageRow of image `i`, manifest `m` and repository `r`. */
const IMAGE_COLUMNS = `i.manifest_id as id, r.name as repository, m.digest,
            i.kernel_digest as "kernelDigest", i.kernel_title as "kernelTitle", i.target,
            i.abi_version as "abiVersion", i.architecture, i.devices, i.input_id as "inputId",
            m.pushed_at as "pushedAt", m.pushed_by as "pushedBy", ${TAGS_OF_MANIFEST} as tags`

/** Filters the images of a repository. Undefined matches any. */
export type ImageFilter = {
  readonly target: string | undefined
  readonly abiVersion: number | undefined
  readonly architecture: string | undefined
  /** `net`, `service` or `net:service`. */
  readonly device: string | undefined
  readonly builder: string | undefined
}

/**
 * Lists images of a repository, newest first, with ids below `before`. Reads at most `scan` images:
 * when it ends there, `scannedTo` is the `before` of the next page, even if few images matched.
 */
export async function listImages(
  db: Queryable,
  repositoryId: number,
  filter: ImageFilter,
  before: number,
  limit: number,
  scan: number,
): Promise<{ images: ImageRow[]; scannedTo: number | undefined }> {
  const { rows } = await db.query<ImageRow>(
    `select ${IMAGE_COLUMNS}
       from (
         select *
           from images
          where repository_id = $1
            and manifest_id < $2
          order by manifest_id desc
          limit $9
       ) i
       join manifests m on m.id = i.manifest_id
       join repositories r on r.id = i.repository_id
      where ($3::text is null or i.target = $3)
        and ($4::bigint is null or i.abi_version = $4)
        and ($5::text is null or i.architecture = $5)
        and ($6::text is null or exists (
              select 1
                from unnest(i.devices) as d (name)
               where d.name = $6
                  or split_part(d.name, ':', 1) = $6
                  or substr(d.name, strpos(d.name, ':') + 1) = $6))
        and ($7::text is null or m.pushed_by = $7)
      order by i.manifest_id desc
      limit $8`,
    [
      repositoryId,
      before,
      filter.target ?? null,
      filter.abiVersion ?? null,
      filter.architecture ?? null,
      filter.device ?? null,
      filter.builder ?? null,
      limit,
      scan,
    ],
  )
  if (rows.length === limit) return { images: rows, scannedTo: undefined }
  const { rows: last } = await db.query<{ id: number }>(
    `select manifest_id as id
       from images
      where repository_id = $1
        and manifest_id < $2
      order by manifest_id desc
     offset $3
      limit 1`,
    [repositoryId, before, scan - 1],
  )
  return { images: rows, scannedTo: last[0]?.id }
}

/** Filters the images of all repositories. Undefined matches any. */
export type ImageKey = {
  readonly kernels?: readonly Digest[]
  readonly inputId?: string
  /** Made from known inputs with another input id. */
  readonly otherThan?: string
  /** Only images of these repositories. */
  readonly within?: VisibleNames
  /** Only the newest image of each repository and kernel. */
  readonly newestOnly?: boolean
}

/**
 * Lists images with these kernels or these inputs, newest first, with ids below `before`. Only public
 * repositories, and repositories in `visible`, count.
 */
export async function listImagesBy(
  db: Queryable,
  key: ImageKey,
  visible: VisibleNames,
  before: number,
  limit: number,
): Promise<ImageRow[]> {
  const { rows } = await db.query<ImageRow>(
    `select ${IMAGE_COLUMNS}
       from (
         select i.manifest_id, i.repository_id, i.kernel_digest, i.kernel_title, i.target,
                i.abi_version, i.architecture, i.devices, i.input_id,
                case when $8 then row_number() over (
                  partition by i.repository_id, i.kernel_digest order by i.manifest_id desc
                ) else 1 end as rank
           from images i
           join repositories r on r.id = i.repository_id
          where ($1::text[] is null or i.kernel_digest = any($1))
            and ($2::text is null or i.input_id = $2)
            and ($3::text is null or i.input_id <> $3)
            and i.manifest_id < $5
            and (r.visibility = 'public' or exists (
                  select 1
                    from json_to_recordset($4::json) as g (${RANGE_COLUMNS})
                   where ${REPOSITORY_IN_RANGE}))
            and ($7::json is null or exists (
                  select 1
                    from json_to_recordset($7::json) as g (${RANGE_COLUMNS})
                   where ${REPOSITORY_IN_RANGE}))
       ) i
       join manifests m on m.id = i.manifest_id
       join repositories r on r.id = i.repository_id
      where i.rank = 1
      order by i.manifest_id desc
      limit $6`,
    [
      key.kernels ?? null,
      key.inputId ?? null,
      key.otherThan ?? null,
      visible,
      before,
      limit,
      key.within ?? null,
      key.newestOnly === true,
    ],
  )
  return rows
}

/** A manifest of a repository, and its images: the manifest itself, or the children of an index. */
export type FoundImages = {
  /** Null when the view has no such repository. */
  readonly repositoryId: number | null
  /** Null when the repository has no such manifest. */
  readonly digest: Digest | null
  readonly images: readonly FoundImage[]
}

export type FoundImage = {
  readonly id: number
  /** Digest of the manifest. */
  readonly digest: Digest
  readonly kernelDigest: Digest
  readonly kernelTitle: string | null
  readonly target: string
  readonly abiVersion: number
  readonly architecture: string | null
}

// An index has about six images: one or two a target.
const INDEX_IMAGES_MAX = 64

/** Finds the manifest of a tag or digest, and its images, in one round trip. */
export async function findImages(
  db: Queryable,
  view: View,
  reference: Tag | Digest,
): Promise<FoundImages> {
  const { rows } = await db.query<FoundImages>(
    `with r as (
       select id
         from repositories
        where name = $1
          and (visibility = 'public' or not $2)
     ), m as (
       select id, digest
         from manifests
        where repository_id = (select id from r)
          and digest = coalesce((
                select digest
                  from tags
                 where repository_id = (select id from r)
                   and name = $3
              ), $3)
     ), members as (
       select id, digest
         from m
       union all
       select c.id, c.digest
         from m
         join manifest_children mc on mc.manifest_id = m.id
         join manifests c on c.repository_id = (select id from r) and c.digest = mc.digest
        limit $4
     )
     select (select id from r) as "repositoryId",
            (select digest from m) as digest,
            coalesce((
              select json_agg(json_build_object(
                       'id', i.manifest_id, 'digest', members.digest,
                       'kernelDigest', i.kernel_digest, 'kernelTitle', i.kernel_title,
                       'target', i.target, 'abiVersion', i.abi_version,
                       'architecture', i.architecture) order by i.manifest_id)
                from members
                join images i on i.manifest_id = members.id
            ), '[]') as images`,
    [view.repository, view.publicOnly, reference, INDEX_IMAGES_MAX],
  )
  const row = rows[0]
  if (row === undefined) throw new Error('a select of scalars returns one row')
  return row
}

/** The manifest of an image. */
export type ImageManifestRow = {
  readonly mediaType: string
  readonly pushedAt: Date
  readonly pushedBy: string
  /** The first IMAGE_TAGS_MAX by name. */
  readonly tags: readonly Tag[]
  /** The version of the analyzer that analyzed it last. */
  readonly analyzerVersion: number
  /** Bytes of the manifest and of the facts about its blobs. */
  readonly size: number
}

/** Finds the manifest of an image. Undefined when the image was removed meanwhile. */
export async function findImageManifest(
  db: Queryable,
  id: number,
): Promise<ImageManifestRow | undefined> {
  const { rows } = await db.query<ImageManifestRow>(
    `select m.media_type as "mediaType", m.pushed_at as "pushedAt", m.pushed_by as "pushedBy",
            m.analyzer_version as "analyzerVersion", ${TAGS_OF_MANIFEST} as tags,
            octet_length(m.bytes) + coalesce((
              select sum(octet_length(f.facts))
                from manifest_blobs mb
                join layer_analyses f on f.blob_id = mb.blob_id
               where mb.manifest_id = m.id
            ), 0)::bigint as size
       from manifests m
      where m.id = $1`,
    [id],
  )
  return rows[0]
}

/** The bytes of a manifest, and the analyses of its blobs as JSON: StoredAnalysis[] of `unikernel`. */
export type ImageAnalysesRow = { readonly bytes: Buffer; readonly analyses: string }

/** Finds the analyses of an image, as text: they may have megabytes. Undefined when it was removed meanwhile. */
export async function findImageAnalyses(
  db: Queryable,
  id: number,
): Promise<ImageAnalysesRow | undefined> {
  const { rows } = await db.query<ImageAnalysesRow>(
    `select m.bytes,
            coalesce((
              select json_agg(json_build_object(
                       'digest', b.digest, 'role', f.role, 'sha256', f.sha256,
                       'problem', f.problem, 'facts', f.facts))
                from manifest_blobs mb
                join blobs b on b.id = mb.blob_id
                join layer_analyses f on f.blob_id = b.id
               where mb.manifest_id = m.id
            ), '[]')::text as analyses
       from manifests m
      where m.id = $1`,
    [id],
  )
  return rows[0]
}

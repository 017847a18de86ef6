import type { Digest } from '../../oci/digest.ts'
import type { Tag } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import type { View } from '../registry/repositories.ts'
import { SYNOPSIS_OF_IMAGE, TAGS_OF_MANIFEST } from './image-lists.ts'

/** A manifest of a repository, and its images: the manifest itself, those unwrapped from it, or those of an index. */
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
  readonly abiVersion: number | null
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
     ), listed as (
       select id, digest
         from m
       union all
       select c.id, c.digest
         from m
         join manifest_children mc on mc.manifest_id = m.id
         join manifests c on c.repository_id = (select id from r) and c.digest = mc.digest
        limit $4
     ), members as (
       select id, digest
         from listed
       union all
       select u.id, u.digest
         from listed
         join manifests u on u.unwrapped_from = listed.id
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

/** Finds the blob of a role in an image. */
export async function findImageLayer(
  db: Queryable,
  id: number,
  role: string,
): Promise<Digest | undefined> {
  const { rows } = await db.query<{ digest: Digest }>(
    `select b.digest
       from image_layers l
       join blobs b on b.id = l.blob_id
      where l.manifest_id = $1
        and l.role = $2`,
    [id, role],
  )
  return rows[0]?.digest
}

/** The manifest of an image. */
export type ImageManifestRow = {
  readonly mediaType: string
  readonly pushedAt: Date
  readonly pushedBy: string
  /** The first IMAGE_TAGS_MAX by name. */
  readonly tags: readonly Tag[]
  /** The container image that it was unwrapped from. */
  readonly container: Digest | null
  /** Why a layer, a link or another kernel of the container image was not read. */
  readonly containerProblem: string | null
  /** The version of the analyzer that analyzed it last. */
  readonly analyzerVersion: number
  /** Increases when an import into the index of opam repositories changes what is known about its packages. */
  readonly indexVersion: number
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
            case when m.unwrapped_from is not null then m.subject end as container,
            (select u.problem from unwraps u where u.manifest_id = m.unwrapped_from) as "containerProblem",
            coalesce((
              select sum(f.index_version)
                from image_layers il
                join layer_analyses f on f.blob_id = il.blob_id and f.role = il.role
               where il.manifest_id = m.id
            ), 0)::bigint as "indexVersion",
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

/**
 * Finds the synopses of images of a repository, by the digests of their manifests. An image without one is left out.
 */
export async function listSynopses(
  db: Queryable,
  repositoryId: number,
  digests: readonly Digest[],
): Promise<ReadonlyMap<Digest, string>> {
  const { rows } = await db.query<{ digest: Digest; synopsis: string | null }>(
    `select m.digest, ${SYNOPSIS_OF_IMAGE} as synopsis
       from manifests m
       join images i on i.manifest_id = m.id
      where m.repository_id = $1
        and m.digest = any($2::text[])`,
    [repositoryId, digests],
  )
  return new Map(
    rows.flatMap(({ digest, synopsis }) => (synopsis === null ? [] : [[digest, synopsis]])),
  )
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

import type { Digest } from '../../oci/digest.ts'
import type { Tag } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import type { View } from '../registry/repositories.ts'
import { SYNOPSIS_OF_IMAGE, TAGS_OF_MANIFEST } from './image-lists.ts'

/** A manifest of a repository, and its images: the manifest itself, those unwrapped from it, or those of an index. */
export type FoundImages<Image = FoundImage> = {
  /** Null when the view has no such repository. */
  readonly repositoryId: number | null
  /** Null when the repository has no such manifest. */
  readonly digest: Digest | null
  readonly images: readonly Image[]
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

/** The manifest of the tag or digest $3 in the view of the repository $1, and the manifests that may be its images: `members`. */
const MEMBERS = `r as (
       select id
         from repositories
        where name = $1
          and (visibility = 'public' or not $2)
     ), named as (
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
         from named
       union all
       select c.id, c.digest
         from named
         join manifest_children mc on mc.manifest_id = named.id
         join manifests c on c.repository_id = (select id from r) and c.digest = mc.digest
        limit $4
     ), members as (
       select id, digest
         from listed
       union all
       select u.id, u.digest
         from listed
         join manifests u on u.unwrapped_from = listed.id
     )`

/** Finds the manifest of a tag or digest, and its images, in one round trip. */
export async function findImages(
  db: Queryable,
  view: View,
  reference: Tag | Digest,
): Promise<FoundImages> {
  const { rows } = await db.query<FoundImages>(
    `with ${MEMBERS}
     select (select id from r) as "repositoryId",
            (select digest from named) as digest,
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

/** An image with its manifest. */
export type ImageManifestRow = FoundImage & {
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

/** Does the same as `findImages`, and returns the manifests of the images as well. */
export async function findImageManifests(
  db: Queryable,
  view: View,
  reference: Tag | Digest,
): Promise<FoundImages<ImageManifestRow>> {
  type Found = { readonly repositoryId: number | null; readonly found: Digest | null }
  const { rows } = await db.query<Found & (ImageManifestRow | { readonly id: null })>(
    `with ${MEMBERS}
     select (select id from r) as "repositoryId", (select digest from named) as found, image.*
       from (select true) one
       left join (
         select i.manifest_id as id, m.digest, i.kernel_digest as "kernelDigest",
                i.kernel_title as "kernelTitle", i.target, i.abi_version as "abiVersion",
                i.architecture, m.media_type as "mediaType", m.pushed_at as "pushedAt",
                m.pushed_by as "pushedBy", m.analyzer_version as "analyzerVersion",
                ${TAGS_OF_MANIFEST} as tags,
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
           from members
           join images i on i.manifest_id = members.id
           join manifests m on m.id = members.id
       ) image on true
      order by image.id`,
    [view.repository, view.publicOnly, reference, INDEX_IMAGES_MAX],
  )
  const [first] = rows
  if (first === undefined) throw new Error('a left join of one row returns a row')
  const { repositoryId, found: digest } = first
  return { repositoryId, digest, images: rows.flatMap((row) => (row.id === null ? [] : [row])) }
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

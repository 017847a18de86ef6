import type { Digest } from '../../oci/digest.ts'
import type { Transaction } from '../database.ts'
import type { TagChange } from './tags.ts'

/** A blob or a manifest of a repository, which images may contain. */
export type Part = {
  readonly repositoryId: number
  readonly kind: 'blob' | 'manifest'
  readonly digest: Digest
}

/** A tag that needs a part. */
export type TagOfPart = TagChange & {
  /** True when the tag's image contains the part; false when the part belongs to a referrer of it. */
  readonly contains: boolean
}

export type TagsOfPart = {
  /** At most TAGS_OF_PART_MAX. Tags whose image contains the part come first. */
  readonly tags: readonly TagOfPart[]
  /** Count of manifests that contain the part or are its subject, at most MANIFESTS_OF_PART_MAX. */
  readonly manifests: number
}

/** At most this many tags are listed. */
export const TAGS_OF_PART_MAX = 1000
/** At most this many manifests are followed. */
export const MANIFESTS_OF_PART_MAX = 10_000

// Follows the part $2 of the repository $1 up: from a blob ($3) to manifests, from children to indexes, and from
// referrers to subjects. A tag `sha256-<hex>` on an index is the list of referrers of that digest (distribution
// spec, "Referrers Tag Schema"): its entries are referrers, and the tag itself needs nothing.
const HOLDING = `holding (digest, contains) as (
       (
         select $2::text collate "C", true
          where not $3::bool
         union all
         select m.digest, true
           from blobs b
           join manifest_blobs mb on mb.blob_id = b.id and mb.repository_id = $1
           join manifests m on m.id = mb.manifest_id
          where $3
            and b.digest = $2
       )
       union
       select up.digest, up.contains
         from holding h
        cross join lateral (
          select p.digest, h.contains
            from manifest_children c
            join manifests p on p.id = c.manifest_id
           where c.digest = h.digest
             and c.repository_id = $1
          union all
          -- An unwrapped image is a part of its container image.
          select m.subject, h.contains and m.unwrapped_from is not null
            from manifests m
           where m.repository_id = $1
             and m.digest = h.digest
             and m.subject is not null
          union all
          select ('sha256:' || substr(t.name, 8)) collate "C", false
            from tags t
            join manifests m on m.repository_id = $1 and m.digest = t.digest
           where t.repository_id = $1
             and t.digest = h.digest
             and t.name ~ '^sha256-[0-9a-f]{64}$'
             and m.media_type = 'application/vnd.oci.image.index.v1+json'
        ) up
     )`

/** Lists the tags whose images, or the referrers of whose images, contain a part. */
export async function listTagsOfPart(
  tx: Transaction,
  { repositoryId, kind, digest }: Part,
): Promise<TagsOfPart> {
  const { rows } = await tx.query<TagsOfPart>(
    `with recursive ${HOLDING}, followed as (
       select digest, contains
         from holding
        limit $4
     ), found as (
       select t.name as tag, t.digest as previous, f.contains,
              r.immutable_tags as "immutableTags"
         from followed f
         join tags t on t.repository_id = $1 and t.digest = f.digest
         join manifests m on m.repository_id = $1 and m.digest = t.digest
         join repositories r on r.id = $1
        where t.name !~ '^sha(256|512)-[0-9a-f]{64}$'
           or m.media_type <> 'application/vnd.oci.image.index.v1+json'
        order by f.contains desc
        limit $5
     )
     select (select coalesce(json_agg(found), '[]') from found) as tags,
            (select count(*) from followed) as manifests`,
    [repositoryId, digest, kind === 'blob', MANIFESTS_OF_PART_MAX, TAGS_OF_PART_MAX],
  )
  const row = rows[0]
  if (row === undefined) throw new Error('a select of scalars returned no row')
  return row
}

/**
 * Locks the manifests that contain a part, in the order of ids, so that no tag moves to one of them until the
 * transaction ends. Returns their digests, without the part itself.
 */
export async function lockManifestsOfPart(
  tx: Transaction,
  { repositoryId, kind, digest }: Part,
): Promise<Digest[]> {
  const { rows } = await tx.query<{ digest: Digest }>(
    `with recursive ${HOLDING}
     select m.digest
       from manifests m
      where m.repository_id = $1
        and m.digest in (
          select h.digest
            from holding h
           where h.contains
           limit $4
        )
        and ($3 or m.digest <> $2)
      order by m.id
        for update`,
    [repositoryId, digest, kind === 'blob', MANIFESTS_OF_PART_MAX],
  )
  return rows.map((row) => row.digest)
}

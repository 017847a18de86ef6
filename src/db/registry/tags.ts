import type { Digest } from '../../oci/digest.ts'
import type { Glob } from '../../oci/glob.ts'
import type { Tag } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'
import type { View } from './repositories.ts'

/** A change of a tag, with the immutable tags of its repository. */
export type TagChange = {
  readonly tag: Tag
  readonly previous: Digest | null
  readonly immutableTags: readonly Glob[]
}

/** A move of a tag, with the provenance setting of its repository. */
export type TagMove = TagChange & {
  readonly provenance: 'optional' | 'required'
  /** True when a unit of a host follows the tag. */
  readonly isFollowed: boolean
}

/** The reason of a move in the tag's history. */
export type MoveReason = 'push' | 'rollback'

// Read after the tag's row is locked; `for share` keeps others from changing the patterns until the
// transaction ends.
const LOCKED_IMMUTABLE_TAGS = `(select immutable_tags from repositories where id = $1 for share)`
const LOCKED_PROVENANCE = `(select provenance from repositories where id = $1 for share)`

/**
 * Moves tags to `digest` and adds their new positions to the history. Returns the previous digest of
 * each, which is locked until the transaction ends. A tag that already has `digest` gets no new
 * position.
 */
export async function moveTags(
  tx: Transaction,
  repositoryId: number,
  tags: readonly Tag[],
  digest: Digest,
  actor: string,
  reason: MoveReason = 'push',
): Promise<TagMove[]> {
  // In the order of names, so that two pushes of the same tags wait for each other instead of
  // deadlocking.
  const { rows } = await tx.query<TagMove>(
    `with moved as (
       insert into tags (repository_id, name, digest)
       select $1, t.name, $3
         from unnest($2::text[]) as t (name)
        order by t.name
           on conflict (repository_id, name) do update
          set previous_digest = tags.digest,
              digest = excluded.digest,
              moved_at = case when tags.digest = excluded.digest then tags.moved_at else now() end
       returning name, previous_digest
     ), recorded as (
       insert into tag_history (repository_id, tag, digest, previous_digest, actor, reason)
       select $1, name, $3, previous_digest, $4, $5
         from moved
        where previous_digest is distinct from $3
     )
     select name as tag, previous_digest as previous,
            ${LOCKED_IMMUTABLE_TAGS} as "immutableTags", ${LOCKED_PROVENANCE} as provenance,
            exists (
              select 1
                from units u
               where u.repository = (select name from repositories where id = $1)
                 and u.tag = moved.name
            ) as "isFollowed"
       from moved`,
    [repositoryId, tags, digest, actor, reason],
  )
  return rows
}

// Adds the tags `removed` of the repository `$1` to their histories, as removed by the actor `$3`.
const RECORD_REMOVED = `recorded as (
       insert into tag_history (repository_id, tag, previous_digest, actor, reason)
       select $1, name, digest, $3, 'delete'
         from removed
     )
     select name as tag, digest as previous,
            ${LOCKED_IMMUTABLE_TAGS} as "immutableTags"
       from removed`

/** Removes a tag and adds that to its history. Returns undefined when the tag does not exist. */
export async function removeTag(
  tx: Transaction,
  repositoryId: number,
  tag: Tag,
  actor: string,
): Promise<(TagChange & { readonly previous: Digest }) | undefined> {
  const { rows } = await tx.query<TagChange & { previous: Digest }>(
    `with removed as (
       delete from tags
        where repository_id = $1
          and name = $2
       returning name, digest
     ), ${RECORD_REMOVED}`,
    [repositoryId, tag, actor],
  )
  return rows[0]
}

/**
 * Removes every tag of a manifest and adds that to their histories. The caller has locked the manifest,
 * so no tag can be added meanwhile.
 */
export async function removeTagsOf(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
  actor: string,
): Promise<TagChange[]> {
  const { rows } = await tx.query<TagChange>(
    `with removed as (
       delete from tags
        where repository_id = $1
          and digest = $2
       returning name, digest
     ), ${RECORD_REMOVED}`,
    [repositoryId, digest, actor],
  )
  return rows
}

/**
 * Lists tags after `last`, in byte order. Returns undefined when the view has no such repository. The
 * names come as one JSON value, which costs less to read than as many rows.
 */
export async function listTags(
  db: Queryable,
  view: View,
  last: string,
  limit: number,
): Promise<string[] | undefined> {
  const { rows } = await db.query<{ names: string[] }>(
    `select (
       select coalesce(json_agg(page.name order by page.name), '[]')
         from (
           select name
             from tags
            where repository_id = r.id
              and name > $3
            order by name
            limit $4
         ) page
     ) as names
       from repositories r
      where r.name = $1
        and (r.visibility = 'public' or not $2)`,
    [view.repository, view.publicOnly, last, limit],
  )
  return rows[0]?.names
}

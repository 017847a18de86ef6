import type { Digest } from '../../oci/digest.ts'
import type { Tag } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import type { View } from './repositories.ts'

/** One position of a tag: a manifest that the tag pointed to, or its removal. */
export type TagPosition = {
  /** Later positions of a tag have larger ids. */
  readonly id: number
  /** Null when the tag was deleted. */
  readonly digest: Digest | null
  readonly previousDigest: Digest | null
  readonly actor: string
  readonly reason: string
  readonly movedAt: Date
  /**
   * The media type of `digest`, or of `previousDigest` when the tag was deleted; null when that manifest
   * is deleted.
   */
  readonly mediaType: string | null
  /** Bytes. Null when `mediaType` is. */
  readonly size: number | null
}

/**
 * Lists positions of a tag before the id `before`, newest first. The tag may be deleted. A range of one tag and the order
 * of the index keep Postgres from reading the positions of all tags in the order of ids.
 */
export async function listTagPositions(
  db: Queryable,
  view: View,
  tag: Tag,
  before: number,
  limit: number,
): Promise<TagPosition[]> {
  const { rows } = await db.query<TagPosition>(
    `select h.id, h.digest, h.previous_digest as "previousDigest", h.actor, h.reason,
            h.moved_at as "movedAt", m.media_type as "mediaType", octet_length(m.bytes) as size
       from (
         select id, repository_id, digest, previous_digest, actor, reason, moved_at
           from tag_history
          where repository_id = (
                  select id
                    from repositories
                   where name = $1
                     and (visibility = 'public' or not $2)
                )
            and tag >= $3
            and tag <= $3
            and id < $4
          order by tag desc, id desc
          limit $5
       ) h
       left join manifests m on m.repository_id = h.repository_id
                         and m.digest = coalesce(h.digest, h.previous_digest)
      order by h.id desc`,
    [view.repository, view.publicOnly, tag, before, limit],
  )
  return rows
}

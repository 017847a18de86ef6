import type { Digest } from '../../oci/digest.ts'
import type { Tag } from '../../oci/reference.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import { IMAGES_OF_MANIFEST } from '../deployments/kernels.ts'
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
  /** Undefined unless they were asked for. Only the newest position of a page with an image has its runs. */
  readonly runs?: readonly PositionRun[]
}

/** A kernel of a position that ran in a unit of a host, also when another tag had it, too. Times are texts. */
export type PositionRun = {
  readonly host: string
  /** The patterns of what its host may follow; null for a revoked host. */
  readonly hostRepositories: readonly string[] | null
  readonly from: string
  /** Null: it still runs. */
  readonly to: string | null
}

/** Runs of a position that are shown, the newest ones. One more is returned, which says that there are more. */
export const POSITION_RUNS_MAX = 4
/** Runs of one kernel that are looked at, also those of other repositories. */
const RUNS_SCANNED_MAX = 12

const JOIN_RUNS = `left join lateral (
         select json_agg(json_build_object('host', hosts.name, 'from', found.from_at, 'to', found.to_at,
                  'hostRepositories', case when hosts.state = 'active' then hosts.repositories end)
                  order by found.id desc) as runs
           from (
             select run.id, run.host_id, run.from_at, run.to_at
               from (
                 select distinct i.kernel_digest
                   from ${IMAGES_OF_MANIFEST}
               ) k
              cross join lateral (
                 select id, host_id, repository, from_at, to_at
                   from runs
                  where kernel = k.kernel_digest
                  order by kernel desc, id desc
                  limit ${RUNS_SCANNED_MAX}
              ) run
              where h.is_newest
                and h.digest is not null
                and run.repository = $1
              order by run.id desc
              limit ${POSITION_RUNS_MAX} + 1
           ) found
           join hosts on hosts.id = found.host_id
       ) ran on true`

/**
 * Lists positions of a tag before the id `before`, newest first. The tag may be deleted. A range of one tag and the order
 * of the index keep Postgres from reading the positions of all tags in the order of ids. `withRuns`: also where their kernels ran.
 */
export async function listTagPositions(
  db: Queryable,
  view: View,
  tag: Tag,
  before: number,
  limit: number,
  withRuns = false,
): Promise<TagPosition[]> {
  const asked = withRuns || undefined
  const { rows } = await db.query<TagPosition>(
    ...withConditions(
      `select h.id, h.digest, h.previous_digest as "previousDigest", h.actor, h.reason,
            h.moved_at as "movedAt", m.media_type as "mediaType", octet_length(m.bytes) as size
            {runs}
       from (
         select id, repository_id, digest, previous_digest, actor, reason, moved_at,
                row_number() over (partition by digest order by id desc) = 1 as is_newest
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
           ) listed_positions
       ) h
       left join manifests m on m.repository_id = h.repository_id
                         and m.digest = coalesce(h.digest, h.previous_digest)
       {join}
      order by h.id desc`,
      [view.repository, view.publicOnly, tag, before, limit],
      {
        runs: given(", coalesce(ran.runs, '[]') as runs", asked),
        join: given(JOIN_RUNS, asked),
      },
    ),
  )
  return rows
}

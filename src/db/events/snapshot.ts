import type { Digest } from '../../oci/digest.ts'
import type { Glob } from '../../oci/glob.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import {
  nameRanges,
  RANGE_COLUMNS,
  REPOSITORY_IN_BOUNDS,
  REPOSITORY_IN_VISIBLE_BOUNDS,
  REPOSITORY_SELECTED,
  REPOSITORY_VISIBLY_SELECTED,
  TAG_IN_RANGE,
  type VisibleNames,
} from '../name-patterns.ts'
import type { CurrentTag } from './feed.ts'

/** A repository whose name may match a pattern. */
export type CandidateRepository = {
  readonly id: number
  readonly name: Repository
}

/**
 * Lists public repositories and those in `visible`, in the ranges of the patterns, at most `limit`: all that match the
 * patterns, and perhaps others.
 */
export async function listCandidates(
  db: Queryable,
  patterns: readonly Glob[],
  visible: VisibleNames,
  limit: number,
): Promise<CandidateRepository[]> {
  const { rows } = await db.query<CandidateRepository>(
    // Public repositories, and those of the ranges that the caller sees: private ones of others are never read.
    `select id, name
       from (
         select public.id, public.name
           from json_to_recordset($1::json) as g (${RANGE_COLUMNS})
          cross join lateral (
            select r.id, r.name
              from (
                select r.id, r.name
                  from repositories r
                 where r.visibility = 'public'
                   and ${REPOSITORY_IN_BOUNDS}
                 order by r.name
                offset 0
              ) r
             where ${REPOSITORY_SELECTED}
             limit $3
          ) public
         union
         select own.id, own.name
           from json_to_recordset($1::json) as g (${RANGE_COLUMNS})
          cross join json_to_recordset($2::json) as v (${RANGE_COLUMNS})
          cross join lateral (
            select r.id, r.name
              from (
                select r.id, r.name
                  from repositories r
                 where ${REPOSITORY_IN_BOUNDS}
                   and ${REPOSITORY_IN_VISIBLE_BOUNDS}
                 order by r.name
                offset 0
              ) r
             where ${REPOSITORY_SELECTED}
               and ${REPOSITORY_VISIBLY_SELECTED}
             limit $3
          ) own
       ) listed
      order by name
      limit $3`,
    [nameRanges(patterns), visible, limit],
  )
  return rows
}

/** A tag of a candidate. */
export type CandidateTag = {
  readonly repositoryId: number
  readonly tag: Tag
  readonly digest: Digest
  readonly movedAt: string
}

/** Lists tags of repositories in the ranges of the patterns, at most `limit`. */
export async function listCandidateTags(
  db: Queryable,
  repositoryIds: readonly number[],
  patterns: readonly Glob[],
  limit: number,
): Promise<CandidateTag[]> {
  const { rows } = await db.query<CandidateTag>(
    `select distinct t.repository_id as "repositoryId", t.name as tag, t.digest,
            to_json(t.moved_at) #>> '{}' as "movedAt"
       from unnest($1::bigint[]) as wanted (id)
      cross join json_to_recordset($2::json) as g (${RANGE_COLUMNS})
      cross join lateral (
        select t.repository_id, t.name, t.digest, t.moved_at
          from tags t
         where t.repository_id = wanted.id
           and ${TAG_IN_RANGE}
         order by t.name
         limit $3
      ) t
      limit $3`,
    [repositoryIds, nameRanges(patterns), limit],
  )
  return rows
}

/** The unikernels of a manifest: its own, or those of an index's children. */
export async function listCurrentUnikernels(
  db: Queryable,
  manifests: readonly { readonly repositoryId: number; readonly digest: Digest }[],
): Promise<CurrentTag['unikernels'][]> {
  const { rows } = await db.query<{ unikernels: CurrentTag['unikernels'] }>(
    `select coalesce((
              select json_agg(json_build_object(
                       'digest', members.digest, 'kernelDigest', i.kernel_digest,
                       'target', i.target, 'abiVersion', i.abi_version,
                       'architecture', i.architecture, 'inputId', i.input_id)
                       order by i.manifest_id)
                from (
                  with listed as (
                    select m.id, m.digest
                      from manifests m
                     where m.repository_id = k.repository_id
                       and m.digest = k.digest
                    union all
                    select mm.id, mm.digest
                      from manifests m
                      join manifest_children mc on mc.manifest_id = m.id
                      join manifests mm on mm.repository_id = k.repository_id
                                       and mm.digest = mc.digest
                     where m.repository_id = k.repository_id
                       and m.digest = k.digest
                  )
                  select id, digest
                    from listed
                  union all
                  select u.id, u.digest
                    from listed
                    join manifests u on u.unwrapped_from = listed.id
                ) members
                join images i on i.manifest_id = members.id
            ), '[]') as unikernels
       from unnest($1::bigint[], $2::text[]) with ordinality as k (repository_id, digest, position)
      order by k.position`,
    [manifests.map(({ repositoryId }) => repositoryId), manifests.map(({ digest }) => digest)],
  )
  return rows.map(({ unikernels }) => unikernels)
}

/** True when a committed event has no position yet. */
export async function hasPendingEvents(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ pending: boolean }>(
    'select exists (select 1 from event_outbox) as pending',
  )
  return rows[0]?.pending === true
}

import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import {
  RANGE_COLUMNS,
  REPOSITORY_IN_BOUNDS,
  REPOSITORY_SELECTED,
  type VisibleNames,
} from '../name-patterns.ts'

/** Words that a text may be. Null: it cannot be that. */
export type SearchWords = {
  /** The beginning of a digest of a manifest or a kernel, or a whole one. */
  readonly digest: string | null
  /** The beginning of an input id, or a whole one. */
  readonly inputId: string | null
  readonly tag: Tag | null
  /** The beginning of the name of a repository. */
  readonly name: string | null
  /** Only in this repository. */
  readonly repository: Repository | null
  /** The UUID of a deployment or a build. */
  readonly id: string | null
}

/** A place that a text may mean. */
export type FoundPlace =
  | { readonly kind: 'image'; readonly repository: Repository; readonly text: Digest }
  | { readonly kind: 'kernel'; readonly repository: null; readonly text: Digest }
  | { readonly kind: 'inputs'; readonly repository: null; readonly text: string }
  | { readonly kind: 'tag'; readonly repository: Repository; readonly text: Tag }
  | { readonly kind: 'repository'; readonly repository: Repository; readonly text: Repository }
  | { readonly kind: 'deployment'; readonly repository: Repository; readonly text: string }
  | { readonly kind: 'build'; readonly repository: Repository; readonly text: string }

/** Repositories in which manifests and tags are looked up, each with one probe of an index. */
const REPOSITORIES_MAX = 5_000
/** Images of one kernel or input id whose repository is compared with what the caller may see. */
const IMAGES_MAX = 2_000
/** Places of each kind. */
export const PLACES_MAX = 10

/** True for a repository `r` with content whose name begins with $2. No character of a name is above `~`. */
const BEGINS_WITH_NAME = `r.name >= $2
             and r.name < $2 || '~'
             and r.deleted_at is null
             and exists (select 1 from manifests m where m.repository_id = r.id offset 0)`

/**
 * Finds what the words may mean in public repositories, and in those of `visible`: at most PLACES_MAX of each kind.
 * Manifests and tags are found in the first REPOSITORIES_MAX repositories by name, unless the words name one.
 */
export async function findByWords(
  db: Queryable,
  { digest, inputId, tag, name, repository, id }: SearchWords,
  visible: VisibleNames,
): Promise<FoundPlace[]> {
  const { rows } = await db.query<FoundPlace>(
    ...withConditions(
      `with seen as materialized (
       select id, name
         from (
           (select r.id, r.name
              from repositories r
             where r.visibility = 'public'
               and r.deleted_at is null
               {repository}
             order by r.name
             limit ${REPOSITORIES_MAX})
           union
           select own.id, own.name
             from json_to_recordset($1::json) as g (${RANGE_COLUMNS})
            cross join lateral (
              select r.id, r.name
                from (
                  select r.id, r.name
                    from repositories r
                   where ${REPOSITORY_IN_BOUNDS}
                     and r.deleted_at is null
                     {repository}
                         order by r.name
                  offset 0
                ) r
               where ${REPOSITORY_SELECTED}
               limit ${REPOSITORIES_MAX}
            ) own
         ) r
        order by name
        limit ${REPOSITORIES_MAX}
     )
     select 'repository' as kind, name as repository, name as text
       from (
         (select r.name
            from repositories r
           where r.visibility = 'public'
             and ${BEGINS_WITH_NAME}
           order by r.name
           limit ${PLACES_MAX})
         union
         select own.name
           from json_to_recordset($1::json) as g (${RANGE_COLUMNS})
          cross join lateral (
            select r.name
              from (
                select r.name
                  from repositories r
                 where ${REPOSITORY_IN_BOUNDS}
                   and ${BEGINS_WITH_NAME}
                 order by r.name
                offset 0
              ) r
             where ${REPOSITORY_SELECTED}
             limit ${PLACES_MAX}
          ) own
          order by name
          limit ${PLACES_MAX}
       ) r
     union all
     select 'image', name, digest
       from (
         select s.name, m.digest
           from seen s
          cross join lateral (
            select digest
              from manifests
             where repository_id = s.id
               and digest >= $3
               and digest < $3 || 'g'
             order by digest
             limit ${PLACES_MAX}
          ) m
          where $3::text is not null
          limit ${PLACES_MAX}
       ) m
     union all
     select 'tag', name, tag
       from (
         select s.name, t.name as tag
           from seen s
           join tags t on t.repository_id = s.id and t.name = $4
          where $4::text is not null
          order by s.name
          limit ${PLACES_MAX}
       ) t
     union all
     select 'kernel', null, kernel_digest
       from (
         select distinct i.kernel_digest
           from (
             select kernel_digest, repository_id
               from images
              where kernel_digest >= $3
                and kernel_digest < $3 || 'g'
              order by kernel_digest
              limit ${IMAGES_MAX}
           ) i
           join seen s on s.id = i.repository_id
          where $3::text is not null
          limit ${PLACES_MAX}
       ) i
     union all
     select 'inputs', null, input_id
       from (
         select distinct i.input_id
           from (
             select input_id, repository_id
               from images
              where input_id >= $5
                and input_id < $5 || 'g'
              order by input_id
              limit ${IMAGES_MAX}
           ) i
           join seen s on s.id = i.repository_id
          where $5::text is not null
          limit ${PLACES_MAX}
       ) i
     union all
     select 'deployment', s.name, d.id::text
       from deployments d
       join seen s on s.id = d.repository_id
      where d.id = $6::uuid
     union all
     select 'build', name, id
       from (
         select s.name, b.id::text as id
           from builds b
           join seen s on s.id = b.repository_id
          where b.id = $6::uuid
          limit ${PLACES_MAX}
       ) b`,
      [visible, name, digest, tag, inputId, id],
      { repository: given('and r.name = $', repository ?? undefined) },
    ),
  )
  return rows
}

import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import {
  RANGE_COLUMNS,
  REPOSITORY_IN_BOUNDS,
  REPOSITORY_SELECTED,
  VISIBLE_REPOSITORY,
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
  /** The name of a package of opam. */
  readonly package: string | null
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
  | { readonly kind: 'package'; readonly repository: null; readonly text: string }

/**
 * Rows of one kind whose repository is compared with what the caller may see, each with a probe of an index: the oldest
 * repositories and images first, so that nobody hides those of others by pushing the same again. For a package these are the newest images.
 */
const COMPARED_MAX = 200
/** Places of each kind. */
export const PLACES_MAX = 10

/** True for a repository `r` whose name begins with $2. No character of a name is above `~`. */
const BEGINS_WITH_NAME = `r.name >= $2
                 and r.name < $2 || '~'
                 and r.deleted_at is null`

/** True for a repository `r` with content. */
const HAS_MANIFEST = 'exists (select 1 from manifests m where m.repository_id = r.id offset 0)'

/**
 * Finds what the words may mean in public repositories, and in those of `visible`: at most PLACES_MAX of each kind. Compares
 * COMPARED_MAX rows of each kind with what the caller may see.
 */
export async function findByWords(
  db: Queryable,
  words: SearchWords,
  visible: VisibleNames,
): Promise<FoundPlace[]> {
  const { digest, inputId, tag, name, id, package: packageName } = words
  const repository = words.repository ?? undefined
  const { rows } = await db.query<FoundPlace>(
    ...withConditions(
      `with visible as materialized (
       select *
         from json_to_recordset($1::json) as g (${RANGE_COLUMNS})
     )
     select 'repository' as kind, name as repository, name as text
       from (
         (select r.name
            from (
              select r.id, r.name
                from repositories r
               where r.visibility = 'public'
                 and ${BEGINS_WITH_NAME}
               order by r.name
               limit ${COMPARED_MAX}
            ) r
           where ${HAS_MANIFEST}
           order by r.name
           limit ${PLACES_MAX})
         union
         select own.name
           from visible g
          cross join lateral (
            select r.name
              from (
                select r.id, r.name
                  from repositories r
                 where ${REPOSITORY_IN_BOUNDS}
                   and ${BEGINS_WITH_NAME}
                 order by r.name
                 limit ${COMPARED_MAX}
              ) r
             where ${REPOSITORY_SELECTED}
               and ${HAS_MANIFEST}
             order by r.name
             limit ${PLACES_MAX}
          ) own
          where g.low < $2 || '~'
            and g.high > $2
          order by name
          limit ${PLACES_MAX}
       ) r
     union all
     (select 'image', r.name, c.digest
        from (
          select digest, repository_id
            from manifests
           where digest >= $3
             and digest < $3 || 'g'
             {repository}
           order by digest, repository_id
           limit ${COMPARED_MAX}
        ) c
       cross join ${VISIBLE_REPOSITORY}
       limit ${PLACES_MAX})
     union all
     (select 'tag', r.name, c.name
        from (
          select name, repository_id
            from tags
           where name >= $4
             and name <= $4
             {repository}
           order by name, repository_id
           limit ${COMPARED_MAX}
        ) c
       cross join ${VISIBLE_REPOSITORY}
       limit ${PLACES_MAX})
     union all
     (select distinct 'kernel', null, c.kernel_digest
        from (
          select kernel_digest, repository_id
            from images
           where kernel_digest >= $3
             and kernel_digest < $3 || 'g'
           order by kernel_digest, manifest_id
           limit ${COMPARED_MAX}
        ) c
       cross join ${VISIBLE_REPOSITORY}
       where true
         {named}
       limit ${PLACES_MAX})
     union all
     (select distinct 'inputs', null, c.input_id
        from (
          select input_id, repository_id
            from images
           where input_id >= $5
             and input_id < $5 || 'g'
           order by input_id, manifest_id
           limit ${COMPARED_MAX}
        ) c
       cross join ${VISIBLE_REPOSITORY}
       limit ${PLACES_MAX})
     union all
     select 'deployment', r.name, c.id::text
       from (
         select id, repository_id
           from deployments
          where id = $6::uuid
       ) c
      cross join ${VISIBLE_REPOSITORY}
     union all
     (select 'build', r.name, c.id::text
        from (
          select id, repository_id
            from builds
           where id = $6::uuid
           order by id, position
           limit ${COMPARED_MAX}
        ) c
       cross join ${VISIBLE_REPOSITORY}
       limit ${PLACES_MAX})
     union all
     (select 'package', null, $7
        from (
          select i.repository_id
            from packages p
           cross join lateral (
             select blob_id
               from layer_packages
              where package_id = p.id
              order by blob_id desc
              limit ${COMPARED_MAX}
           ) list
           cross join lateral (
             select manifest_id
               from image_layers
              where blob_id = list.blob_id
                and role || '' in ('opam-switch', 'opam-lock')
              order by manifest_id desc
              limit ${COMPARED_MAX}
           ) l
           cross join lateral (
             select repository_id
               from images
              where manifest_id = l.manifest_id
             offset 0
           ) i
           where p.ecosystem = 'opam'
             and p.name = $7
           limit ${COMPARED_MAX}
        ) c
       cross join ${VISIBLE_REPOSITORY}
       limit 1)`,
      [visible, name, digest, tag, inputId, id, packageName],
      {
        repository: given(
          'and repository_id = (select id from repositories where name = $)',
          repository,
        ),
        named: given('and r.name = $', repository),
      },
    ),
  )
  return rows
}

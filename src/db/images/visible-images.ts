import { RANGE_COLUMNS, REPOSITORY_IN_RANGE } from '../name-patterns.ts'

/**
 * True for image `i` of a public repository, or of one in the ranges of the value. `offset 0` makes it a probe of an index for
 * each image: Postgres would otherwise read all repositories first.
 */
export const IMAGE_IS_VISIBLE = `and exists (
                        select 1
                          from repositories r
                         where r.id = i.repository_id
                           and (r.visibility = 'public' or exists (
                                 select 1
                                   from json_to_recordset($::json) as g (${RANGE_COLUMNS})
                                  where ${REPOSITORY_IN_RANGE}))
                        offset 0)`

/** True for repository `r` in the ranges of the value. */
export const REPOSITORY_IS_WITHIN = `and exists (
                        select 1
                          from json_to_recordset($::json) as g (${RANGE_COLUMNS})
                         where ${REPOSITORY_IN_RANGE})`

/** A table of the names that a caller may see, from $3: a statement reads them once. */
export const VISIBLE_RANGES = `visible as materialized (
       select *
         from json_to_recordset($3::json) as g (${RANGE_COLUMNS})
     )`

/**
 * The visible images that have layer `list.blob_id` in one of the roles $2, newest first, with their role: one probe for each.
 * After VISIBLE_RANGES. `role || ''` is no condition of an index, which would not be read in its order with a list of roles.
 */
export const VISIBLE_IMAGES_OF_LIST = `(
                  select il.manifest_id, il.role, i.kernel_digest, i.target, i.repository
                    from (
                      select manifest_id, role
                        from image_layers
                       where blob_id = list.blob_id
                         and role || '' = any($2)
                       order by manifest_id desc
                      offset 0
                    ) il
                   cross join lateral (
                     select i.kernel_digest, i.target, r.name as repository
                       from images i
                       join repositories r on r.id = i.repository_id
                      where i.manifest_id = il.manifest_id
                        and (r.visibility = 'public' or exists (
                              select 1
                                from visible g
                               where ${REPOSITORY_IN_RANGE}))
                     offset 0
                   ) i
                )`

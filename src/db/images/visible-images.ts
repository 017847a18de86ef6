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

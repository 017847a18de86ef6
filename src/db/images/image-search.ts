import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import type { VisibleNames } from '../name-patterns.ts'
import {
  IMAGE_COLUMNS,
  type ImageFilter,
  type ImagePage,
  type ImageRow,
  imageConditions,
  SCANNED_BEFORE_LAST,
  SCANNED_MAX,
} from './image-lists.ts'
import { IMAGE_IS_VISIBLE, REPOSITORY_IS_WITHIN } from './visible-images.ts'

/** Selects images of all repositories. */
export type ImageSearch = {
  readonly filter: ImageFilter
  /** Ranges of names: only images of repositories that are in one range of each list. */
  readonly within: readonly string[]
}

/**
 * Lists images of all repositories, newest first, with ids below `before`. Only public repositories, and repositories in
 * `visible`, count: those of others neither fill a page nor end it. Compares at most SCANNED_MAX images of the target.
 */
export async function searchImages(
  db: Queryable,
  { filter, within }: ImageSearch,
  visible: VisibleNames,
  before: number,
  limit: number,
): Promise<ImagePage> {
  const scanned = [
    ...given('and i.target >= $ and i.target <= $', filter.target),
    ...given(IMAGE_IS_VISIBLE, visible),
  ]
  const filters = [
    ...imageConditions(filter),
    ...within.flatMap((ranges) => given(REPOSITORY_IS_WITHIN, ranges)),
  ]
  const order = filter.target === undefined ? NEWEST_FIRST : NEWEST_OF_TARGET
  const { rows } = await db.query<ImageRow>(
    ...withConditions(
      `select ${IMAGE_COLUMNS}
         from (
           select i.*
             from (
               select i.*
                 from images i
                where i.manifest_id < $1
                  {scanned}
                {order}
                limit ${SCANNED_MAX}
             ) i
             join repositories r on r.id = i.repository_id
            where true
              {filters}
            order by i.manifest_id desc
            limit $2
         ) i
         join manifests m on m.id = i.manifest_id
         join repositories r on r.id = i.repository_id
        order by i.manifest_id desc`,
      [before, limit + 1],
      {
        scanned,
        order,
        filters,
      },
    ),
  )
  const images = rows.slice(0, limit)
  if (rows.length > limit) return { images, next: images.at(-1)?.id }
  if (filters.length === 0) return { images, next: undefined }
  const { rows: last } = await db.query<{ id: number }>(
    ...withConditions(
      `select i.manifest_id as id
         from images i
        where i.manifest_id < $1
          {scanned}
        {order}
       offset ${SCANNED_BEFORE_LAST}
        limit 1`,
      [before],
      { scanned, order },
    ),
  )
  return { images, next: last[0]?.id }
}

const NEWEST_FIRST = given('order by i.manifest_id desc', true)
// A range of one target, in the order of its index: Postgres would otherwise read all images when it knows few targets.
const NEWEST_OF_TARGET = given('order by i.target desc, i.manifest_id desc', true)

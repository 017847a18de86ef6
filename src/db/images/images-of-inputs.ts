import type { Digest } from '../../oci/digest.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import type { VisibleNames } from '../name-patterns.ts'
import { imageHitConditions, type TagFilter } from './hit-filters.ts'
import { IMAGE_COLUMNS, type ImageRow, SCANNED_MAX } from './image-lists.ts'
import { IMAGE_IS_VISIBLE, REPOSITORY_IS_WITHIN } from './visible-images.ts'

/** Images that somebody says were made from inputs, and images of the same kernels. Each list has the newest first. */
export type ImagesOfInputs = {
  /** Images in the asker's own repositories. */
  readonly own: readonly ImageRow[]
  /** The newest image of each repository and kernel that is not in `own`. */
  readonly claimed: readonly ImageRow[]
  /** The newest image of each repository that has one of these kernels, from other inputs. */
  readonly others: readonly ImageRow[]
  /** The kernels of own images, also of those that the filter does not select. */
  readonly ownKernels: readonly Digest[]
  /** True when there may be more images than these. */
  readonly more: boolean
}

type Row = Pick<ImagesOfInputs, 'ownKernels' | 'more'> &
  ((ImageRow & { readonly list: 'own' | 'claimed' | 'others' }) | { readonly id: null })

/**
 * Lists the images of inputs that the filter selects, at most `limit` in each list. Only public repositories, and those of
 * `visible`, count. Own images are those of repositories in `within`. Compares at most SCANNED_MAX images of the inputs, and of
 * each kernel.
 */
export async function listImagesOfInputs(
  db: Queryable,
  inputId: string,
  filter: TagFilter,
  visible: VisibleNames,
  within: VisibleNames,
  limit: number,
): Promise<ImagesOfInputs> {
  const { rows } = await db.query<Row>(
    ...withConditions(
      `with scanned as materialized (
         select i.manifest_id, i.repository_id, i.kernel_digest
           from images i
          where i.input_id = $1
            {visible}
          order by i.manifest_id desc
          limit ${SCANNED_MAX}
       ), compared as materialized (
         select i.*, (true {within}) as is_own, (true {filters}) as is_selected
           from scanned i
           join repositories r on r.id = i.repository_id
       ), selected as materialized (
         select *, row_number() over (
                  partition by repository_id, kernel_digest order by manifest_id desc) as rank
           from compared
          where is_selected
       ), own as materialized (
         select manifest_id, kernel_digest
           from selected
          where is_own
          order by manifest_id desc
          limit $2 + 1
       ), claimed as materialized (
         select manifest_id, kernel_digest
           from selected
          where rank = 1
          order by manifest_id desc
          limit $2 + 1
       ), same_kernel as materialized (
         select i.*
           from (
             (select kernel_digest from own order by manifest_id desc limit $2)
             union
             (select kernel_digest from claimed order by manifest_id desc limit $2)
           ) made
          cross join lateral (
            select i.manifest_id, i.repository_id, i.kernel_digest, i.input_id
              from images i
             where i.kernel_digest = made.kernel_digest
               {visible}
             order by i.manifest_id desc
             limit ${SCANNED_MAX}
          ) i
       ), others as materialized (
         select i.manifest_id
           from (
             select i.manifest_id, row_number() over (
                      partition by i.repository_id, i.kernel_digest order by i.manifest_id desc) as rank
               from same_kernel i
               join repositories r on r.id = i.repository_id
              where i.input_id <> $1
                {filters}
           ) i
          where i.rank = 1
          order by i.manifest_id desc
          limit $2 + 1
       ), listed as (
         select 'own' as list, manifest_id
           from own
         union all
         select 'claimed', manifest_id
           from claimed
          where manifest_id not in (select manifest_id from own)
         union all
         select 'others', manifest_id
           from others
       )
       select total.*, image.*
         from (
           select array(select distinct kernel_digest from compared where is_own) as "ownKernels",
                  (select count(*) from scanned) = ${SCANNED_MAX}
                  or exists (
                       select 1
                         from same_kernel
                        group by kernel_digest
                       having count(*) = ${SCANNED_MAX})
                  or greatest((select count(*) from own), (select count(*) from claimed),
                       (select count(*) from others)) > $2 as more
         ) total
         left join (
           select listed.list, ${IMAGE_COLUMNS}
             from listed
             join images i on i.manifest_id = listed.manifest_id
             join manifests m on m.id = listed.manifest_id
             join repositories r on r.id = i.repository_id
         ) image on true
        order by image.id desc`,
      [inputId, limit],
      {
        visible: given(IMAGE_IS_VISIBLE, visible),
        within: given(REPOSITORY_IS_WITHIN, within),
        filters: imageHitConditions({ ...filter, repository: undefined }),
      },
    ),
  )
  const images = rows.flatMap((row) => (row.id === null ? [] : [row]))
  const listOf = (list: (typeof images)[number]['list']) =>
    images.filter((image) => image.list === list).slice(0, limit)
  const [{ ownKernels, more } = { ownKernels: [], more: false }] = rows
  return {
    ...{ own: listOf('own'), claimed: listOf('claimed'), others: listOf('others') },
    ...{ ownKernels, more },
  }
}

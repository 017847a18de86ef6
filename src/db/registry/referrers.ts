import type { Digest } from '../../oci/digest.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'

export type ReferrerRow = {
  readonly id: number
  readonly digest: Digest
  readonly mediaType: string
  readonly artifactType: string | null
  /** JSON. */
  readonly annotations: string | null
  readonly size: number
  /** Count of rows up to the limit, including the rows that `annotationBytesMax` cut off. */
  readonly found: number
}

export type ReferrerQuestion = {
  readonly repositoryId: number
  readonly subject: Digest
  readonly artifactType: string | undefined
  /** The page begins after this id. Ids are in the order of pushes. */
  readonly after: number
  readonly limit: number
  /** A page ends before its annotations exceed this, but has at least one row. */
  readonly annotationBytesMax: number
}

/** Lists one page of the manifests whose subject is `subject`, in the order of pushes. */
export async function listReferrers(
  db: Queryable,
  question: ReferrerQuestion,
): Promise<ReferrerRow[]> {
  const { rows } = await db.query<ReferrerRow>(
    ...withConditions(
      `select id, digest, media_type as "mediaType", artifact_type as "artifactType", annotations, size,
              found
         from (
           select page.id, page.digest, page.media_type, page.artifact_type, page.annotations, page.size,
                  coalesce(sum(octet_length(page.annotations)) over (
                    order by page.id rows between unbounded preceding and current row
                  ), 0) as annotation_bytes,
                  row_number() over (order by page.id) as position,
                  count(*) over () as found
             from (
               select id, digest, media_type, artifact_type, annotations, octet_length(bytes) as size
                 from manifests
                where repository_id = $1
                  and subject = $2
                  and id > $3
                  {filter}
                order by id
                limit $4
             ) page
         ) summed
        where position = 1 or annotation_bytes <= $5
        order by id`,
      [
        question.repositoryId,
        question.subject,
        question.after,
        question.limit,
        question.annotationBytesMax,
      ],
      { filter: given('and artifact_type = $', question.artifactType) },
    ),
  )
  return rows
}

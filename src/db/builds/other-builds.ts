import type { Digest } from '../../oci/digest.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'

/** The newest build of an image on one platform. */
export type ImageBuild = {
  readonly position: number
  /** Null when the builder did not say it. */
  readonly platform: string | null
}

/** An image has one build, and one more for each builder that reproduced it. */
const BUILDS_OF_IMAGE_MAX = 100
const PLATFORMS_MAX = 5
/** Builds that one search reads. */
const SCANNED_MAX = 2_000

/** Lists the newest build of an image on each platform, newest first. */
export async function listPlatformsOf(
  db: Queryable,
  repositoryId: number,
  digest: Digest,
): Promise<ImageBuild[]> {
  const { rows } = await db.query<ImageBuild>(
    `select max(b.position) as position, b.platform
       from (
         select position, platform
           from builds
          where repository_id = $1
            and manifest_digest = $2
          order by position desc
          limit ${BUILDS_OF_IMAGE_MAX}
       ) b
      group by b.platform
      order by max(b.position) desc
      limit ${PLATFORMS_MAX}`,
    [repositoryId, digest],
  )
  return rows
}

/** `previous` and `next`: the nearest with another kernel. `latest`: the newest of all. */
export type OtherBuild = 'previous' | 'next' | 'latest'

const KERNEL_DIFFERS = `and b.kernel_digest <> (
                select kernel_digest
                  from images
                 where manifest_id = $2)`

/**
 * Finds another build on the platform of a build, for the target and processor of its image, whose image is there still.
 * Reads at most SCANNED_MAX builds.
 */
export async function findOtherBuild(
  db: Queryable,
  repositoryId: number,
  manifestId: number,
  build: ImageBuild,
  which: OtherBuild,
): Promise<Digest | undefined> {
  const isNext = which === 'next'
  const { position, platform } = build
  const { rows } = await db.query<{ digest: Digest }>(
    ...withConditions(
      `select b.digest
         from (
           select b.position, b.platform, b.manifest_digest as digest, b.kernel_digest
             from builds b
            where b.repository_id = $1
              {platform}
              {bound}
            order by b.position {order}
            limit ${SCANNED_MAX}
         ) b
        where true
          {kernel}
          {unknown}
          and exists (
                select 1
                  from manifests m
                  join images i on i.manifest_id = m.id
                 where m.repository_id = $1
                   and m.digest = b.digest
                   and (i.target, coalesce(i.architecture, '')) = (
                         select target, coalesce(architecture, '')
                           from images
                          where manifest_id = $2)
                offset 0)
        order by b.position {order}
        limit 1`,
      [repositoryId, manifestId],
      {
        // An index finds the builds on a platform in their order, but not those on an unknown one.
        platform: given('and b.platform = $', platform ?? undefined),
        unknown: platform === null ? given('and b.platform is null', true) : [],
        bound: [
          ...(which === 'previous' ? given('and b.position < $', position) : []),
          ...(isNext ? given('and b.position > $', position) : []),
        ],
        kernel: which === 'latest' ? [] : given(KERNEL_DIFFERS, true),
        order: isNext ? given('asc', true) : given('desc', true),
      },
    ),
  )
  return rows[0]?.digest
}

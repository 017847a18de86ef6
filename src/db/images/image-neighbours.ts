import type { Digest } from '../../oci/digest.ts'
import type { BuildResult } from '../builds/builds.ts'
import type { Queryable } from '../database.ts'
import type { BlobRow } from '../registry/blobs.ts'

/** Referrers and builds that the page of an image has. */
const REFERRERS_MAX = 10
const BUILDS_MAX = 6
/** Images that are searched for the one before. */
const EARLIER_MAX = 200

/** The README, referrers and builds of an image, and the image before it. */
export type Neighbours = {
  /** The newest earlier image with another kernel, for the same target and processor. */
  readonly previous: Digest | null
  readonly readme: BlobRow | null
  /** In the order of pushes, at most REFERRERS_MAX. */
  readonly referrers: readonly {
    readonly digest: Digest
    readonly artifactType: string | null
    /** RFC 3339. */
    readonly pushedAt: string
  }[]
  /** True when there are more than `referrers`. */
  readonly moreReferrers: boolean
  /** Newest first, at most BUILDS_MAX. */
  readonly builds: readonly {
    readonly id: string
    readonly platform: string | null
    readonly result: BuildResult
    readonly builder: string
    /** RFC 3339. */
    readonly recordedAt: string
  }[]
}

/** Finds the neighbours of the image with this id, in one round trip. */
export async function findNeighbours(db: Queryable, id: number): Promise<Neighbours> {
  const { rows } = await db.query<Omit<Neighbours, 'moreReferrers'>>(
    `select (
       select pm.digest
         from (
           select manifest_id, kernel_digest, target, architecture
             from images
            where repository_id = m.repository_id
              and manifest_id < m.id
            order by manifest_id desc
            limit ${EARLIER_MAX}
         ) p
         join manifests pm on pm.id = p.manifest_id
        where p.target = i.target
          and p.architecture is not distinct from i.architecture
          and p.kernel_digest <> i.kernel_digest
        order by p.manifest_id desc
        limit 1
     ) as previous,
     (
       select json_build_object('digest', b.digest, 'size', b.size, 'storageKey', b.storage_key)
         from image_layers l
         join blobs b on b.id = l.blob_id and b.lost_at is null
        where l.manifest_id = m.id
          and l.role = 'readme'
     ) as readme,
     coalesce((
       select json_agg(f order by f.id)
         from (
           select id, digest, artifact_type as "artifactType", pushed_at as "pushedAt"
             from manifests
            where repository_id = m.repository_id
              and subject = m.digest
            order by id
            limit $2
         ) f
     ), '[]') as referrers,
     coalesce((
       select json_agg(b order by b.position desc)
         from (
           select position, id, platform, result, builder_name as builder,
                  recorded_at as "recordedAt"
             from builds
            where repository_id = m.repository_id
              and manifest_digest = m.digest
            order by position desc
            limit ${BUILDS_MAX}
         ) b
     ), '[]') as builds
       from manifests m
       join images i on i.manifest_id = m.id
      where m.id = $1`,
    [id, REFERRERS_MAX + 1],
  )
  const found = rows[0] ?? { previous: null, readme: null, referrers: [], builds: [] }
  return {
    ...found,
    referrers: found.referrers.slice(0, REFERRERS_MAX),
    moreReferrers: found.referrers.length > REFERRERS_MAX,
  }
}

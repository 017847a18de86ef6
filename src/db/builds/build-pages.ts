import type { Digest } from '../../oci/digest.ts'
import { RegistryError } from '../../oci/errors.ts'
import type { Queryable } from '../database.ts'
import type { View } from '../registry/repositories.ts'
import { BUILD_COLUMNS, type BuildResult, type BuildRow } from './builds.ts'

/** Builds of the same inputs that are counted or listed. */
const SAME_INPUTS_MAX = 100

/** A build with what others of its repository got from the same inputs. */
export type ComparedBuild = BuildRow & {
  /** In bytes. Null without a kernel, or when its bytes are gone. */
  readonly kernelSize: number | null
  /** Other builds in the repository from the same inputs with the same kernel, among the newest SAME_INPUTS_MAX. */
  readonly same: number
  /** The same with another kernel. */
  readonly other: number
}

/** Another build from the same inputs. */
export type SameInputsBuild = {
  readonly id: string
  readonly result: BuildResult
  readonly kernelDigest: Digest | null
  readonly platform: string | null
  readonly builder: string
  /** RFC 3339. */
  readonly recordedAt: string
}

/** A build as its page shows it. */
export type BuildPageRow = ComparedBuild & {
  /** Null when the manifest was deleted. */
  readonly manifest: Buffer | null
  /** Newest first, at most SAME_INPUTS_MAX. */
  readonly others: readonly SameInputsBuild[]
}

/** The other builds of the repository from the inputs of build `b`. */
const OTHERS_OF_BUILD = `(
              select o.id, o.result, o.kernel_digest, o.platform, o.builder_name, o.recorded_at, o.position
                from builds o
               where o.input_id = b.input_id
                 and o.repository_id = b.repository_id
                 and o.position <> b.position
               order by o.position desc
               limit ${SAME_INPUTS_MAX}
            )`

/** A ComparedBuild of build `b` and repository `r`. */
const COMPARED_COLUMNS = `${BUILD_COLUMNS},
            (select k.size from blobs k where k.digest = b.kernel_digest limit 1) as "kernelSize",
            (select count(*) from ${OTHERS_OF_BUILD} o where o.kernel_digest = b.kernel_digest) as same,
            (select count(*) from ${OTHERS_OF_BUILD} o where o.kernel_digest <> b.kernel_digest) as other`

/** Lists builds of a repository below a position, newest first, in one round trip. */
export async function listComparedBuilds(
  db: Queryable,
  repositoryId: number,
  before: number,
  limit: number,
): Promise<ComparedBuild[]> {
  const { rows } = await db.query<ComparedBuild>(
    `select ${COMPARED_COLUMNS}
       from builds b
       join repositories r on r.id = b.repository_id
      where b.repository_id = $1
        and b.position < $2
      order by b.position desc
      limit $3`,
    [repositoryId, before, limit],
  )
  return rows
}

/** Finds a build for its page, in one round trip. Undefined when the repository has none. Throws NAME_UNKNOWN. */
export async function findBuildPage(
  db: Queryable,
  view: View,
  id: string,
): Promise<BuildPageRow | undefined> {
  const { rows } = await db.query<BuildPageRow | { readonly id: null }>(
    `select ${COMPARED_COLUMNS},
            (
              select m.bytes
                from manifests m
               where m.repository_id = b.repository_id
                 and m.digest = b.manifest_digest
            ) as manifest,
            coalesce((
              select json_agg(json_build_object(
                       'id', o.id, 'result', o.result, 'kernelDigest', o.kernel_digest,
                       'platform', o.platform, 'builder', o.builder_name,
                       'recordedAt', o.recorded_at) order by o.position desc)
                from ${OTHERS_OF_BUILD} o
            ), '[]') as others
       from repositories r
       left join builds b on b.repository_id = r.id and b.id = $3
      where r.name = $1
        and (r.visibility = 'public' or not $2)`,
    [view.repository, view.publicOnly, id],
  )
  const row = rows[0]
  if (row === undefined) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
  return row.id === null ? undefined : row
}

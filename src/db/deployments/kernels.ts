import type { Digest } from '../../oci/digest.ts'
import type { Queryable } from '../database.ts'

/** A manifest of a repository, by the name of the repository. */
export type ImageName = { readonly repository: string; readonly digest: string }

/** The kernels of a manifest: its own, those of its children, and those that were unwrapped from it. */
export type ImageKernelsRow = ImageName & {
  readonly kernels: readonly {
    readonly kernel: Digest
    readonly size: number
    readonly target: string
    readonly abi: number | null
    readonly architecture: string | null
    readonly devices: readonly string[] | null
  }[]
  readonly isPending: boolean
  readonly problem: string | null
}

/** Kernels of one image that are looked at: an index has about six. */
const KERNELS_MAX = 64

/** The images `i` of a manifest `m`: its own, those of its children, and those that were unwrapped from them. */
export const IMAGES_OF_MANIFEST = `(
            select m.id
            union all
            select c.id
              from manifest_children mc
              join manifests c on c.repository_id = m.repository_id and c.digest = mc.digest
             where mc.manifest_id = m.id
             limit ${KERNELS_MAX}
          ) listed
         cross join lateral (
            select listed.id
            union all
            select u.id
              from manifests u
             where u.unwrapped_from = listed.id
          ) members
          join images i on i.manifest_id = members.id`

/** Lists the kernels of manifests. A manifest that does not exist is left out. */
export async function listImageKernels(
  db: Queryable,
  images: readonly ImageName[],
): Promise<ImageKernelsRow[]> {
  const { rows } = await db.query<ImageKernelsRow>(
    `select r.name as repository, m.digest, found.kernels,
            exists (
              select 1
                from unwraps u
               where u.manifest_id = m.id
                 and u.is_pending
            ) as "isPending",
            (select u.problem from unwraps u where u.manifest_id = m.id) as problem
       from (
         select distinct w.repository, w.digest
           from unnest($1::text[], $2::text[]) as w (repository, digest)
       ) wanted
       join repositories r on r.name = wanted.repository
       join manifests m on m.repository_id = r.id and m.digest = wanted.digest
      cross join lateral (
        select coalesce(json_agg(json_build_object(
                 'kernel', i.kernel_digest, 'size', b.size, 'target', i.target,
                 'abi', i.abi_version, 'architecture', i.architecture,
                 'devices', i.devices) order by i.manifest_id), '[]') as kernels
          from ${IMAGES_OF_MANIFEST}
          join blobs b on b.digest = i.kernel_digest
      ) found`,
    [images.map(({ repository }) => repository), images.map(({ digest }) => digest)],
  )
  return rows
}

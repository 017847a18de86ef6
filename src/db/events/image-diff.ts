import type { Digest } from '../../oci/digest.ts'
import type { Queryable } from '../database.ts'
import { COUNTED_PACKAGES } from '../images/image-packages.ts'

/** A unikernel image: a manifest, one unwrapped from it, or a member of an index. */
export type UnikernelRow = {
  /** The requested manifest. */
  readonly of: Digest
  readonly manifestId: number
  /** The digest of the member, or of the manifest itself. */
  readonly digest: Digest
  readonly kernelDigest: Digest
  readonly target: string
  readonly abiVersion: number | null
  readonly architecture: string | null
  /** Such as `net:service`, in the order of the kernel. */
  readonly devices: readonly string[] | null
  readonly inputId: string | null
}

/** Returns the unikernels of each manifest, at most `limit`, in the order in which they were pushed. */
export async function listUnikernels(
  db: Queryable,
  repositoryId: number,
  digests: readonly Digest[],
  limit: number,
): Promise<UnikernelRow[]> {
  const { rows } = await db.query<UnikernelRow>(
    `with requested as (
       select id, digest
         from manifests
        where repository_id = $1
          and digest = any($2::text[])
     ), listed as (
       select a.digest as of, a.id, a.digest
         from requested a
       union all
       select a.digest as of, c.id, c.digest
         from requested a
         join manifest_children mc on mc.manifest_id = a.id
         join manifests c on c.repository_id = $1 and c.digest = mc.digest
     ), members as (
       select of, id, digest
         from listed
       union all
       select listed.of, u.id, u.digest
         from listed
         join manifests u on u.unwrapped_from = listed.id
     ), numbered as (
       select m.of, m.digest, i.manifest_id, i.kernel_digest, i.target, i.abi_version,
              i.architecture, i.devices, i.input_id,
              row_number() over (partition by m.of order by i.manifest_id) as number
         from members m
         join images i on i.manifest_id = m.id
     )
     select n.of, n.manifest_id as "manifestId", n.digest, n.kernel_digest as "kernelDigest",
            n.target, n.abi_version as "abiVersion", n.architecture, n.devices,
            n.input_id as "inputId"
       from numbered n
      where n.number <= $3
      order by n.manifest_id`,
    [repositoryId, digests, limit],
  )
  return rows
}

/** A package that only one of two images has. */
export type PackageDifference = {
  readonly side: 'added' | 'removed'
  readonly ecosystem: string
  readonly name: string
  readonly version: string
}

/** Returns the packages that only one of two images has, ordered by name. */
export async function listPackageDifferences(
  db: Queryable,
  fromManifestId: number,
  toManifestId: number,
  limit: number,
): Promise<PackageDifference[]> {
  const { rows } = await db.query<PackageDifference>(
    `with ${COUNTED_PACKAGES}, one_sided as (
       select package_id, min(manifest_id) as manifest_id
         from counted
        group by package_id
       having count(*) = 1
     )
     select case when o.manifest_id = $2 then 'removed' else 'added' end as side,
            p.ecosystem, p.name, p.version
       from one_sided o
       join packages p on p.id = o.package_id
      order by p.ecosystem, p.name, p.version
      limit $3`,
    [[fromManifestId, toManifestId], fromManifestId, limit],
  )
  return rows
}

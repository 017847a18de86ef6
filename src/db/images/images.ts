import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'

/** The searchable properties of an image. */
export type NewImage = {
  readonly repositoryId: number
  /** Digest of the manifest. */
  readonly digest: Digest
  readonly kernelDigest: Digest
  readonly kernelTitle: string | undefined
  readonly target: string
  /** Undefined, as are the devices, for a kernel that is none of Solo5's. */
  readonly abiVersion: number | undefined
  readonly architecture: string | undefined
  /** `net:service`, in the order of the kernel. */
  readonly devices: readonly string[] | undefined
  readonly inputId: string | undefined
  readonly layers: readonly { readonly blobId: number; readonly role: string }[]
}

/** Records that a manifest of the repository is an image, and the roles of its layers. */
export async function putImage(tx: Transaction, image: NewImage): Promise<void> {
  await tx.query(
    `with put as (
       insert into images
              (manifest_id, repository_id, kernel_digest, target, abi_version, architecture, devices,
               input_id, kernel_title)
       select id, $1, $3, $4, $5, $6, $7, $8, $11
         from manifests
        where repository_id = $1
          and digest = $2
           on conflict (manifest_id) do update
          set kernel_digest = excluded.kernel_digest,
              kernel_title = excluded.kernel_title,
              target = excluded.target,
              abi_version = excluded.abi_version,
              architecture = excluded.architecture,
              devices = excluded.devices,
              input_id = excluded.input_id
       returning manifest_id
     ), cleared as (
       delete from image_layers
        where manifest_id in (select manifest_id from put)
          and (blob_id, role) not in (select * from unnest($9::bigint[], $10::text[]))
     )
     insert into image_layers (manifest_id, blob_id, role)
     select put.manifest_id, l.blob_id, l.role
       from put, unnest($9::bigint[], $10::text[]) as l (blob_id, role)
         on conflict do nothing`,
    [
      image.repositoryId,
      image.digest,
      image.kernelDigest,
      image.target,
      image.abiVersion ?? null,
      image.architecture ?? null,
      image.devices ?? null,
      image.inputId ?? null,
      image.layers.map(({ blobId }) => blobId),
      image.layers.map(({ role }) => role),
      image.kernelTitle ?? null,
    ],
  )
}

/** The analysis of an index's child. */
export type ChildRow = {
  readonly digest: Digest
  /** False when it is not yet analyzed. */
  readonly isAnalyzed: boolean
  /** Null when it is not an image. */
  readonly target: string | null
  readonly architecture: string | null
  readonly isSolo5: boolean
}

/** Lists the given manifests. Manifests missing from the repository are left out. */
export async function listChildren(
  db: Queryable,
  repository: Repository,
  digests: readonly Digest[],
): Promise<ChildRow[]> {
  const { rows } = await db.query<ChildRow>(
    `select m.digest, m.analyzer_version > 0 as "isAnalyzed", i.target, i.architecture,
            i.abi_version is not null as "isSolo5"
       from manifests m
       left join images i on i.manifest_id = m.id
      where m.repository_id = (select id from repositories where name = $1)
        and m.digest = any($2::text[])`,
    [repository, digests],
  )
  return rows
}

/** A manifest that is not yet analyzed by this version of the analyzer. */
export type UnanalyzedManifest = {
  readonly id: number
  readonly repositoryId: number
  readonly repository: Repository
  readonly digest: Digest
  readonly mediaType: string
  readonly bytes: Buffer
}

/** Lists manifests that this version of the analyzer has not analyzed, except `skipped` ids. */
export async function listUnanalyzed(
  db: Queryable,
  analyzerVersion: number,
  skipped: readonly number[],
  limit: number,
): Promise<UnanalyzedManifest[]> {
  const { rows } = await db.query<UnanalyzedManifest>(
    `select m.id, m.repository_id as "repositoryId", r.name as repository, m.digest,
            m.media_type as "mediaType", m.bytes
       from manifests m
       join repositories r on r.id = m.repository_id
      where m.analyzer_version < $1
        and m.id <> all($2::bigint[])
      order by m.analyzer_version, m.id
      limit $3`,
    [analyzerVersion, skipped, limit],
  )
  return rows
}

/** Marks a manifest as analyzed, and removes its image row when it is not an image any more. */
export async function markAnalyzed(
  tx: Transaction,
  id: number,
  analyzerVersion: number,
  isImage: boolean,
): Promise<void> {
  await tx.query(
    `with marked as (
       update manifests
          set analyzer_version = $2
        where id = $1
     )
     delete from images
      where manifest_id = $1
        and not $3`,
    [id, analyzerVersion, isImage],
  )
}

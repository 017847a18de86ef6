import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'

/** The analysis of a blob as `role`. */
export type AnalysisRow = {
  readonly role: string
  /** Hash of the bytes, in hexadecimal. */
  readonly sha256: string | null
  readonly problem: string | null
  /** JSON. Null for a malformed blob, for a layer that is not a kernel, and where the query leaves it out. */
  readonly facts: string | null
}

/** A blob of a repository, with its analyses. */
export type AnalyzedBlobRow = {
  readonly blobId: number
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  readonly storageKey: string
  readonly analyses: readonly AnalysisRow[]
}

/**
 * Lists the given blobs with their analyses by this version of the analyzer, without the facts of the
 * roles in `large`. Blobs missing from the repository are left out.
 */
export async function listAnalyzedBlobs(
  db: Queryable,
  repository: Repository,
  digests: readonly Digest[],
  analyzerVersion: number,
  large: readonly string[],
): Promise<AnalyzedBlobRow[]> {
  // Scalar subqueries and not joins, as in `lockContents`: each digest is an index probe.
  const { rows } = await db.query<AnalyzedBlobRow>(
    `select b.id as "blobId", b.digest, b.size, b.storage_key as "storageKey",
            coalesce((
              select json_agg(json_build_object(
                       'role', f.role, 'sha256', f.sha256, 'problem', f.problem,
                       'facts', case when f.role = any($4::text[]) then null else f.facts end))
                from layer_analyses f
               where f.blob_id = b.id
                 and f.analyzer_version = $3
            ), '[]') as analyses
       from blobs b
      where b.digest = any($2::text[])
        and (
          select true
            from repository_blobs rb
           where rb.repository_id = (select id from repositories where name = $1)
             and rb.blob_id = b.id
        )`,
    [repository, digests, analyzerVersion, large],
  )
  return rows
}

/** A package in a list. */
export type ListedPackage = {
  readonly ecosystem: string
  readonly name: string
  readonly version: string
}

export type NewAnalysis = AnalysisRow & {
  readonly blobId: number
  /** Without duplicates. */
  readonly packages: readonly ListedPackage[]
}

/**
 * Stores the analyses of blobs and the packages that they list, all or nothing. Blobs that were
 * removed meanwhile are skipped.
 */
export async function putAnalyses(
  db: Queryable,
  analyses: readonly NewAnalysis[],
  analyzerVersion: number,
): Promise<void> {
  const packages = analyses.flatMap(({ blobId, packages }) =>
    packages.map((listed) => ({ blobId, ...listed })),
  )
  // New packages are inserted in one order, so that two pushes that add the same packages wait instead
  // of deadlocking. `do update` and not `do nothing`: the id is also needed when another push was faster.
  await db.query(
    `with present as (
       select id
         from blobs
        where id = any($1::bigint[])
        order by id
          for key share
     ), kept as (
       insert into layer_analyses (blob_id, role, sha256, problem, facts, analyzer_version)
       select f.blob_id, f.role, f.sha256, f.problem, f.facts, $6
         from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[])
              as f (blob_id, role, sha256, problem, facts)
         join present on present.id = f.blob_id
           on conflict (blob_id, role) do update
          set sha256 = excluded.sha256,
              problem = excluded.problem,
              facts = excluded.facts,
              analyzer_version = excluded.analyzer_version,
              read_at = now()
     ), listed as (
       select p.blob_id, p.ecosystem, p.name, p.version,
              (
                select id
                  from packages
                 where ecosystem = p.ecosystem
                   and name = p.name
                   and version = p.version
              ) as id
         from unnest($7::bigint[], $8::text[], $9::text[], $10::text[])
              as p (blob_id, ecosystem, name, version)
         join present on present.id = p.blob_id
     ), added as (
       insert into packages (ecosystem, name, version)
       select distinct ecosystem, name, version
         from listed
        where id is null
        order by ecosystem, name, version
           on conflict (ecosystem, name, version) do update set name = excluded.name
       returning id, ecosystem, name, version
     )
     insert into layer_packages (package_id, blob_id)
     select coalesce(listed.id, added.id), listed.blob_id
       from listed
       left join added using (ecosystem, name, version)
         on conflict do nothing`,
    [
      analyses.map(({ blobId }) => blobId),
      analyses.map(({ role }) => role),
      analyses.map(({ sha256 }) => sha256),
      analyses.map(({ problem }) => problem),
      analyses.map(({ facts }) => facts),
      analyzerVersion,
      packages.map(({ blobId }) => blobId),
      packages.map(({ ecosystem }) => ecosystem),
      packages.map(({ name }) => name),
      packages.map(({ version }) => version),
    ],
  )
}

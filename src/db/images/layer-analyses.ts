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
  /** JSON. The part of the facts of an opam switch that a push needs. */
  readonly summary: string | null
}

/** A blob of a repository, with its analyses. */
export type AnalyzedBlobRow = {
  readonly blobId: number
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  readonly storageKey: string
  /** True when the store lost the bytes: they must not be read. */
  readonly lost: boolean
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
    `select b.id as "blobId", b.digest, b.size, b.storage_key as "storageKey", b.lost_at is not null as lost,
            coalesce((
              select json_agg(json_build_object(
                       'role', f.role, 'sha256', f.sha256, 'problem', f.problem, 'summary', f.summary,
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

/** A new analysis of a blob. */
export type NewAnalysis = {
  readonly blobId: number
  /**
   * The fields `role`, `sha256`, `problem`, `facts`, `summary` and `packages` as JSON: a list of packages without duplicates,
   * with `ecosystem`, `name` and `version`. Text, because values of some megabytes are copied and not parsed here.
   */
  readonly fields: string
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
  const added = analyses.map(({ blobId, fields }) => `{"blob_id":${blobId},"fields":${fields}}`)
  // New packages are inserted in one order, so that two pushes that add the same packages wait instead
  // of deadlocking. `do update` and not `do nothing`: the id is also needed when another push was faster.
  await db.query(
    `with given as materialized (
       select g.blob_id, f.role, f.sha256, f.problem, f.facts, f.summary, f.packages
         from json_to_recordset($1::json) as g (blob_id bigint, fields json)
        cross join json_to_record(g.fields)
              as f (role text, sha256 text, problem text, facts text, summary text, packages json)
     ), present as (
       select id
         from blobs
        where id in (select blob_id from given)
        order by id
          for key share
     ), kept as (
       insert into layer_analyses (blob_id, role, sha256, problem, facts, summary, analyzer_version)
       select g.blob_id, g.role, g.sha256, g.problem, g.facts, g.summary, $2
         from given g
         join present on present.id = g.blob_id
           on conflict (blob_id, role) do update
          set sha256 = excluded.sha256,
              problem = excluded.problem,
              facts = excluded.facts,
              summary = excluded.summary,
              analyzer_version = excluded.analyzer_version,
              read_at = now()
     ), listed as (
       select g.blob_id, p.ecosystem, p.name, p.version,
              (
                select id
                  from packages
                 where ecosystem = p.ecosystem
                   and name = p.name
                   and version = p.version
              ) as id
         from given g
         join present on present.id = g.blob_id
        cross join json_to_recordset(g.packages) as p (ecosystem text, name text, version text)
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
    [`[${added.join(',')}]`, analyzerVersion],
  )
}

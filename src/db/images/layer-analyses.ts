import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import { RESOLUTION } from './package-resolution.ts'

const INDEX_VERSION = 'select coalesce(max(version), 0) from opam_imports'

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

/** The versions of the code that made analyses: those of a layer's files, whose roles begin with `container-`, and all others. */
export type AnalysisVersions = { readonly analyzer: number; readonly layerFiles: number }

/**
 * Lists the given blobs with their analyses by these versions, without the facts of the roles in `large`. Blobs
 * missing from the repository are left out.
 */
export async function listAnalyzedBlobs(
  db: Queryable,
  repository: Repository,
  digests: readonly Digest[],
  { analyzer, layerFiles }: AnalysisVersions,
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
                 and f.analyzer_version = case when f.role like 'container-%' then $5::integer else $3::integer end
            ), '[]') as analyses
       from blobs b
      where b.digest = any($2::text[])
        and (
          select true
            from repository_blobs rb
           where rb.repository_id = (select id from repositories where name = $1)
             and rb.blob_id = b.id
        )`,
    [repository, digests, analyzer, large, layerFiles],
  )
  return rows
}

/** New facts about the files of a layer. */
export type NewLayerFacts = {
  readonly blobId: number
  readonly role: string
  /** Why the layer cannot be read. */
  readonly problem: string | undefined
  /** JSON. */
  readonly facts: string | undefined
  /** The version of the code that read the layer. */
  readonly version: number
}

/** Lists new facts as columns, for `unnest`. */
export function columnsOfLayerFacts(facts: readonly NewLayerFacts[]): unknown[] {
  return [
    facts.map(({ blobId }) => blobId),
    facts.map(({ role }) => role),
    facts.map(({ problem }) => problem ?? null),
    facts.map(({ facts: text }) => text ?? null),
    facts.map(({ version }) => version),
  ]
}

/** The end of a statement that stores new facts. */
export const PUT_LAYER_FACTS = `
           on conflict (blob_id, role) do update
          set problem = excluded.problem,
              facts = excluded.facts,
              analyzer_version = excluded.analyzer_version,
              read_at = now()`

/** Stores the facts about the files of layers. Blobs that were removed meanwhile are skipped. */
export async function putLayerFacts(db: Queryable, facts: readonly NewLayerFacts[]): Promise<void> {
  await db.query(
    `with present as (
       select id
         from blobs
        where id = any($1::bigint[])
        order by id
          for key share
     )
     insert into layer_analyses (blob_id, role, problem, facts, analyzer_version)
     select f.blob_id, f.role, f.problem, f.facts, f.version
       from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::integer[])
            as f (blob_id, role, problem, facts, version)
       join present on present.id = f.blob_id
      order by f.blob_id, f.role${PUT_LAYER_FACTS}`,
    columnsOfLayerFacts(facts),
  )
}

/** A new analysis of a blob. */
export type NewAnalysis = {
  readonly blobId: number
  /**
   * The fields `role`, `sha256`, `problem`, `facts` and `summary`, and of a list `packages`, `sources` and `names`, as JSON.
   * Text, because values of some megabytes are copied and not parsed here.
   */
  readonly fields: string
  /** False when `fields` has no packages, sources or names: most blobs have none, and the statement is shorter. */
  readonly hasPackages: boolean
}

const PUT_ANALYSES = `
     with given as materialized (
       select g.blob_id, f.role, f.sha256, f.problem, f.facts, f.summary, f.packages, f.sources, f.names
         from json_to_recordset($1::json) as g (blob_id bigint, fields json)
        cross join json_to_record(g.fields)
              as f (role text, sha256 text, problem text, facts text, summary text, packages json, sources json, names json)
     ), present as (
       select id
         from blobs
        where id in (select blob_id from given)
        order by id
          for key share
     ), kept as (
       insert into layer_analyses (blob_id, role, sha256, problem, facts, summary, analyzer_version, lists, index_version)
       select g.blob_id, g.role, g.sha256, g.problem, g.facts, g.summary, $2,
              -- Vendored sources, which have keys, are the first.
              case when json_array_length(g.sources -> 0 -> 'keys') > 0
                   then json_build_object('packages', g.packages, 'sources', g.sources, 'names', g.names)::text end,
              (${INDEX_VERSION})
         from given g
         join present on present.id = g.blob_id
           on conflict (blob_id, role) do update
          set sha256 = excluded.sha256,
              problem = excluded.problem,
              facts = excluded.facts,
              summary = excluded.summary,
              analyzer_version = excluded.analyzer_version,
              lists = excluded.lists,
              index_version = excluded.index_version,
              read_at = now()
     )`

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
  const values = [`[${added.join(',')}]`, analyzerVersion]
  // New packages are inserted in one order, so that two pushes that add the same packages wait instead
  // of deadlocking. `do update` and not `do nothing`: the id is also needed when another push was faster.
  if (analyses.some(({ hasPackages }) => hasPackages)) {
    await db.query(`${PUT_ANALYSES},${RESOLUTION} select count(*) from stored`, values)
  } else {
    await db.query(`${PUT_ANALYSES} select true as stored`, values)
  }
}

/**
 * Resolves up to `limit` lists again that were resolved with an older index of opam repositories. Returns their number.
 */
export async function resolveOldLists(db: Queryable, limit: number): Promise<number> {
  // `given` locks its rows, so that a push that analyzes the same blob waits, or is seen.
  const { rows } = await db.query<{ resolved: number }>(
    `with old as materialized (
       select blob_id, role, lists::json as lists
         from layer_analyses
        where lists is not null
          and index_version < (${INDEX_VERSION})
        order by index_version, blob_id
        limit $1
          for update skip locked
     ), given as materialized (
       select blob_id, lists -> 'packages' as packages, lists -> 'sources' as sources, lists -> 'names' as names
         from old
     ), present as (
       select id
         from blobs
        where id in (select blob_id from given)
        order by id
          for key share
     ), marked as (
       update layer_analyses a
          set index_version = (${INDEX_VERSION})
         from old
        where a.blob_id = old.blob_id
          and a.role = old.role
     ),${RESOLUTION}
     select count(*) as resolved
       from old`,
    [limit],
  )
  return rows[0]?.resolved ?? 0
}

import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'

/** What was read out of a blob when it was taken for `role`. */
export type AnalysisRow = {
  readonly role: string
  /** Of the bytes, in hexadecimal. */
  readonly sha256: string | null
  readonly problem: string | null
  /** JSON. Null when nothing was understood, and where it was not asked for. */
  readonly facts: string | null
}

/** A blob that a repository has, and what is known of it. */
export type AnalyzedBlobRow = {
  readonly blobId: number
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  readonly storageKey: string
  readonly facts: readonly AnalysisRow[]
}

/**
 * Those of the blobs that the repository has, with what this reader read out of them; of the roles
 * in `large` without the facts themselves.
 */
export async function listAnalyzedBlobs(
  db: Queryable,
  repository: Repository,
  digests: readonly Digest[],
  reader: number,
  large: readonly string[],
): Promise<AnalyzedBlobRow[]> {
  // Scalar subqueries and not joins, as in `lockContents`: each digest is an index probe.
  const { rows } = await db.query<AnalyzedBlobRow>(
    `select b.id as "blobId", b.digest, b.size, b.storage_key as "storageKey",
            coalesce((
              select json_agg(json_build_object(
                       'role', f.role, 'sha256', f.sha256, 'problem', f.problem,
                       'facts', case when f.role = any($4::text[]) then null else f.facts end))
                from layer_facts f
               where f.blob_id = b.id
                 and f.reader = $3
            ), '[]') as facts
       from blobs b
      where b.digest = any($2::text[])
        and (
          select true
            from repository_blobs rb
           where rb.repository_id = (select id from repositories where name = $1)
             and rb.blob_id = b.id
        )`,
    [repository, digests, reader, large],
  )
  return rows
}

/** A package that a list names. */
export type ListedPackage = {
  readonly ecosystem: string
  readonly name: string
  readonly version: string
}

export type NewAnalysis = AnalysisRow & {
  readonly blobId: number
  /** Each once. */
  readonly packages: readonly ListedPackage[]
}

/**
 * Keeps what was read out of blobs, and which packages they list: all of it, or nothing. Of a blob
 * that is gone meanwhile nothing is kept.
 */
export async function putAnalyses(
  db: Queryable,
  facts: readonly NewAnalysis[],
  reader: number,
): Promise<void> {
  const packages = facts.flatMap(({ blobId, packages }) =>
    packages.map((listed) => ({ blobId, ...listed })),
  )
  // New packages in one order, so that two pushes that add the same wait instead of deadlocking.
  // `do update` and not `do nothing`: the id is needed also when another push was faster.
  await db.query(
    `with present as (
       select id
         from blobs
        where id = any($1::bigint[])
        order by id
          for key share
     ), kept as (
       insert into layer_facts (blob_id, role, sha256, problem, facts, reader)
       select f.blob_id, f.role, f.sha256, f.problem, f.facts, $6
         from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[])
              as f (blob_id, role, sha256, problem, facts)
         join present on present.id = f.blob_id
           on conflict (blob_id, role) do update
          set sha256 = excluded.sha256,
              problem = excluded.problem,
              facts = excluded.facts,
              reader = excluded.reader,
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
      facts.map(({ blobId }) => blobId),
      facts.map(({ role }) => role),
      facts.map(({ sha256 }) => sha256),
      facts.map(({ problem }) => problem),
      facts.map(({ facts }) => facts),
      reader,
      packages.map(({ blobId }) => blobId),
      packages.map(({ ecosystem }) => ecosystem),
      packages.map(({ name }) => name),
      packages.map(({ version }) => version),
    ],
  )
}

import type { EarlierBuild } from '../../events/event.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Actor } from '../auth/audit.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable, Transaction } from '../database.ts'
import { RANGE_COLUMNS, REPOSITORY_IN_RANGE, type VisibleNames } from '../name-patterns.ts'

/** How a build ended. */
export type BuildResult = 'succeeded' | 'failed' | 'signalled' | 'error'

/** The description of a build by its builder: `unikernel/build-claims.ts`. */
export type BuildStatement = {
  readonly result: BuildResult
  readonly exitCode: number | undefined
  readonly signal: number | undefined
  readonly message: string | undefined
  readonly platform: string | undefined
  readonly startedAt: Date | undefined
  readonly finishedAt: Date | undefined
}

export type NewBuild = BuildStatement & {
  readonly repositoryId: number
  /** Chosen by the client, so the push is no copy. Undefined: the registry chooses one. */
  readonly id: string | undefined
  /** False when the client sent the files, and not the manifest of an image that it may have read here. */
  readonly mayBeCopy: boolean
  /** The digest of the image, or of the report of a failed build. */
  readonly digest: Digest
  /** Undefined for a build that failed. */
  readonly kernelDigest: Digest | undefined
  readonly inputId: string | undefined
  readonly actor: Actor
}

/**
 * `copy`: the builder has read this manifest from the registry shortly before, so the push is no build. `retry`: the
 * same builder has recorded it already.
 */
export type RecordedBuild =
  | { readonly kind: 'copy' }
  | { readonly kind: 'retry'; readonly id: string }
  | {
      readonly kind: 'new'
      readonly id: string
      /** Earlier builds of the same inputs in this repository with the same kernel, newest first. */
      readonly same: readonly EarlierBuild[]
      /** The same with another kernel. */
      readonly other: readonly EarlierBuild[]
    }

/** A push of the same manifest by the same builder within this time is a retry. */
export const RETRY_SECONDS = 10 * 60
/** A push of a manifest that its pusher read within this time is a copy. */
export const COPY_SECONDS = 10 * 60
/** Earlier builds that an event names, of each kind. */
export const EARLIER_BUILDS_MAX = 10

/**
 * Records a build in the transaction of its push. Throws CONFLICT when the repository has the id for another manifest.
 */
export async function recordBuild(tx: Transaction, build: NewBuild): Promise<RecordedBuild> {
  const { rows } = await tx.query<{
    kind: RecordedBuild['kind']
    id: string
    same: EarlierBuild[]
    other: EarlierBuild[]
  }>(
    `select kind, build_id as id, same, other
       from record_build($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
    [
      build.repositoryId,
      build.id ?? null,
      build.digest,
      build.kernelDigest ?? null,
      build.inputId ?? null,
      build.result,
      build.exitCode ?? null,
      build.signal ?? null,
      build.message ?? null,
      build.platform ?? null,
      build.actor.name,
      build.actor.origin,
      build.startedAt ?? null,
      build.finishedAt ?? null,
      RETRY_SECONDS,
      build.mayBeCopy ? COPY_SECONDS : 0,
      EARLIER_BUILDS_MAX,
    ],
  )
  const row = rows[0]
  if (row === undefined) throw new Error('record_build returned no row')
  return row
}

/** A manifest, and the client that has read it: its origin, or its name without one. */
export type ManifestRead = { readonly reader: string; readonly digest: Digest }

/**
 * Records that clients have read manifests. The commit does not wait for the disk: after a crash of Postgres, a copy may
 * count as a build.
 */
export async function recordManifestReads(
  db: Queryable,
  reads: readonly ManifestRead[],
): Promise<void> {
  // In order, so that two replicas do not wait for each other.
  await db.query(
    `insert into manifest_reads (reader, manifest_digest)
     select distinct reads.reader, reads.digest
       from unnest($1::text[], $2::text[]) as reads (reader, digest),
            set_config('synchronous_commit', 'off', true)
      order by reads.reader, reads.digest
         on conflict (reader, manifest_digest) do update
        set read_at = now()`,
    [reads.map(({ reader }) => reader), reads.map(({ digest }) => digest)],
  )
}

/** Deletes the reads that no push asks for any more, at most `limit`. Returns their count. */
export async function deleteOldManifestReads(db: Queryable, limit: number): Promise<number> {
  const { rows } = await db.query<{ reader: string }>(
    `delete from manifest_reads
      where (reader, manifest_digest) in (
        select reader, manifest_digest
          from manifest_reads
         where read_at < now() - make_interval(secs => $1)
         order by read_at
         limit $2
      )
     returning reader`,
    [COPY_SECONDS, limit],
  )
  return rows.length
}

export type BuildRow = {
  readonly position: number
  readonly id: string
  readonly repository: Repository
  readonly digest: Digest
  /** False when the manifest was deleted. */
  readonly exists: boolean
  readonly kernelDigest: Digest | null
  readonly inputId: string | null
  readonly result: BuildResult
  readonly exitCode: number | null
  readonly signal: number | null
  readonly message: string | null
  readonly platform: string | null
  readonly builder: string
  readonly startedAt: Date | null
  readonly finishedAt: Date | null
  readonly recordedAt: Date
}

export type BuildFilter = {
  readonly platform: string | undefined
  readonly result: BuildResult | undefined
  readonly builder: string | undefined
  readonly inputId: string | undefined
  readonly kernelDigest: Digest | undefined
}

export type BuildPage = {
  readonly builds: readonly BuildRow[]
  /** The position after which the next page begins. */
  readonly next: number | undefined
}

/** A BuildRow of build `b` and repository `r`. */
export const BUILD_COLUMNS = `b.position, b.id, r.name as repository, b.manifest_digest as digest,
            exists (
              select 1
                from manifests m
               where m.repository_id = b.repository_id
                 and m.digest = b.manifest_digest
            ) as "exists",
            b.kernel_digest as "kernelDigest", b.input_id as "inputId", b.result,
            b.exit_code as "exitCode", b.signal, b.message, b.platform, b.builder_name as builder,
            b.started_at as "startedAt", b.finished_at as "finishedAt", b.recorded_at as "recordedAt"`

/** Lists builds of a repository below a position, newest first. */
export async function listBuilds(
  db: Queryable,
  repositoryId: number,
  filter: BuildFilter,
  before: number,
  limit: number,
): Promise<BuildPage> {
  const statement = withConditions(
    `select ${BUILD_COLUMNS}
       from builds b
       join repositories r on r.id = b.repository_id
      where b.repository_id = $1
        and b.position < $2
        {platform}
        {result}
        {builder}
        {input}
        {kernel}
      order by b.position desc
      limit $3`,
    [repositoryId, before, limit + 1],
    {
      platform: given('and b.platform = $', filter.platform),
      result: given('and b.result = $', filter.result),
      builder: given('and b.builder_name = $', filter.builder),
      input: given('and b.input_id = $', filter.inputId),
      kernel: given('and b.kernel_digest = $', filter.kernelDigest),
    },
  )
  const { rows } = await db.query<BuildRow>(...statement)
  return pageOf(rows, limit)
}

/** Lists builds from these inputs in visible repositories, newest first. */
export async function listBuildsOfInputs(
  db: Queryable,
  inputId: string,
  visible: VisibleNames,
  limit: number,
): Promise<BuildPage> {
  const { rows } = await db.query<BuildRow>(
    `select ${BUILD_COLUMNS}
       from builds b
       join repositories r on r.id = b.repository_id
      where b.input_id = $1
        and (r.visibility = 'public' or exists (
              select 1
                from json_to_recordset($2::json) as g (${RANGE_COLUMNS})
               where ${REPOSITORY_IN_RANGE}))
      order by b.position desc
      limit $3`,
    [inputId, visible, limit + 1],
  )
  return pageOf(rows, limit)
}

/** Finds a build by its id. Undefined when the repository has none. */
export async function findBuild(
  db: Queryable,
  repositoryId: number,
  id: string,
): Promise<BuildRow | undefined> {
  const { rows } = await db.query<BuildRow>(
    `select ${BUILD_COLUMNS}
       from builds b
       join repositories r on r.id = b.repository_id
      where b.repository_id = $1
        and b.id = $2`,
    [repositoryId, id],
  )
  return rows[0]
}

function pageOf(rows: BuildRow[], limit: number): BuildPage {
  const builds = rows.slice(0, limit)
  return { builds, next: rows.length > limit ? builds.at(-1)?.position : undefined }
}

import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import { type Condition, given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import { SYNOPSIS_OF_IMAGE } from '../images/image-lists.ts'
import { RANGE_COLUMNS, REPOSITORY_IN_RANGE, type VisibleNames } from '../name-patterns.ts'
import {
  BEGAN,
  JOB_BUILD_COLUMNS,
  JOIN_JOB,
  type JobBuildRow,
  LISTED_COLUMNS,
  type ListedBuildRow,
  MANIFEST_EXISTS,
  NEWEST_FIRST,
} from './latest-builds.ts'

/** Among which repositories a search looks: those of its caller's rights, or also all public ones. */
export type Scope = { readonly names: VisibleNames; readonly isPublic: boolean }

/** True for repositories of the scope in parameters 1 and 2. */
const IN_SCOPE = `(($2::boolean and r.visibility = 'public') or exists (
              select 1
                from json_to_recordset($1::json) as g (${RANGE_COLUMNS})
               where ${REPOSITORY_IN_RANGE}))`

/** Manifests with one blob that a search reads. */
const MANIFESTS_OF_BLOB_MAX = 1000

/** Finds the repository among `names` that had the first build with this kernel, also when its manifest was deleted. */
export async function findFirstOfKernel(
  db: Queryable,
  names: VisibleNames,
  kernel: Digest,
): Promise<number | undefined> {
  const { rows } = await db.query<{ repositoryId: number }>(
    `select b.repository_id as "repositoryId"
       from (
         select repository_id
           from builds
          where kernel_digest = $2
          order by position
         offset 0
       ) b
       join lateral (
         select name
           from repositories
          where id = b.repository_id
         offset 0
       ) r on true
      where exists (
              select 1
                from json_to_recordset($1::json) as g (${RANGE_COLUMNS})
               where ${REPOSITORY_IN_RANGE})
      limit 1`,
    [names, kernel],
  )
  return rows[0]?.repositoryId
}

/** The repository to which a kernel leads everybody; null when it is private or deleted by now. */
export type PublicFirst = { readonly repositoryId: number | null }

/**
 * Finds the repository in which everybody could see a build with this kernel first. When it was deleted, only a new one of the
 * same name takes its place.
 */
export async function findPublicFirstOfKernel(
  db: Queryable,
  kernel: Digest,
): Promise<PublicFirst | undefined> {
  const { rows } = await db.query<PublicFirst>(
    `select c.id as "repositoryId"
       from (
         select repository_id
           from builds
          where kernel_digest = $1
            and public_since is not null
          order by public_since, position
          limit 1
       ) b
       join repositories r on r.id = b.repository_id
       left join repositories c on c.name = coalesce(r.deleted_name, r.name) and c.visibility = 'public'`,
    [kernel],
  )
  return rows[0]
}

/** Finds the first of these public repositories that has a build with this kernel. */
export async function findKernelAmong(
  db: Queryable,
  names: readonly Repository[],
  kernel: Digest,
): Promise<number | undefined> {
  const { rows } = await db.query<{ repositoryId: number }>(
    `select r.id as "repositoryId"
       from unnest($1::text[]) with ordinality as k (name, place)
       join repositories r on r.name = k.name and r.visibility = 'public'
      where exists (
              select 1
                from builds b
               where b.repository_id = r.id
                 and b.kernel_digest = $2
              offset 0)
      order by k.place
      limit 1`,
    [names, kernel],
  )
  return rows[0]?.repositoryId
}

/** Finds the first build whose manifest has a file, such as an opam switch. */
export function findFirstOfFile(
  db: Queryable,
  { names, isPublic }: Scope,
  digest: Digest,
): Promise<JobBuildRow | undefined> {
  return findOfFile(db, digest, [names, isPublic], {
    within: [],
    visible: given(`and ${IN_SCOPE}`, true),
    order: given('b.position', true),
  })
}

/** Finds the latest build of a repository whose manifest has a file. */
export function findLatestOfFile(
  db: Queryable,
  repositoryId: number,
  digest: Digest,
): Promise<JobBuildRow | undefined> {
  return findOfFile(db, digest, [], {
    within: given('and mb.repository_id = $', repositoryId),
    visible: [],
    order: given(NEWEST_FIRST, true),
  })
}

/** `values` are those of IN_SCOPE. */
async function findOfFile(
  db: Queryable,
  digest: Digest,
  values: readonly unknown[],
  conditions: Readonly<Record<'within' | 'visible' | 'order', readonly Condition[]>>,
): Promise<JobBuildRow | undefined> {
  const statement = withConditions(
    `select ${JOB_BUILD_COLUMNS}
       from (
         select m.repository_id, m.digest
           from (
             select mb.manifest_id
               from manifest_blobs mb
              where mb.blob_id = {blob}
                {within}
              limit ${MANIFESTS_OF_BLOB_MAX}
           ) mb
           join manifests m on m.id = mb.manifest_id
       ) h
       join builds b on b.repository_id = h.repository_id and b.manifest_digest = h.digest
       ${JOIN_JOB}
      where true
        {visible}
      order by {order}
      limit 1`,
    values,
    { ...conditions, blob: given('(select id from blobs where digest = $)', digest) },
  )
  const { rows } = await db.query<JobBuildRow>(...statement)
  return rows[0]
}

/** Finds the first build with this id. An id is unique in a repository only. */
export async function findBuildAnywhere(
  db: Queryable,
  { names, isPublic }: Scope,
  id: string,
): Promise<ListedBuildRow | undefined> {
  const { rows } = await db.query<ListedBuildRow>(
    `select ${LISTED_COLUMNS}
       from builds b
       ${JOIN_JOB}
      where b.id = $3
        and ${IN_SCOPE}
      order by b.position
      limit 1`,
    [names, isPublic, id],
  )
  return rows[0]
}

/** Lists failed builds, latest first, from `start` on. */
export async function listFailedBuilds(
  db: Queryable,
  { names, isPublic }: Scope,
  platform: string | undefined,
  start: number,
  limit: number,
): Promise<JobBuildRow[]> {
  const statement = withConditions(
    `select ${JOB_BUILD_COLUMNS}
       from builds b
       ${JOIN_JOB}
      where b.kernel_digest is null
        and ${IN_SCOPE}
        {platform}
      order by ${NEWEST_FIRST}
      offset $3
      limit $4`,
    [names, isPublic, start, limit],
    { platform: given('and b.platform = $', platform) },
  )
  const { rows } = await db.query<JobBuildRow>(...statement)
  return rows
}

/** A repository with a build that succeeded, and the image of the latest one. */
export type JobRow = {
  readonly repository: Repository
  readonly repositoryId: number
  readonly first: Repository | null
  readonly buildId: string
  readonly manifestId: number
  /** Null when it made no unikernel. */
  readonly target: string | null
  readonly abiVersion: number | null
  /** `net:service`, in the order of the kernel. */
  readonly devices: readonly string[] | null
  readonly synopsis: string | null
}

/** Lists repositories with a build that succeeded after `after`, by name. */
export async function listJobs(
  db: Queryable,
  { names, isPublic }: Scope,
  after: Date,
  limit: number,
): Promise<JobRow[]> {
  const { rows } = await db.query<JobRow>(
    `select r.name as repository, r.id as "repositoryId", n.repository as first,
            latest.id as "buildId", m.id as "manifestId", i.target, i.abi_version as "abiVersion", i.devices,
            ${SYNOPSIS_OF_IMAGE} as synopsis
       from repositories r
       left join job_names n on n.name = substring(r.name from '[^/]*$')
       join lateral (
         select b.id, b.repository_id, b.manifest_digest, ${BEGAN} as began
           from builds b
          where b.repository_id = r.id
            and b.kernel_digest is not null
            and ${MANIFEST_EXISTS}
          order by ${NEWEST_FIRST}
          limit 1
       ) latest on latest.began > $3
       join manifests m on m.repository_id = latest.repository_id and m.digest = latest.manifest_digest
       left join images i on i.manifest_id = m.id
      where ${IN_SCOPE}
      order by r.name
      limit $4`,
    [names, isPublic, after, limit],
  )
  return rows
}

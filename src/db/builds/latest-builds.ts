import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import { BUILD_COLUMNS, type BuildRow } from './builds.ts'

/** A build began at this time, and never after it was recorded: the clock of a builder may be ahead. */
export const BEGAN = 'least(b.started_at, b.recorded_at)'
export const NEWEST_FIRST = `${BEGAN} desc, b.position desc`
/** `offset 0` makes it a probe of an index for each build: Postgres would otherwise read all manifests first. */
export const MANIFEST_EXISTS = `exists (
              select 1
                from manifests m
               where m.repository_id = b.repository_id
                 and m.digest = b.manifest_digest
              offset 0)`

/** A build, with the names from which that of its job follows. */
export type JobBuildRow = BuildRow & {
  readonly repositoryId: number
  /** The repository whose job has the last component of the name. */
  readonly first: Repository | null
}

/** A JobBuildRow of build `b`. */
export const JOB_BUILD_COLUMNS = `${BUILD_COLUMNS}, b.repository_id as "repositoryId", n.repository as first`
/** `offset 0` makes each of them a probe of an index for each build. */
export const JOIN_JOB = `join lateral (
         select id, name, visibility
           from repositories
          where id = b.repository_id
         offset 0
       ) r on true
       left join lateral (
         select repository
           from job_names
          where name = substring(r.name from '[^/]*$')
         offset 0
       ) n on true`

/** Selects the builds among which the latest is wanted. */
export type LatestFilter = {
  readonly platform?: string | undefined
  readonly kernelDigest?: Digest | undefined
  /** True when the manifest may be deleted. */
  readonly mayBeDeleted?: true
}

/** True when the repository has a build of the platform that succeeded and began later. */
export async function hasLaterBuild(
  db: Queryable,
  repositoryId: number,
  platform: string,
  startedAt: Date,
): Promise<boolean> {
  const { rows } = await db.query<{ found: boolean }>(
    `select exists (
       select 1
         from builds b
        where b.repository_id = $1
          and b.platform = $2
          and b.kernel_digest is not null
          and ${BEGAN} > $3
          and ${MANIFEST_EXISTS}
     ) as found`,
    [repositoryId, platform, startedAt],
  )
  return rows[0]?.found === true
}

/** Finds the build of a repository that succeeded and began last, and by default only one whose manifest exists. */
export async function findLatestBuild(
  db: Queryable,
  repositoryId: number,
  { platform, kernelDigest, mayBeDeleted }: LatestFilter,
): Promise<JobBuildRow | undefined> {
  const statement = withConditions(
    `select ${JOB_BUILD_COLUMNS}
       from (
         select b.*
           from builds b
          where b.repository_id = $1
            and b.kernel_digest is not null
            {platform}
            {kernel}
            {existing}
          order by ${NEWEST_FIRST}
          limit 1
       ) b
       ${JOIN_JOB}`,
    [repositoryId],
    {
      existing: mayBeDeleted ? [] : [{ text: `and ${MANIFEST_EXISTS}`, value: undefined }],
      platform: given('and b.platform = $', platform),
      kernel: given('and b.kernel_digest = $', kernelDigest),
    },
  )
  const { rows } = await db.query<JobBuildRow>(...statement)
  return rows[0]
}

/** Finds the kernel of the image under a tag. */
export async function findTaggedKernel(
  db: Queryable,
  repositoryId: number,
  tag: Tag,
): Promise<Digest | undefined> {
  const { rows } = await db.query<{ kernelDigest: Digest }>(
    `select i.kernel_digest as "kernelDigest"
       from tags t
       join manifests m on m.repository_id = t.repository_id and m.digest = t.digest
       join images i on i.manifest_id = m.id
      where t.repository_id = $1
        and t.name = $2`,
    [repositoryId, tag],
  )
  return rows[0]?.kernelDigest
}

/** A successful build with its main binary, and a failed one. */
export type ListedBuildRow = JobBuildRow & {
  readonly kernelTitle: string | null
  /** In bytes; null for a failed build. */
  readonly kernelSize: number | null
}

/** A ListedBuildRow of build `b`. */
export const LISTED_COLUMNS = `${JOB_BUILD_COLUMNS},
            (select i.kernel_title
               from manifests m
               join images i on i.manifest_id = m.id
              where m.repository_id = b.repository_id
                and m.digest = b.manifest_digest) as "kernelTitle",
            (select size from blobs where digest = b.kernel_digest) as "kernelSize"`

/** Which builds of a repository a list has. */
export type JobBuildsFilter = {
  readonly hasFailed: boolean
  readonly platform: string | undefined
}

/** Lists the builds of a repository that succeeded, or those that failed, latest first. */
export async function listJobBuilds(
  db: Queryable,
  repositoryId: number,
  { hasFailed, platform }: JobBuildsFilter,
  limit: number,
): Promise<ListedBuildRow[]> {
  const statement = withConditions(
    `select ${LISTED_COLUMNS}
       from builds b
       ${JOIN_JOB}
      where b.repository_id = $1
        {kind}
        {platform}
      order by ${NEWEST_FIRST}
      limit $2`,
    [repositoryId, limit],
    {
      // Without a parameter, so that the partial indexes serve it.
      kind: [
        { text: `and b.kernel_digest is ${hasFailed ? 'null' : 'not null'}`, value: undefined },
      ],
      platform: given('and b.platform = $', platform),
    },
  )
  const { rows } = await db.query<ListedBuildRow>(...statement)
  return rows
}

/** The Solo5 facts of the image of a build. */
export type ImageOfBuild = {
  /** The id of the manifest. */
  readonly id: number
  readonly target: string
  /** Null, as are the devices, for a kernel that is none of Solo5's. */
  readonly abiVersion: number | null
  /** `net:service`, in the order of the kernel. */
  readonly devices: readonly string[] | null
  /** The size of the kernel in bytes. */
  readonly kernelSize: number
}

/** Finds the image of a build. Undefined when it made no unikernel, or the image was deleted. */
export async function findImageOfBuild(
  db: Queryable,
  repositoryId: number,
  digest: Digest,
): Promise<ImageOfBuild | undefined> {
  const { rows } = await db.query<ImageOfBuild>(
    `select m.id, i.target, i.abi_version as "abiVersion", i.devices, f.size as "kernelSize"
       from manifests m
       join images i on i.manifest_id = m.id
       join blobs f on f.digest = i.kernel_digest
      where m.repository_id = $1
        and m.digest = $2`,
    [repositoryId, digest],
  )
  return rows[0]
}

import type { Digest } from '../../oci/digest.ts'
import type { Glob } from '../../oci/glob.ts'
import type { Repository } from '../../oci/reference.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import { nameRanges, RANGE_COLUMNS, REPOSITORY_IN_RANGE } from '../name-patterns.ts'

/** A kernel that ran in a unit of a host. */
export type RunRow = {
  readonly id: number
  readonly hostId: number
  readonly unit: string
  readonly repository: Repository
  readonly kernel: Digest
  readonly from: Date
  /** Null: it still runs, as far as its host reported. */
  readonly to: Date | null
}

/** Filters runs. Undefined matches any. */
export type RunFilter = {
  readonly kernel: Digest | undefined
  readonly repository: Repository | undefined
  readonly host: string | undefined
  /** True: only runs that have no end. */
  readonly running: true | undefined
}

/** Runs that one page looks at, however few of them are visible or have a package. */
export const RUNS_SCANNED_MAX = 1_000
/** Images with the same kernel in one repository whose packages are compared. */
const IMAGES_MAX = 5

/** The runs that were looked at, newest first. */
export type ScannedRuns = {
  readonly runs: readonly RunRow[]
  /** The oldest of them, also when it is not visible; undefined at the end of the list. */
  readonly last: number | undefined
}

type Row = { readonly scanned: number; readonly last: number | null } & (
  | RunRow
  | { readonly id: null }
)

/**
 * Lists the next RUNS_SCANNED_MAX runs before an id, newest first, without those of repositories that match none of
 * `visible`. A pattern with several stars lets more through.
 */
export async function scanRuns(
  db: Queryable,
  { kernel, repository, host, running }: RunFilter,
  visible: readonly Glob[],
  before: number,
): Promise<ScannedRuns> {
  const { rows } = await db.query<Row>(
    ...withConditions(
      `with visible as materialized (
         select *
           from json_to_recordset($2::json) as g (${RANGE_COLUMNS})
       ), scanned as materialized (
         select run.id, run.host_id, run.unit, run.repository, run.kernel, run.from_at, run.to_at
           from runs run
          where run.id < $1
            {filters}
          order by {order} run.id desc
          limit ${RUNS_SCANNED_MAX}
       )
       select total.scanned, total.last, seen.id, seen.host_id as "hostId", seen.unit, seen.repository, seen.kernel,
              seen.from_at as "from", seen.to_at as "to"
         from (select count(*) as scanned, min(id) as last from scanned) total
         left join (
           select s.*
             from scanned s
            where exists (
                    select 1
                      from (select s.repository as name) r
                      join visible g on ${REPOSITORY_IN_RANGE})
         ) seen on true
        order by seen.id desc`,
      [before, nameRanges(visible)],
      {
        // A range of one kernel, in the order of its index: Postgres would read all runs in the order of ids for a kernel that
        // no run has.
        order: [
          ...given('run.kernel desc,', kernel),
          ...given('run.repository desc,', kernel === undefined ? repository : undefined),
        ],
        filters: [
          ...given('and run.kernel >= $', kernel),
          ...given('and run.kernel <= $', kernel),
          ...given('and run.repository = $', repository),
          ...given('and run.host_id = any(array(select id from hosts where name = $))', host),
          ...given('and run.to_at is null', running),
        ],
      },
    ),
  )
  const [first] = rows
  const isEnd = first === undefined || first.scanned < RUNS_SCANNED_MAX
  return {
    runs: rows.flatMap((row) => (row.id === null ? [] : [row])),
    last: isEnd ? undefined : (first.last ?? undefined),
  }
}

/** A host on which something ran. */
export type RunHost = {
  readonly id: number
  readonly name: string
  /** The patterns of what it may follow; null for a revoked host. */
  readonly repositories: readonly string[] | null
}

/** Lists hosts, also revoked ones, by their ids. */
export async function listRunHosts(
  db: Queryable,
  ids: readonly number[],
): Promise<ReadonlyMap<number, RunHost>> {
  const { rows } = await db.query<RunHost>(
    `select id, name, case when state = 'active' then repositories end as repositories
       from hosts
      where id = any($1::bigint[])`,
    [ids],
  )
  return new Map(rows.map((row) => [row.id, row]))
}

/** The versions of a package in the images of a repository that have this kernel. */
export type KernelVersions = {
  readonly repository: Repository
  readonly kernel: Digest
  /** Empty for one whose version is unknown. */
  readonly versions: readonly string[]
}

/** Lists the versions of a package in kernels of repositories. A kernel without the package is left out. */
export async function listKernelVersions(
  db: Queryable,
  kernels: readonly Pick<KernelVersions, 'repository' | 'kernel'>[],
  ecosystem: string,
  name: string,
): Promise<KernelVersions[]> {
  const { rows } = await db.query<KernelVersions>(
    `with wanted as materialized (
       select id, version
         from packages
        where ecosystem = $3
          and name = $4
     ), images_of as materialized (
       select k.repository, k.kernel, image.manifest_id
         from (
           select distinct repository, kernel
             from unnest($1::text[], $2::text[]) as k (repository, kernel)
         ) k
        cross join lateral (
           select r.id
             from repositories r
            where r.name = k.repository
           offset 0
         ) r
        cross join lateral (
           select i.manifest_id
             from images i
            where i.kernel_digest = k.kernel
              and i.repository_id = r.id
            order by i.manifest_id desc
            limit ${IMAGES_MAX}
         ) image
     )
     select io.repository, io.kernel, array_agg(distinct found.version) as versions
       from images_of io
      cross join lateral (
         select il.blob_id
           from image_layers il
          where il.manifest_id = io.manifest_id
            and il.role in ('opam-switch', 'opam-lock', 'system-packages')
         offset 0
      ) il
      cross join lateral (
         select w.version
           from wanted w
           join layer_packages lp on lp.package_id = w.id and lp.blob_id = il.blob_id
      ) found
      group by io.repository, io.kernel`,
    [
      kernels.map(({ repository }) => repository),
      kernels.map(({ kernel }) => kernel),
      ecosystem,
      name,
    ],
  )
  return rows
}

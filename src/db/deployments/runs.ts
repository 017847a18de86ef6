import type { Digest } from '../../oci/digest.ts'
import type { Glob } from '../../oci/glob.ts'
import type { Repository } from '../../oci/reference.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import { nameRanges, RANGE_COLUMNS, REPOSITORY_IN_RANGE } from '../name-patterns.ts'

/** A kernel that ran in a unit of a host. */
export type RunRow = {
  readonly id: number
  readonly host: string
  /** The patterns of what its host may follow; null for a revoked host. */
  readonly hostRepositories: readonly string[] | null
  readonly unit: string
  readonly repository: Repository
  readonly kernel: Digest
  readonly from: Date
  /** Null: it still runs, as far as its host reported. */
  readonly to: Date | null
  /** The versions of the package that its image has; undefined when no package was given. Empty for an unknown one. */
  readonly versions?: readonly string[]
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

/** A package that the image of a run must have, in any version. */
export type PackageName = { readonly ecosystem: string; readonly name: string }

/** The runs of `seen` whose image has the package $5 of ecosystem $4, with its versions. */
const PACKAGED = `, wanted as materialized (
         select id, version
           from packages
          where ecosystem = $4
            and name = $5
       ), images_of as materialized (
         select k.repository, k.kernel, image.manifest_id
           from (
             select distinct repository, kernel
               from seen
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
       ), found as materialized (
         select io.repository, io.kernel, array_agg(distinct lp.version) as versions
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
          ) lp
          group by io.repository, io.kernel
       ), packaged as (
         select s.*, found.versions
           from seen s
           join found using (repository, kernel)
       )` as const

/**
 * Looks at the next RUNS_SCANNED_MAX runs before an id, newest first, and lists those of repositories that match one of
 * `visible`, at most `limit`. A pattern with several stars lets more through. With a package, only runs of kernels
 * whose image lists it.
 */
export async function scanRuns(
  db: Queryable,
  { kernel, repository, host, running }: RunFilter,
  wanted: PackageName | undefined,
  visible: readonly Glob[],
  before: number,
  limit: number,
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
       ), seen as materialized (
         select s.*
           from scanned s
          where exists (
                  select 1
                    from (select s.repository as name) r
                    join visible g on ${REPOSITORY_IN_RANGE})
       ) {packaged}, listed as (
         select run.*
           from {source} run
          order by run.id desc
          limit $3
       )
       select total.scanned, total.last, run.*
         from (select count(*) as scanned, min(id) as last from scanned) total
         left join (
           select l.id, h.name as host, h.repositories as "hostRepositories", l.unit, l.repository, l.kernel,
                  l.from_at as "from", l.to_at as "to" {versions}
             from listed l
            cross join lateral (
              select name, case when state = 'active' then repositories end as repositories
                from hosts
               where id = l.host_id
              offset 0
            ) h
         ) run on true
        order by run.id desc`,
      [before, nameRanges(visible), limit, ...(wanted ? [wanted.ecosystem, wanted.name] : [])],
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
        packaged: given(PACKAGED, wanted),
        source: wanted === undefined ? given('seen', true) : given('packaged', true),
        versions: given(', l.versions', wanted),
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

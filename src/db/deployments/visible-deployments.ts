import type { DeploymentState } from '../../deployments/states.ts'
import type { Glob } from '../../oci/glob.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import { nameRanges, RANGE_COLUMNS, VISIBLE_REPOSITORY } from '../name-patterns.ts'
import { DEPLOYMENT_COLUMNS, type DeploymentRow } from './deployment-reads.ts'

/** Deployments that one page looks at, however few of them are visible. */
const SCANNED_MAX = 1_000

/** Deployments of a page, newest first. */
export type ScannedDeployments = {
  readonly deployments: readonly DeploymentRow[]
  /** The oldest one that was looked at, also when it is not visible; undefined at the end of the list. */
  readonly last: string | undefined
}

type Row = { readonly scanned: number; readonly scannedTo: string | null } & (
  | DeploymentRow
  | { readonly id: null }
)

/**
 * Lists at most `limit` of the next SCANNED_MAX deployments before the one with the id `before`, newest first, without those
 * of private repositories that match none of `visible`. A pattern with several stars lets more through.
 */
export async function scanDeployments(
  db: Queryable,
  state: DeploymentState | undefined,
  visible: readonly Glob[],
  before: string | undefined,
  limit: number,
): Promise<ScannedDeployments> {
  const { rows } = await db.query<Row>(
    ...withConditions(
      `with visible as materialized (
         select *
           from json_to_recordset($1::json) as g (${RANGE_COLUMNS})
       ), scanned as materialized (
         select d.id, d.repository_id
           from deployments d
          where true
            {filters}
          order by {order} d.id desc
          limit ${SCANNED_MAX}
       ), shown as materialized (
         select c.id
           from scanned c
          cross join ${VISIBLE_REPOSITORY}
          order by c.id desc
          limit $2
       )
       select total.scanned, total."scannedTo", seen.*
         from (
           select count(*) as scanned, (array_agg(id order by id))[1] as "scannedTo"
             from scanned
         ) total
         left join (
           select ${DEPLOYMENT_COLUMNS}
             from shown
             join deployments d on d.id = shown.id
             join repositories r on r.id = d.repository_id
         ) seen on true
        order by seen.id desc`,
      [nameRanges(visible), limit],
      {
        // The order of the index of states: Postgres would read all deployments in the order of ids for a rare state.
        order: given('d.state desc,', state),
        filters: [...given('and d.state = $', state), ...given('and d.id < $::uuid', before)],
      },
    ),
  )
  const [first] = rows
  const isEnd = first === undefined || first.scanned < SCANNED_MAX
  return {
    deployments: rows.flatMap((row) => (row.id === null ? [] : [row])),
    last: isEnd ? undefined : (first.scannedTo ?? undefined),
  }
}

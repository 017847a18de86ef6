import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'

/** The image that a unit should run, and the last report of its host. */
export type DesiredRow = {
  readonly hostId: number
  readonly name: string
  readonly repository: Repository
  readonly tag: Tag
  /** The target and the devices of the unit file. */
  readonly target: string | null
  readonly devices: readonly string[] | null
  readonly tenders: readonly {
    readonly target: string
    readonly abi: number | null
    readonly architecture: string | null
  }[]
  /** The digest of the tag; null: there is no such tag. */
  readonly tagDigest: Digest | null
  readonly grantedDigest: Digest | null
  readonly grantedBy: string | null
  /** The kernel that the deployment selected for the host. */
  readonly grantedKernel: Digest | null
  readonly settleSeconds: number | null
  /** The host whose unit the deployment waits for, while it has not granted its digest to this unit. */
  readonly waitsFor: string | null
  readonly isWaiting: boolean
  readonly kernel: Digest | null
  readonly state: string
  readonly sequence: number
}

/** The columns of a DesiredRow. */
export const DESIRED_COLUMNS = `u.host_id as "hostId", u.name, u.repository, u.tag, u.target, u.devices, h.tenders,
            t.digest as "tagDigest", u.granted_digest as "grantedDigest", u.granted_by as "grantedBy",
            g.kernel as "grantedKernel", (d.rollout ->> 'settleSeconds')::integer as "settleSeconds",
            w.host as "waitsFor", w.deployment_id is not null as "isWaiting",
            u.kernel, u.state, u.sequence`

/** The tables of a DesiredRow. Its deployment, target and tag may be missing. */
export const DESIRED_TABLES = `units u
       join hosts h on h.id = u.host_id
       left join repositories r on r.name = u.repository
       left join tags t on t.repository_id = r.id and t.name = u.tag
       left join deployments d on d.id = u.granted_by
       left join targets g
         on g.deployment_id = u.granted_by and g.host_id = u.host_id and g.unit = u.name
       left join lateral (
         select waiting.deployment_id, (
                  select first.name
                    from targets busy
                    join hosts first on first.id = busy.host_id
                   where busy.deployment_id = waiting.deployment_id
                     and busy.state in ('granted', 'fetching', 'starting', 'checking')
                   order by busy.place
                   limit 1
                ) as host
           from targets waiting
          where waiting.host_id = u.host_id
            and waiting.unit = u.name
            and waiting.state = 'waiting'
          order by waiting.deployment_id desc
          limit 1
       ) w on true`

/** Lists the units of many hosts, in the order of hosts and names. `unit`: only the unit of this name. */
export async function listDesired(
  db: Queryable,
  hostIds: readonly number[],
  unit?: string,
): Promise<DesiredRow[]> {
  const { rows } = await db.query<DesiredRow>(
    ...withConditions(
      `select ${DESIRED_COLUMNS}
         from ${DESIRED_TABLES}
        where u.host_id = any($1::bigint[])
          {unit}
        order by u.host_id, u.name`,
      [hostIds],
      { unit: given('and u.name = $', unit) },
    ),
  )
  return rows
}

/** The version of what a host should run: it changes when one of its units is granted another digest. */
export type DesiredVersion = { readonly hostId: number; readonly version: string }

/**
 * Lists the versions of what hosts should run: one row for each host that has units. `deployments`: only hosts with a unit
 * that one of them granted its digest; undefined: all these hosts.
 */
export async function listDesiredVersions(
  db: Queryable,
  hostIds: readonly number[],
  deployments: readonly string[] | undefined,
): Promise<DesiredVersion[]> {
  const { rows } = await db.query<DesiredVersion>(
    ...withConditions(
      `select u.host_id as "hostId",
              md5(string_agg(concat_ws(' ', u.name, u.granted_digest, u.granted_by), ',' order by u.name))
                as version
         from units u
        where u.host_id = any($1::bigint[])
        group by u.host_id
        {granted}`,
      [hostIds],
      { granted: given('having bool_or(u.granted_by = any($::uuid[]))', deployments) },
    ),
  )
  return rows
}

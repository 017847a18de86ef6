import type { DeploymentState } from '../../deployments/states.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import { RANGE_COLUMNS, VISIBLE_REPOSITORY, type VisibleNames } from '../name-patterns.ts'

/** Failures of the last days, and hosts, that may need a person. Times are texts. */
export type Attention = {
  /** The newest deployments of their tags that failed or were halted. */
  readonly deployments: readonly {
    readonly id: string
    readonly repository: Repository
    readonly tag: Tag
    readonly number: number
    readonly state: DeploymentState
    readonly at: string
  }[]
  /** The newest builds of their repositories and platforms that failed. */
  readonly builds: readonly {
    readonly id: string
    readonly repository: Repository
    readonly result: 'failed' | 'signalled' | 'error'
    readonly platform: string | null
    readonly at: string
  }[]
  /** Hosts that wait for an approval, and hosts that do not call any more, of everybody. */
  readonly hosts: readonly {
    readonly name: string
    readonly state: 'pending' | 'active'
    readonly repositories: readonly string[]
    readonly at: string
  }[]
}

/** Older failures are history. */
const DAYS_MAX = 14
/** Failed deployments in one state, and failed builds, that are looked at, however few of them are visible. */
const SCANNED_MAX = 50
/** Deployments and builds that are returned. */
const SHOWN_MAX = 5
/** Hosts that wait, and hosts that are lost, that are returned. */
const HOSTS_MAX = 100

/**
 * Finds what failed lately and is not mended: in public repositories, and in private ones among `names`. `seesDeployments`, `seesHosts`:
 * false leaves these out.
 */
export async function findAttention(
  db: Queryable,
  names: VisibleNames,
  seesDeployments: boolean,
  seesHosts: boolean,
): Promise<Attention> {
  const { rows } = await db.query<Attention>(
    `with visible as materialized (
       select *
         from json_to_recordset($1::json) as g (${RANGE_COLUMNS})
     ), stopped as materialized (
       select f.*
         from unnest(array['failed', 'halted']) as s (state)
        cross join lateral (
          select d.id, d.repository_id, d.tag, d.number, d.state, d.finished_at
            from deployments d
           where d.state = s.state
           order by d.state desc, d.id desc
           limit ${SCANNED_MAX}
        ) f
        where $2::boolean
          and f.finished_at > now() - make_interval(days => ${DAYS_MAX})
          and f.id = (
                select d.id
                  from deployments d
                 where d.repository_id = f.repository_id
                   and d.tag = f.tag
                 order by d.id desc
                 limit 1)
     ), failed as materialized (
       select f.*
         from (
           select b.id, b.position, b.repository_id, b.result, b.platform, b.recorded_at
             from builds b
            where b.kernel_digest is null
            order by least(b.started_at, b.recorded_at) desc, b.position desc
            limit ${SCANNED_MAX}
         ) f
        where f.recorded_at > now() - make_interval(days => ${DAYS_MAX})
          and (f.platform is null or f.position = (
                select b.position
                  from builds b
                 where b.repository_id = f.repository_id
                   and b.platform = f.platform
                 order by b.position desc
                 limit 1))
     ), hosts_of_all as materialized (
       (select name, state, repositories, created_at as at
          from hosts
         where $3::boolean
           and state = 'pending'
           and expires_at > now()
         order by expires_at desc
         limit ${HOSTS_MAX})
        union all
       (select name, state, repositories, lost_at
          from hosts
         where $3::boolean
           and state = 'active'
           and lost_at is not null
         order by lost_at desc
         limit ${HOSTS_MAX})
     )
     select (
              select coalesce(json_agg(row_to_json(one)), '[]')
                from (
                  select c.id, r.name as repository, c.tag, c.number, c.state, c.finished_at as at
                    from stopped c
                   cross join ${VISIBLE_REPOSITORY}
                   order by c.id desc
                   limit ${SHOWN_MAX}
                ) one
            ) as deployments,
            (
              select coalesce(json_agg(row_to_json(one)), '[]')
                from (
                  select c.id, r.name as repository, c.result, c.platform, c.recorded_at as at
                    from failed c
                   cross join ${VISIBLE_REPOSITORY}
                   order by c.position desc
                   limit ${SHOWN_MAX}
                ) one
            ) as builds,
            (
              select coalesce(json_agg(row_to_json(one)), '[]')
                from hosts_of_all one
            ) as hosts`,
    [names, seesDeployments, seesHosts],
  )
  return rows[0] ?? { deployments: [], builds: [], hosts: [] }
}

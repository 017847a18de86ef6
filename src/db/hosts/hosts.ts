import type { Glob } from '../../oci/glob.ts'
import { type Condition, given, withConditions } from '../conditions.ts'
import type { Queryable, Transaction } from '../database.ts'
import { nameRanges, PATTERN_IN_RANGE, RANGE_COLUMNS } from '../name-patterns.ts'

export const HOST_STATES = ['pending', 'active', 'revoked'] as const
export type HostState = (typeof HOST_STATES)[number]

export type HostRow = {
  readonly id: number
  readonly name: string
  readonly state: HostState
  readonly trust: 'key' | 'secret'
  readonly repositories: readonly string[]
  /** Null: from anywhere. */
  readonly networks: readonly string[] | null
  readonly grantVersion: number
  readonly labels: Readonly<Record<string, string>>
  readonly tenders: readonly unknown[]
  readonly agent: string | null
  readonly conflictAt: Date | null
  readonly seenAt: Date | null
  /** When the registry noticed that it calls no more. Null: it calls, or never did. */
  readonly lostAt: Date | null
  readonly createdBy: string
  readonly createdAt: Date
  /** When a pending host is removed. */
  readonly expiresAt: Date | null
  readonly revokedAt: Date | null
  /** The thumbprint of its present key. Null: it has a secret. */
  readonly fingerprint: string | null
}

/** The columns of a `HostRow`, for queries on `hosts`. */
export const HOST_COLUMNS = `hosts.id, hosts.name, hosts.state, hosts.trust, hosts.repositories, hosts.networks,
  hosts.grant_version as "grantVersion", hosts.labels, hosts.tenders, hosts.agent,
  hosts.conflict_at as "conflictAt", hosts.seen_at as "seenAt", hosts.lost_at as "lostAt",
  hosts.created_by as "createdBy", hosts.created_at as "createdAt", hosts.expires_at as "expiresAt",
  hosts.revoked_at as "revokedAt",
  (select thumbprint from host_keys where host_id = hosts.id order by added_at desc, thumbprint limit 1) as fingerprint`

export type NewHost = Pick<
  HostRow,
  'name' | 'repositories' | 'networks' | 'labels' | 'createdBy'
> & {
  readonly ownerOrigin: string | null
}

/** Adds an active host, with a key or the secret of a credential. Returns undefined when another host has the name. */
export async function addHost(
  tx: Transaction,
  host: NewHost,
  credentialId: number | null,
): Promise<HostRow | undefined> {
  const { rows } = await tx.query<HostRow>(
    `insert into hosts
            (name, state, trust, repositories, networks, labels, created_by, owner_origin, credential_id)
     values ($1, 'active', case when $7::bigint is null then 'key' else 'secret' end, $2, $3, $4, $5, $6, $7)
         on conflict (name) where state <> 'revoked' do nothing
     returning ${HOST_COLUMNS}`,
    [
      host.name,
      host.repositories,
      host.networks,
      host.labels,
      host.createdBy,
      host.ownerOrigin,
      credentialId,
    ],
  )
  return rows[0]
}

/** Returns the host of this name that is not revoked. */
export async function findHost(db: Queryable, name: string): Promise<HostRow | undefined> {
  const { rows } = await db.query<HostRow>(
    `select ${HOST_COLUMNS}
       from hosts
      where name = $1
        and state <> 'revoked'`,
    [name],
  )
  return rows[0]
}

/** Locks the host of this name that is not revoked, until the transaction ends. */
export async function lockHost(tx: Transaction, name: string): Promise<HostRow | undefined> {
  const { rows } = await tx.query<HostRow>(
    `select ${HOST_COLUMNS}
       from hosts
      where name = $1
        and state <> 'revoked'
        for update`,
    [name],
  )
  return rows[0]
}

/** Changes what a host may do, and its labels. Another grant is another version. */
export async function changeHost(
  tx: Transaction,
  id: number,
  { repositories, networks, labels }: Pick<HostRow, 'repositories' | 'networks' | 'labels'>,
): Promise<HostRow | undefined> {
  const { rows } = await tx.query<HostRow>(
    `update hosts
        set repositories = $2,
            networks = $3,
            labels = $4,
            grant_version = grant_version
              + case when (repositories, networks) is distinct from ($2, $3) then 1 else 0 end
      where id = $1
     returning ${HOST_COLUMNS}`,
    [id, repositories, networks, labels],
  )
  return rows[0]
}

/** Counts the active hosts. */
export async function countActiveHosts(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `select count(*) as count
       from hosts
      where state = 'active'`,
  )
  return rows[0]?.count ?? 0
}

/** The filters of a list of hosts. Undefined: any. */
export type HostFilter = {
  /** Undefined: pending and active. */
  readonly state: HostState | undefined
  /** All of these labels. */
  readonly labels: Readonly<Record<string, string>> | undefined
  /** A unit of the host follows this repository. */
  readonly repository: string | undefined
  /** A unit of the host runs this kernel. */
  readonly kernel: string | undefined
}

/** The place of a host in the list: revoked hosts may have had the same name. */
export type HostPlace = Pick<HostRow, 'name' | 'id'>

/** Each state as a literal, for which Postgres uses a partial index. */
const PRESENT = given("and hosts.state <> 'revoked'", true)
const IN_STATE: Readonly<Record<HostState, Condition[]>> = {
  pending: given("and hosts.state = 'pending'", true),
  active: given("and hosts.state <> 'revoked' and hosts.state = 'active'", true),
  revoked: given("and hosts.state = 'revoked'", true),
}

/** The hosts with these labels. `isSmall`: another condition leaves few hosts already. */
function labelled(
  labels: HostFilter['labels'],
  state: HostFilter['state'],
  isSmall: boolean,
): Condition[] {
  if (isSmall) return given('and hosts.labels @> $::jsonb', labels)
  if (state === 'revoked') {
    return given(
      "and hosts.id = any(array(select id from hosts where labels @> $::jsonb and state = 'revoked'))",
      labels,
    )
  }
  return given(
    "and hosts.id = any(array(select id from hosts where labels @> $::jsonb and state <> 'revoked'))",
    labels,
  )
}

/**
 * Lists hosts after a place, in the order of names. With `managed`, only pending hosts, and those whose repositories these
 * patterns cover: a pattern with several stars lets more through.
 */
export async function listHosts(
  db: Queryable,
  { state, labels, repository, kernel }: HostFilter,
  managed: readonly Glob[] | undefined,
  after: HostPlace,
  limit: number,
): Promise<HostRow[]> {
  const { rows } = await db.query<HostRow>(
    ...withConditions(
      `with ranges as materialized (
         select *
           from json_to_recordset($4::json) as g (${RANGE_COLUMNS})
       ), candidates as (
         select distinct h.id, h.repositories
           from ranges g
          cross join lateral (
            select h.id, h.repositories
              from hosts h
             where h.state = $5
               and h.repositories[1] >= g.low
               and h.repositories[1] < g.high
            offset 0
         ) h
       ), managed as (
         select c.id
           from candidates c
          where not exists (
                  select 1
                    from unnest(c.repositories) as r (name)
                   where not exists (
                           select 1
                             from ranges g
                            where ${PATTERN_IN_RANGE}))
          union all
         select id
           from hosts
          where state = 'pending'
       )
       select ${HOST_COLUMNS}
         from hosts
        where (hosts.name, hosts.id) > ($1, $2)
          {state}
          {managed}
          {labels}
          {units}
        order by hosts.name, hosts.id
        limit $3`,
      [after.name, after.id, limit, nameRanges(managed ?? []), state ?? 'active'],
      {
        state: state === undefined ? PRESENT : IN_STATE[state],
        // These hosts come first: in the order of names, all others would be read to find few of them.
        managed: given('and hosts.id = any(array(select id from managed))', managed),
        labels: labelled(labels, state, managed !== undefined),
        units: [
          ...given(
            'and exists (select 1 from units u where u.host_id = hosts.id and u.repository = $)',
            repository,
          ),
          ...given(
            'and exists (select 1 from units u where u.host_id = hosts.id and u.kernel = $)',
            kernel,
          ),
        ],
      },
    ),
  )
  return rows
}

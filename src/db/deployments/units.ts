import type { UnitState } from '../../deployments/states.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'
import { RECORD_TARGETS, TARGET_IS_OPEN } from './targets.ts'

/** The sender of a report: the arguments of `assert_unrevoked`. */
export type Author = {
  readonly origin: string | null
  readonly tokenId: string | null
  readonly keyId: string | null
}

/** A unit as its last report left it. */
export type UnitRow = {
  readonly repository: Repository
  readonly tag: Tag
  readonly target: string | null
  readonly devices: readonly string[] | null
  readonly kernel: Digest | null
  readonly state: UnitState
  readonly reason: string | null
  readonly message: string | null
  readonly exitCode: number | null
  /** The exit code in words. */
  readonly exitMeaning: string | null
  readonly bootId: string
  readonly sequence: number
  readonly grantedDigest: Digest | null
  readonly grantedBy: string | null
  readonly goodDigest: Digest | null
  readonly earlierGoodDigest: Digest | null
  readonly failedDigest: Digest | null
  /** The boot before `bootId`. Null: there was none. */
  readonly earlier: EarlierBoot | null
}

/** A boot of a host that another one followed. */
export type EarlierBoot = {
  readonly bootId: string
  /** The sequence of its last report. */
  readonly sequence: number
  /** True when a report came after the first one of the next boot. */
  readonly isLate: boolean
}

const UNIT_COLUMNS = `u.repository, u.tag, u.target, u.devices, u.kernel, u.state, u.reason, u.message,
              u.exit_code as "exitCode", u.exit_meaning as "exitMeaning", u.boot_id as "bootId", u.sequence,
              u.granted_digest as "grantedDigest", u.granted_by as "grantedBy",
              u.good_digest as "goodDigest", u.failed_digest as "failedDigest",
              u.earlier_good_digest as "earlierGoodDigest",
              case when u.earlier_boot_id is not null then json_build_object(
                'bootId', u.earlier_boot_id, 'sequence', u.earlier_sequence,
                'isLate', u.earlier_is_late) end as earlier`

/**
 * Locks a unit until the transaction ends. Undefined: the host has no such unit. Throws UNAUTHORIZED when the host or its
 * token was revoked: until the transaction ends, a revocation waits.
 */
export async function lockUnit(
  tx: Transaction,
  hostId: number,
  name: string,
  { origin, tokenId, keyId }: Author,
): Promise<UnitRow | undefined> {
  const { rows } = await tx.query<UnitRow | { readonly repository: null }>(
    `select unit.*
       from assert_unrevoked($3, $4, $5)
       left join lateral (
         select ${UNIT_COLUMNS}
           from units u
          where u.host_id = $1
            and u.name = $2
            for update
       ) unit on true`,
    [hostId, name, origin, tokenId, keyId],
  )
  const [row] = rows
  return row === undefined || row.repository === null ? undefined : row
}

/** Locks a host against other new units, and counts its units. Returns 0 for a host that is gone. */
export async function lockUnitsOfHost(tx: Transaction, hostId: number): Promise<number> {
  const { rows } = await tx.query<{ id: number }>(
    `select id
       from hosts
      where id = $1
        for no key update`,
    [hostId],
  )
  if (rows.length === 0) return 0
  const counted = await tx.query<{ count: number }>(
    `select count(*) as count
       from units
      where host_id = $1`,
    [hostId],
  )
  return counted.rows[0]?.count ?? 0
}

/** A unit, as those who may see its host see it. */
export type ListedUnit = Omit<UnitRow, 'bootId' | 'sequence' | 'earlier' | 'earlierGoodDigest'> & {
  readonly name: string
  readonly since: Date
  readonly reportedAt: Date
  /** The last lines that its kernels printed; null: none are kept. */
  readonly log: string | null
  readonly loggedAt: Date | null
}

/** Characters of the log of a unit in the list. */
const LOG_LENGTH_MAX = 4096

/** Lists the units of a host, in the order of names. */
export async function listUnitsOfHost(db: Queryable, hostId: number): Promise<ListedUnit[]> {
  const { rows } = await db.query<ListedUnit>(
    `select u.name, ${UNIT_COLUMNS}, u.since, u.reported_at as "reportedAt", printed.log,
            printed.at as "loggedAt"
       from units u
       left join lateral (
         select right(l.text, ${LOG_LENGTH_MAX}) as log, l.at
           from unit_logs l
          where l.host_id = u.host_id
            and l.unit = u.name
            -- Before, it may have followed a repository that the caller may not see.
            and l.at >= u.registered_at
          order by l.id desc
          limit 1
       ) printed on true
      where u.host_id = $1
      order by u.name`,
    [hostId],
  )
  return rows
}

/** Units of one host that a list of hosts shows. */
const UNITS_SHOWN_MAX = 6

/** A unit in a list of hosts. */
export type UnitOfHost = Pick<
  ListedUnit,
  'name' | 'repository' | 'tag' | 'state' | 'grantedDigest' | 'goodDigest'
> & {
  readonly hostId: number
  /** How many units the host has. */
  readonly of: number
}

/** Lists units of many hosts, of each at most UNITS_SHOWN_MAX: those that failed first, and then in the order of names. */
export async function listUnitsOfHosts(
  db: Queryable,
  hostIds: readonly number[],
): Promise<UnitOfHost[]> {
  const { rows } = await db.query<UnitOfHost>(
    `select h.id as "hostId", u.name, u.repository, u.tag, u.state, u.granted_digest as "grantedDigest",
            u.good_digest as "goodDigest", u.of
       from unnest($1::bigint[]) as h (id)
      cross join lateral (
        select name, repository, tag, state, granted_digest, good_digest,
               state in ('failed', 'rolled-back') as is_failure, count(*) over () as of
          from units
         where host_id = h.id
         order by is_failure desc, name
         limit ${UNITS_SHOWN_MAX}
      ) u
      order by h.id, u.is_failure desc, u.name`,
    [hostIds],
  )
  return rows
}

/** Removes a unit, and ends its run. Returns false when the host has no such unit. */
export async function removeUnit(tx: Transaction, hostId: number, name: string): Promise<boolean> {
  const { rows } = await tx.query<{ name: string }>(
    `with ended as (
       update runs
          set to_at = clock_timestamp()
        where host_id = $1
          and unit = $2
          and to_at is null
     )
     delete from units
      where host_id = $1
        and name = $2
     returning name`,
    [hostId, name],
  )
  return rows.length > 0
}

/** Skips the open targets of a unit that does not follow their tag any more, with their events. Returns their deployments. */
export async function skipTargetsOfUnit(
  tx: Transaction,
  hostId: number,
  name: string,
): Promise<string[]> {
  const { rows } = await tx.query<{ id: string }>(
    `with changed as (
       update targets o
          set state = 'skipped',
              reason = 'unfollowed',
              ended_at = clock_timestamp(),
              changed_at = clock_timestamp()
        where o.host_id = $1
          and o.unit = $2
          and ${TARGET_IS_OPEN}
       returning o.*
     ), ${RECORD_TARGETS}
     select deployment_id as id
       from changed`,
    [hostId, name],
  )
  return rows.map(({ id }) => id)
}

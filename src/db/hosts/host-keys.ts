import type { Queryable, Transaction } from '../database.ts'
import type { HostRow } from './hosts.ts'

/** A key, and the grant of its host. */
export type HostOfKey = Pick<
  HostRow,
  'id' | 'name' | 'state' | 'repositories' | 'networks' | 'grantVersion'
> & {
  readonly jwk: unknown
  /** True when the host has had another key for a while. */
  readonly isEnded: boolean
  /** True when nobody approved the host in time. */
  readonly isExpired: boolean
}

/** Returns the host that has, or had, the key with this thumbprint. */
export async function findHostOfKey(
  db: Queryable,
  thumbprint: string,
): Promise<HostOfKey | undefined> {
  const { rows } = await db.query<HostOfKey>(
    `select h.id, h.name, h.state, h.repositories, h.networks, h.grant_version as "grantVersion",
            k.jwk, k.ends_at is not null and k.ends_at <= now() as "isEnded",
            h.expires_at is not null and h.expires_at <= now() as "isExpired"
       from host_keys k
       join hosts h on h.id = k.host_id
      where k.thumbprint = $1`,
    [thumbprint],
  )
  return rows[0]
}

/** Adds a key. Returns false when a host has it already, or had it. */
export async function addHostKey(
  tx: Transaction,
  hostId: number,
  thumbprint: string,
  jwk: object,
): Promise<boolean> {
  const { rows } = await tx.query<{ thumbprint: string }>(
    `insert into host_keys (thumbprint, host_id, jwk, added_at)
     values ($1, $2, $3, clock_timestamp())
         on conflict (thumbprint) do nothing
     returning thumbprint`,
    [thumbprint, hostId, jwk],
  )
  return rows.length > 0
}

/** Locks a host for a change of its keys. Returns undefined when it is not active, and its keys that are accepted. */
export async function lockHostKeys(
  tx: Transaction,
  hostId: number,
): Promise<readonly string[] | undefined> {
  const { rows: locked } = await tx.query<{ id: number }>(
    `select id
       from hosts
      where id = $1
        and state = 'active'
        for update`,
    [hostId],
  )
  if (locked.length === 0) return undefined
  // A second statement: it sees the keys of a change that held the lock before.
  const { rows } = await tx.query<{ thumbprint: string }>(
    `select thumbprint
       from host_keys
      where host_id = $1
        and (ends_at is null or ends_at > clock_timestamp())
      order by added_at, thumbprint`,
    [hostId],
  )
  return rows.map(({ thumbprint }) => thumbprint)
}

/** Ends the keys of a host but one, after `seconds`. Keys that end sooner do so. */
export async function endOtherHostKeys(
  tx: Transaction,
  hostId: number,
  thumbprint: string,
  seconds: number,
): Promise<void> {
  await tx.query(
    `update host_keys
        set ends_at = now() + make_interval(secs => $3)
      where host_id = $1
        and thumbprint <> $2
        and (ends_at is null or ends_at > now() + make_interval(secs => $3))`,
    [hostId, thumbprint, seconds],
  )
}

/** Marks an assertion used. Returns false when it was used before. */
export async function markAssertionUsed(
  db: Queryable,
  thumbprint: string,
  id: string,
  refusedFrom: Date,
): Promise<boolean> {
  const { rows } = await db.query<{ jti: string }>(
    `insert into used_assertions (thumbprint, jti, expires_at)
     values ($1, $2, $3)
         on conflict (thumbprint, jti) do nothing
     returning jti`,
    [thumbprint, id, refusedFrom],
  )
  return rows.length > 0
}

const REMOVED_AT_ONCE = 1000

/** Removes the marks of assertions that have expired anyway, at most 1000. Returns how many were removed. */
export async function removeUsedAssertions(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ jti: string }>(
    `delete from used_assertions
      where (thumbprint, jti) in (
        select thumbprint, jti
          from used_assertions
         where expires_at < now()
         order by expires_at
         limit $1
      )
     returning jti`,
    [REMOVED_AT_ONCE],
  )
  return rows.length
}

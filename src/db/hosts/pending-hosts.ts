import type { Queryable, Transaction } from '../database.ts'
import { HOST_COLUMNS, type HostRow } from './hosts.ts'

/** The key of the advisory lock of requests for an approval, so that their number is exact: "appr" in ASCII. */
const APPROVAL_LOCK = 0x61707072

/** Counts the hosts that wait for an approval, and those of one address. Other requests wait until the transaction ends. */
export async function lockPendingHosts(
  tx: Transaction,
  address: string,
): Promise<{ all: number; ofAddress: number }> {
  await tx.query('select pg_advisory_xact_lock($1)', [APPROVAL_LOCK])
  const { rows } = await tx.query<{ all: number; ofAddress: number }>(
    `select count(*) as all, count(*) filter (where created_by = $1) as "ofAddress"
       from hosts
      where state = 'pending'
        and expires_at > now()`,
    [address],
  )
  return rows[0] ?? { all: 0, ofAddress: 0 }
}

/** Removes hosts of this name, or with this key, that nobody approved in time. */
export async function removeExpiredPendingHost(
  tx: Transaction,
  name: string,
  thumbprint: string,
): Promise<void> {
  await tx.query(
    `delete from hosts
      where (name = $1 or id = (select host_id from host_keys where thumbprint = $2))
        and state = 'pending'
        and expires_at <= now()`,
    [name, thumbprint],
  )
}

/**
 * Adds a host that waits for an approval for `seconds`. `address` is the one it called from. Returns undefined when another
 * host has the name.
 */
export async function addPendingHost(
  tx: Transaction,
  name: string,
  address: string,
  seconds: number,
): Promise<HostRow | undefined> {
  const { rows } = await tx.query<HostRow>(
    `insert into hosts (name, state, trust, repositories, created_by, expires_at)
     values ($1, 'pending', 'key', '{}', $2, now() + make_interval(secs => $3))
         on conflict (name) where state <> 'revoked' do nothing
     returning ${HOST_COLUMNS}`,
    [name, address, seconds],
  )
  return rows[0]
}

/** Activates a pending host with this grant. Returns undefined when its time is over. */
export async function approveHost(
  tx: Transaction,
  id: number,
  host: Pick<HostRow, 'repositories' | 'networks' | 'labels' | 'createdBy'> & {
    readonly ownerOrigin: string | null
  },
): Promise<HostRow | undefined> {
  const { rows } = await tx.query<HostRow>(
    `update hosts
        set state = 'active',
            repositories = $2,
            networks = $3,
            labels = $4,
            created_by = $5,
            owner_origin = $6,
            expires_at = null
      where id = $1
        and state = 'pending'
        and expires_at > now()
     returning ${HOST_COLUMNS}`,
    [id, host.repositories, host.networks, host.labels, host.createdBy, host.ownerOrigin],
  )
  return rows[0]
}

/** Removes a host of this name, or with this key, that waits for its approval. */
export async function removePendingHost(
  tx: Transaction,
  name: string,
  thumbprint?: string,
): Promise<void> {
  await tx.query(
    `delete from hosts
      where (name = $1 or id = (select host_id from host_keys where thumbprint = $2))
        and state = 'pending'`,
    [name, thumbprint],
  )
}

const REMOVED_AT_ONCE = 1000

/** Removes hosts that nobody approved in time, at most 1000. Returns how many were removed. */
export async function removeExpiredPendingHosts(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    `delete from hosts
      where id in (
        select id
          from hosts
         where state = 'pending'
           and expires_at < now()
         order by expires_at
         limit $1
      )
     returning id`,
    [REMOVED_AT_ONCE],
  )
  return rows.length
}

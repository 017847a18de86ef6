import type { Transaction } from '../database.ts'
import { RECORD_TARGETS, TARGET_IS_OPEN } from '../deployments/targets.ts'

/** Revokes a locked host with its keys and its secret. Its row stays, because runs name it. */
export async function revokeHost(tx: Transaction, id: number): Promise<void> {
  await tx.query(
    `with revoked as (
       update hosts
          set state = 'revoked',
              revoked_at = now(),
              expires_at = null
        where id = $1
       returning credential_id
     ), keys as (
       update host_keys
          set ends_at = now()
        where host_id = $1
     )
     update credentials
        set revoked_at = coalesce(revoked_at, now())
      where id = (select credential_id from revoked)`,
    [id],
  )
}

/** Removes the units of a host and ends their runs. */
export async function removeUnitsOfHost(tx: Transaction, id: number): Promise<void> {
  await tx.query(
    `with ended as (
       update runs
          set to_at = clock_timestamp()
        where host_id = $1
          and to_at is null
     ), locked as materialized (
       select name
         from units
        where host_id = $1
        order by name
          for update
     )
     delete from units
      where host_id = $1
        and name in (select name from locked)`,
    [id],
  )
}

/** Skips the open targets of a host, with their events, so that no deployment waits for it. Returns their deployments. */
export async function skipTargetsOfHost(tx: Transaction, id: number): Promise<string[]> {
  const { rows } = await tx.query<{ id: string }>(
    `with changed as (
       update targets o
          set state = 'skipped',
              reason = 'revoked',
              ended_at = clock_timestamp(),
              changed_at = clock_timestamp()
        where o.host_id = $1
          and ${TARGET_IS_OPEN}
       returning o.*
     ), ${RECORD_TARGETS}
     select distinct deployment_id as id
       from changed`,
    [id],
  )
  return rows.map((row) => row.id)
}

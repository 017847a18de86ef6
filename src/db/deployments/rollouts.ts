import type { Rollout } from '../../deployments/rollout.ts'
import type { Glob } from '../../oci/glob.ts'
import type { Queryable, Transaction } from '../database.ts'

/** A rollout, and the repositories and tags for which it is used. */
export type StoredRollout = {
  readonly name: string
  readonly repositories: readonly Glob[]
  readonly tags: readonly Glob[]
  readonly policy: Omit<Rollout, 'name'>
  readonly createdBy: string
  readonly updatedAt: Date
}

const COLUMNS =
  'name, repositories, tags, policy, created_by as "createdBy", updated_at as "updatedAt"'

/** Lists rollouts after the name `last`, in the order of names. */
export async function listRollouts(
  db: Queryable,
  last: string,
  limit: number,
): Promise<StoredRollout[]> {
  const { rows } = await db.query<StoredRollout>(
    `select ${COLUMNS}
       from rollouts
      where name > $1
      order by name
      limit $2`,
    [last, limit],
  )
  return rows
}

/** Finds a rollout by its name. */
export async function findRollout(db: Queryable, name: string): Promise<StoredRollout | undefined> {
  const { rows } = await db.query<StoredRollout>(
    `select ${COLUMNS}
       from rollouts
      where name = $1`,
    [name],
  )
  return rows[0]
}

/** Finds a rollout, and locks it until the transaction ends. */
export async function lockRollout(
  tx: Transaction,
  name: string,
): Promise<StoredRollout | undefined> {
  const { rows } = await tx.query<StoredRollout>(
    `select ${COLUMNS}
       from rollouts
      where name = $1
        for update`,
    [name],
  )
  return rows[0]
}

/** The number of rollouts. */
export async function countRollouts(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ count: number }>('select count(*) as count from rollouts')
  return rows[0]?.count ?? 0
}

/** Makes or replaces a rollout. Deployments that were made before keep the rollout that they had. */
export async function putRollout(
  db: Queryable,
  rollout: Omit<StoredRollout, 'updatedAt'>,
): Promise<StoredRollout & { readonly isNew: boolean }> {
  const { name, repositories, tags, policy, createdBy } = rollout
  const { rows } = await db.query<StoredRollout & { isNew: boolean }>(
    `insert into rollouts (name, repositories, tags, policy, created_by)
     values ($1, $2, $3, $4, $5)
         on conflict (name) do update
        set repositories = excluded.repositories,
            tags = excluded.tags,
            policy = excluded.policy,
            updated_at = now()
     returning ${COLUMNS}, xmax = 0 as "isNew"`,
    [name, repositories, tags, JSON.stringify(policy), createdBy],
  )
  const row = rows[0]
  if (row === undefined) throw new Error(`rollout ${name} was not stored`)
  return row
}

/** Removes a rollout. Returns false when there is none of this name. */
export async function removeRollout(db: Queryable, name: string): Promise<boolean> {
  const { rows } = await db.query<{ name: string }>(
    `delete from rollouts
      where name = $1
     returning name`,
    [name],
  )
  return rows.length > 0
}

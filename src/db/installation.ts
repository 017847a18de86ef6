import type { Queryable } from './database.ts'

/** The identity of a database, and whether a store has its mark. */
export type Installation = { readonly id: string; readonly hasMarkedStore: boolean }

/** Returns the UUID that this installation got at its first start. */
export async function findInstallationId(db: Queryable): Promise<string> {
  const { rows } = await db.query<{ id: string }>(
    `select id
       from installation`,
  )
  const row = rows[0]
  if (row === undefined) throw new Error('the database has no installation row')
  return row.id
}

/** Returns the identity of the database. */
export async function findInstallation(db: Queryable): Promise<Installation> {
  const { rows } = await db.query<Installation>(
    `select id, store_marked_at is not null as "hasMarkedStore"
       from installation`,
  )
  const row = rows[0]
  if (row === undefined) throw new Error('the database has no installation row')
  return row
}

/** Records that a store has the mark of this installation. */
export async function recordStoreMarked(db: Queryable): Promise<void> {
  await db.query(
    `update installation
        set store_marked_at = now()
      where store_marked_at is null`,
  )
}

/** Gives a restored database the id of the installation that it continues. */
export async function replaceInstallationId(db: Queryable, id: string): Promise<void> {
  await db.query('update installation set id = $1', [id])
}

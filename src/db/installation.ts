import type { Queryable } from './database.ts'

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

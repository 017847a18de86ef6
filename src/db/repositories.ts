import type { Repository } from '../oci/reference.ts'
import type { Queryable } from './database.ts'

export type Visibility = 'public' | 'private'

/** Who looks: with `publicOnly`, a private repository is as if it did not exist. */
export type View = {
  readonly repository: Repository
  readonly publicOnly: boolean
}

/** The repository's id; the first push makes the repository. */
export async function ensureRepository(
  db: Queryable,
  repository: Repository,
  visibility: Visibility,
): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    `with existing as (
       select id
         from repositories
        where name = $1
     ), created as (
       insert into repositories (name, visibility)
       select $1, $2
        where not exists (select 1 from existing)
           on conflict (name) do update set name = excluded.name
       returning id
     )
     select id from existing
     union all
     select id from created`,
    [repository, visibility],
  )
  const row = rows[0]
  if (row === undefined) throw new Error(`repository ${repository} was neither found nor made`)
  return row.id
}

/** Undefined when there is no such repository in this view. */
export async function findRepository(db: Queryable, view: View): Promise<number | undefined> {
  const { rows } = await db.query<{ id: number }>(
    `select id
       from repositories
      where name = $1
        and (visibility = 'public' or not $2)`,
    [view.repository, view.publicOnly],
  )
  return rows[0]?.id
}

/** Names after `last`, in the order of bytes. */
export async function listRepositories(
  db: Queryable,
  publicOnly: boolean,
  last: string,
  limit: number,
): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select name
       from repositories
      where name > $1
        and (visibility = 'public' or not $2)
      order by name
      limit $3`,
    [last, publicOnly, limit],
  )
  return rows.map(({ name }) => name)
}

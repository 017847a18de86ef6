import type { Repository } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import type { View } from '../registry/repositories.ts'

/** The repositories that a name of a job may mean. */
export type NamedRepositories = {
  /** The repository that had the last component of its name first, also when it exists no more. Null when none had. */
  readonly first: Repository | null
  /** The id that it had then. */
  readonly since: number | null
  /** The id of the repository with exactly this name; null when the view has none. */
  readonly exactId: number | null
}

/** Finds the repositories that the name of the view's repository may mean. */
export async function findNamedRepositories(
  db: Queryable,
  { repository, publicOnly }: View,
): Promise<NamedRepositories> {
  const { rows } = await db.query<NamedRepositories>(
    `select n.repository as first, n.since, r.id as "exactId"
       from (select $1::text as name) as k
       left join job_names n on n.name = k.name
       left join repositories r on r.name = k.name
             and (r.visibility = 'public' or not $2)`,
    [repository, publicOnly],
  )
  return rows[0] ?? { first: null, since: null, exactId: null }
}

import type { Repository } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import type { View } from '../registry/repositories.ts'

/** The repositories that a name of a job may mean. */
export type NamedRepositories = {
  /** The public repository that had the first build under this last component, also when it exists no more. */
  readonly first: Repository | null
  /** True when somebody was answered under the name before. */
  readonly followed: boolean | null
  /** True when the view has a repository with exactly this name, and its first build is older than the name. */
  readonly isExactOlder: boolean
}

/** Finds the repositories that the name of the view's repository may mean. */
export async function findNamedRepositories(
  db: Queryable,
  { repository, publicOnly }: View,
): Promise<NamedRepositories> {
  const { rows } = await db.query<NamedRepositories>(
    `select n.repository as first, n.followed,
            not $2 and coalesce((
              select min(b.position)
                from repositories r
                join builds b on b.repository_id = r.id
               where r.name = k.name
            ) < n.since, false) as "isExactOlder"
       from (select $1::text as name) as k
       left join job_names n on n.name = k.name`,
    [repository, publicOnly],
  )
  return rows[0] ?? { first: null, followed: null, isExactOlder: false }
}

/** Keeps a name for its repository from now on, also when the repository is deleted. */
export async function markFollowed(db: Queryable, name: string): Promise<void> {
  await db.query(
    `update job_names
        set followed = true
      where name = $1
        and not followed`,
    [name],
  )
}

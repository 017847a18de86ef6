import type { Repository } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'

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

/** Which of these anybody may pull. */
export async function listPublic(db: Queryable, names: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select name
       from repositories
      where name = any($1)
        and visibility = 'public'`,
    [names],
  )
  return rows.map(({ name }) => name)
}

/** Names after `last`, in the order of bytes: what is public, and what `visible` expressions match. */
export async function listRepositories(
  db: Queryable,
  visible: readonly string[],
  last: string,
  limit: number,
): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select name
       from repositories
      where name > $1
        and (visibility = 'public' or name ~ any($2))
      order by name
      limit $3`,
    [last, visible, limit],
  )
  return rows.map(({ name }) => name)
}

export type RepositorySettings = {
  readonly name: Repository
  readonly visibility: Visibility
  /** Patterns of tags that never move. */
  readonly immutableTags: readonly string[]
  /** Whether an image must come with what it was made from. */
  readonly provenance: 'optional' | 'required'
  readonly createdAt: Date
}

/** Undefined when there is none of that name. */
export async function findSettings(
  db: Queryable,
  repository: Repository,
): Promise<RepositorySettings | undefined> {
  const { rows } = await db.query<RepositorySettings>(
    `select name, visibility, immutable_tags as "immutableTags", provenance,
            created_at as "createdAt"
       from repositories
      where name = $1`,
    [repository],
  )
  return rows[0]
}

/** Those after `last`, in the order of names. */
export async function listSettings(
  db: Queryable,
  last: string,
  limit: number,
): Promise<RepositorySettings[]> {
  const { rows } = await db.query<RepositorySettings>(
    `select name, visibility, immutable_tags as "immutableTags", provenance,
            created_at as "createdAt"
       from repositories
      where name > $1
      order by name
      limit $2`,
    [last, limit],
  )
  return rows
}

/** Changes what is given; a repository that is not there yet is made. */
export async function putSettings(
  tx: Transaction,
  repository: Repository,
  change: Partial<Pick<RepositorySettings, 'visibility' | 'immutableTags' | 'provenance'>>,
  visibilityDefault: Visibility,
): Promise<RepositorySettings> {
  const { rows } = await tx.query<RepositorySettings>(
    `insert into repositories (name, visibility, immutable_tags, provenance)
     values ($1, coalesce($2, $4), coalesce($3, '{}'::text[]), coalesce($5, 'optional'))
         on conflict (name) do update
        set visibility = coalesce($2, repositories.visibility),
            immutable_tags = coalesce($3, repositories.immutable_tags),
            provenance = coalesce($5, repositories.provenance)
     returning name, visibility, immutable_tags as "immutableTags", provenance,
            created_at as "createdAt"`,
    [
      repository,
      change.visibility ?? null,
      change.immutableTags ?? null,
      visibilityDefault,
      change.provenance ?? null,
    ],
  )
  const row = rows[0]
  if (row === undefined) throw new Error(`repository ${repository} was neither found nor made`)
  return row
}

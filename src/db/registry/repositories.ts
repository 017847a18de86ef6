import type { Repository } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'
import {
  RANGE_COLUMNS,
  REPOSITORY_IN_BOUNDS,
  REPOSITORY_SELECTED,
  type VisibleNames,
} from '../name-patterns.ts'

export type Visibility = 'public' | 'private'

/** A repository as a reader sees it: with `publicOnly`, a private repository does not exist. */
export type View = {
  readonly repository: Repository
  readonly publicOnly: boolean
}

/** Returns a text that is the same for the same view. */
export function viewKey({ repository, publicOnly }: View): string {
  return `${publicOnly ? 'public' : 'any'} ${repository}`
}

/**
 * `repository` has the id of the repository `$1`. It is created with the visibility `$2` when it does
 * not exist. Common table expressions, for statements that need the id of a push's repository. The lock lasts until the
 * transaction ends: the repository is deleted before or after the push, never during it.
 */
export const ENSURE_REPOSITORY = `
     existing as (
       select id
         from repositories
        where name = $1
          for key share
     ), created as (
       insert into repositories (name, visibility)
       select $1, $2
        where not exists (select 1 from existing)
           on conflict (name) do update set name = excluded.name
       returning id
     ), repository as (
       select id from existing
       union all
       select id from created
     )`

/** Joins the repository `r` of each question `k`; `limit 1` keeps the lookup an index probe. */
export const JOIN_VISIBLE_REPOSITORY = `
       left join lateral (
         select id
           from repositories
          where name = k.name
            and (visibility = 'public' or not k.public_only)
          limit 1
       ) r on true`

/**
 * The repositories `r` of events: a deleted one has the name and visibility that it had, so that its events are for those
 * who could see it.
 */
export const REPOSITORIES_OF_EVENTS = `(
         select id, coalesce(deleted_name, name) as name,
                coalesce(deleted_visibility, visibility) as visibility
           from repositories
       ) r`

/** Returns the repository's id, locked against its deletion. The first push creates the repository. */
export async function ensureRepository(
  db: Queryable,
  repository: Repository,
  visibility: Visibility,
): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    `with ${ENSURE_REPOSITORY}
     select id
       from repository`,
    [repository, visibility],
  )
  const row = rows[0]
  if (row === undefined) throw new Error(`repository ${repository} was neither found nor created`)
  return row.id
}

/** Returns undefined when the view has no such repository. */
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

/**
 * Returns the id of a repository, and locks it against its deletion until the transaction ends. Undefined when it does not
 * exist.
 */
export async function holdRepository(
  tx: Transaction,
  repository: Repository,
): Promise<number | undefined> {
  const { rows } = await tx.query<{ id: number }>(
    `select id
       from repositories
      where name = $1
        for key share`,
    [repository],
  )
  return rows[0]?.id
}

/** Lists the public repositories among `names`. */
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

// A push that was refused, or the deletion of the last manifest, leaves an empty repository. `offset 0` makes each check a
// probe of an index: Postgres would otherwise read all manifests into a hash table first.
const HAS_CONTENT = `(r.configured
                  or exists (select 1 from manifests m where m.repository_id = r.id offset 0))`

/**
 * Lists names after `last`, in byte order: public repositories, and those in `visible`. A repository is listed while it
 * has a manifest or settings of its own.
 */
export async function listRepositories(
  db: Queryable,
  visible: VisibleNames,
  last: string,
  limit: number,
): Promise<Repository[]> {
  const { rows } = await db.query<{ name: Repository }>(
    // A page of each range, from the index of names: private repositories of others are never read. `offset 0` keeps
    // the order of the index, which Postgres would otherwise replace by a sort of the whole range.
    `select name
       from (
         (select r.name
            from (
              select r.id, r.name, r.configured
                from repositories r
               where r.name > $1
                 and r.visibility = 'public'
               order by r.name
              offset 0
            ) r
           where ${HAS_CONTENT}
           limit $3)
         union
         select own.name
           from json_to_recordset($2::json) as g (${RANGE_COLUMNS})
          cross join lateral (
            select r.name
              from (
                select r.id, r.name, r.configured
                  from repositories r
                 where r.name > $1
                   and ${REPOSITORY_IN_BOUNDS}
                 order by r.name
                offset 0
              ) r
             where ${REPOSITORY_SELECTED}
               and ${HAS_CONTENT}
             limit $3
          ) own
       ) listed
      order by name
      limit $3`,
    [last, visible, limit],
  )
  return rows.map(({ name }) => name)
}

export type RepositorySettings = {
  readonly name: Repository
  readonly visibility: Visibility
  /** Patterns of immutable tags. */
  readonly immutableTags: readonly string[]
  /** `required`: an image must come with its build inputs. */
  readonly provenance: 'optional' | 'required'
  readonly createdAt: Date
}

const SETTINGS_COLUMNS = `name, visibility, immutable_tags as "immutableTags", provenance,
            created_at as "createdAt"`

/** Returns undefined when the repository does not exist. */
export async function findSettings(
  db: Queryable,
  repository: Repository,
): Promise<RepositorySettings | undefined> {
  const { rows } = await db.query<RepositorySettings>(
    `select ${SETTINGS_COLUMNS}
       from repositories
      where name = $1`,
    [repository],
  )
  return rows[0]
}

/** Lists the settings of repositories after `last`, in the order of names. */
export async function listSettings(
  db: Queryable,
  last: string,
  limit: number,
): Promise<RepositorySettings[]> {
  const { rows } = await db.query<RepositorySettings>(
    `select ${SETTINGS_COLUMNS}
       from repositories
      where name > $1
        and deleted_at is null
      order by name
      limit $2`,
    [last, limit],
  )
  return rows
}

/** Changes the given settings; creates the repository when it does not exist. */
export async function putSettings(
  tx: Transaction,
  repository: Repository,
  change: Partial<Pick<RepositorySettings, 'visibility' | 'immutableTags' | 'provenance'>>,
  visibilityDefault: Visibility,
): Promise<RepositorySettings> {
  const { rows } = await tx.query<RepositorySettings>(
    `insert into repositories (name, visibility, immutable_tags, provenance, permanent, configured)
     values ($1, coalesce($2, $4), coalesce($3, '{}'::text[]), coalesce($5, 'optional'), true, true)
         on conflict (name) do update
        set permanent = true,
            configured = true,
            visibility = coalesce($2, repositories.visibility),
            immutable_tags = coalesce($3, repositories.immutable_tags),
            provenance = coalesce($5, repositories.provenance)
     returning ${SETTINGS_COLUMNS}`,
    [
      repository,
      change.visibility ?? null,
      change.immutableTags ?? null,
      visibilityDefault,
      change.provenance ?? null,
    ],
  )
  const row = rows[0]
  if (row === undefined) throw new Error(`repository ${repository} was neither found nor created`)
  return row
}

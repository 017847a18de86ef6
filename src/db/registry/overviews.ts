import type { UnitState } from '../../deployments/states.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import type { BlobRow } from './blobs.ts'
import type { View, Visibility } from './repositories.ts'

/** Units of hosts that follow a tag and are in the same state. */
export type FollowerRow = {
  readonly tag: Tag
  readonly state: UnitState
  /** The digest of the kernel that runs; null: none. */
  readonly kernel: Digest | null
  readonly count: number
}

/** A repository, as its page shows it. */
export type RepositoryOverview = {
  readonly id: number
  readonly name: Repository
  readonly visibility: Visibility
  /** The README of the newest image that has one, and the digest of that image. */
  readonly readme: (BlobRow & { readonly image: Digest }) | null
  readonly followers: readonly FollowerRow[]
}

/** Units that are counted: a repository that more follow shows the counts of these. */
export const FOLLOWERS_COUNTED_MAX = 10_000
const FOLLOWER_GROUPS_MAX = 200
/** Images that are searched for a README. */
const README_IMAGES_MAX = 20

/** The units that follow a tag of repository `r`, counted by tag, state and kernel. */
const FOLLOWERS_OF_REPOSITORY = `coalesce((
              select json_agg(g)
                from (
                  select u.tag, u.state, u.kernel, count(*) as count
                    from (
                      select tag, state, kernel
                        from units
                       where repository = r.name
                       limit ${FOLLOWERS_COUNTED_MAX}
                    ) u
                   group by u.tag, u.state, u.kernel
                   order by u.tag, count(*) desc
                   limit ${FOLLOWER_GROUPS_MAX}
                ) g
            ), '[]')`

/** The same for the tag $3. */
const FOLLOWERS_OF_TAG = FOLLOWERS_OF_REPOSITORY.replace(
  'where repository = r.name',
  'where repository = r.name and tag = $3',
)

/** Describes a repository in one round trip. Undefined: the view has no such repository. */
export async function findRepositoryOverview(
  db: Queryable,
  view: View,
): Promise<RepositoryOverview | undefined> {
  const { rows } = await db.query<RepositoryOverview>(
    `select r.id, r.name, r.visibility, ${FOLLOWERS_OF_REPOSITORY} as followers,
            (
              select json_build_object('image', m.digest, 'digest', b.digest, 'size', b.size,
                       'storageKey', b.storage_key)
                from (
                  select manifest_id
                    from images
                   where repository_id = r.id
                   order by manifest_id desc
                   limit ${README_IMAGES_MAX}
                ) i
                join image_layers l on l.manifest_id = i.manifest_id and l.role = 'readme'
                join blobs b on b.id = l.blob_id and b.lost_at is null
                join manifests m on m.id = i.manifest_id
               order by i.manifest_id desc
               limit 1
            ) as readme
       from repositories r
      where r.name = $1
        and (r.visibility = 'public' or not $2)`,
    [view.repository, view.publicOnly],
  )
  return rows[0]
}

/** Counts the units that follow a tag, by their state and kernel. */
export async function listFollowers(db: Queryable, view: View, tag: Tag): Promise<FollowerRow[]> {
  const { rows } = await db.query<{ followers: FollowerRow[] }>(
    `select ${FOLLOWERS_OF_TAG} as followers
       from repositories r
      where r.name = $1
        and (r.visibility = 'public' or not $2)`,
    [view.repository, view.publicOnly, tag],
  )
  return rows[0]?.followers ?? []
}

/** A tag in a list, with the unikernel that it points to. */
export type TagRow = {
  readonly tag: Tag
  readonly digest: Digest
  readonly movedAt: string
  /** Null for a manifest that is no unikernel itself, such as an index. */
  readonly target: string | null
  readonly kernel: Digest | null
}

/**
 * Lists tags after `last`, in byte order. Undefined: the view has no such repository. The images are looked up for the tags of
 * the page alone, each by a range of one digest, because Postgres would otherwise read all manifests of the repository.
 */
export async function listTagRows(
  db: Queryable,
  view: View,
  last: string,
  limit: number,
): Promise<TagRow[] | undefined> {
  const { rows } = await db.query<{ tags: TagRow[] }>(
    `select (
       select coalesce(json_agg(page order by page.tag), '[]')
         from (
           select t.name as tag, t.digest, t.moved_at as "movedAt", i.target,
                  i.kernel_digest as kernel
             from (
               select name, digest, moved_at
                 from tags
                where repository_id = r.id
                  and name > $3
                order by name
                limit $4
             ) t
             left join lateral (
               select i.target, i.kernel_digest
                 from (
                   select id
                     from manifests
                    where repository_id = r.id
                      and digest >= t.digest
                      and digest <= t.digest
                    order by digest
                    limit 1
                 ) m
                 join images i on i.manifest_id = m.id
             ) i on true
         ) page
     ) as tags
       from repositories r
      where r.name = $1
        and (r.visibility = 'public' or not $2)`,
    [view.repository, view.publicOnly, last, limit],
  )
  return rows[0]?.tags
}

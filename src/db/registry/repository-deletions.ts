import type { Glob } from '../../oci/glob.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'
import { nameRanges, RANGE_COLUMNS, TAG_IN_RANGE } from '../name-patterns.ts'

/** A repository that is locked for its deletion. */
export type LockedRepository = { readonly id: number; readonly immutableTags: readonly Glob[] }

/**
 * Locks a repository against every push, rollback and change of its settings. Pushes in progress commit first: each has
 * locked the repository in its first statement. Returns undefined when it does not exist.
 */
export async function lockRepository(
  tx: Transaction,
  repository: Repository,
): Promise<LockedRepository | undefined> {
  const { rows } = await tx.query<LockedRepository>(
    `select id, immutable_tags as "immutableTags"
       from repositories
      where name = $1
        for update`,
    [repository],
  )
  return rows[0]
}

/** Lists tags in the ranges of the patterns, at most `limit`: all that match the patterns, and perhaps others. */
export async function listTagsInRanges(
  tx: Transaction,
  repositoryId: number,
  patterns: readonly Glob[],
  limit: number,
): Promise<Tag[]> {
  const { rows } = await tx.query<{ name: Tag }>(
    `select t.name
       from tags t
      where t.repository_id = $1
        and exists (
          select 1
            from json_to_recordset($2::json) as g (${RANGE_COLUMNS})
           where ${TAG_IN_RANGE})
      order by t.name
      limit $3`,
    [repositoryId, nameRanges(patterns), limit],
  )
  return rows.map(({ name }) => name)
}

/**
 * Makes a locked repository unreachable: from the commit on, its name is free, and no lookup and no list finds its
 * content, which `removeContent` removes later. Its unused upload URLs end. A name of its job that nobody followed is free.
 */
export async function hideRepository(tx: Transaction, id: number): Promise<void> {
  await tx.query(
    `with hidden as (
       update repositories
          set name = '~' || id,
              visibility = 'private',
              deleted_at = now(),
              deleted_name = name,
              deleted_visibility = visibility
        where id = $1
       returning deleted_name
     ), freed as (
       delete from job_names n
        using hidden
        where n.repository = hidden.deleted_name
          and n.name = substring(hidden.deleted_name from '[^/]*$')
          and not n.followed
     )
     delete from upload_urls u
      using hidden
      where u.repository = hidden.deleted_name
        and u.used_at is null`,
    [id],
  )
}

/** Locks up to `limit` deleted repositories with content, the one first that waited longest. Skips locked ones. */
export async function lockUnemptied(tx: Transaction, limit: number): Promise<number[]> {
  const { rows } = await tx.query<{ id: number }>(
    `select id
       from repositories
      where deleted_at is not null
        and not emptied
      order by deleted_at, id
      limit $1
        for update skip locked`,
    [limit],
  )
  return rows.map(({ id }) => id)
}

/**
 * Removes up to `limit` rows of a deleted repository: its tags, then its manifests, its deployments, its blobs, histories
 * and uploads. The bytes of blobs stay for other repositories, or until their grace period ends. Returns how many rows it
 * removed; 0 when only uploads in progress are left, or nothing.
 */
export async function removeContent(tx: Transaction, id: number, limit: number): Promise<number> {
  const tags = await removeTags(tx, id, limit)
  // A tag names its manifest.
  if (tags > 0) return tags
  const manifests = await removeManifests(tx, id, limit)
  if (manifests > 0) return manifests
  const deployments = await removeDeployments(tx, id, limit)
  if (deployments > 0) return deployments
  await expireUploads(tx, id)
  return (await removeHolds(tx, id, limit)) + (await removeHistory(tx, id, limit))
}

async function removeTags(tx: Transaction, id: number, limit: number): Promise<number> {
  const { rows } = await tx.query<{ name: Tag }>(
    `delete from tags
      where repository_id = $1
        and name in (
          select name
            from tags
           where repository_id = $1
           order by name
           limit $2
        )
     returning name`,
    [id, limit],
  )
  return rows.length
}

/** Removes manifests, and restarts the grace period of their blobs, which a sweep must check again. */
async function removeManifests(tx: Transaction, id: number, limit: number): Promise<number> {
  const { rows: manifests } = await tx.query<{ id: number }>(
    `select id
       from manifests
      where repository_id = $1
      order by id
      limit $2
        for update`,
    [id, limit],
  )
  if (manifests.length === 0) return 0
  const ids = manifests.map((manifest) => manifest.id)
  // In the order of ids and in a statement of its own, as every other lock of several blobs.
  const { rows: blobs } = await tx.query<{ id: number }>(
    `select b.id
       from blobs b
      where b.id in (
        select blob_id
          from manifest_blobs
         where manifest_id = any($1::bigint[])
        union all
        select mb.blob_id
          from manifests u
          join manifest_blobs mb on mb.manifest_id = u.id
         where u.unwrapped_from = any($1::bigint[])
      )
      order by b.id
        for no key update`,
    [ids],
  )
  await tx.query(
    `with touched as (
       update blobs
          set touched_at = now(),
              unchecked = true
        where id = any($1::bigint[])
     )
     delete from manifests
      where id = any($2::bigint[])`,
    [blobs.map((blob) => blob.id), ids],
  )
  return ids.length
}

/** Expires the uploads in progress: a sweep removes each when it has no writer. */
async function expireUploads(tx: Transaction, id: number): Promise<void> {
  await tx.query(
    `update uploads
        set expires_at = now()
      where id in (
        select id
          from uploads
         where repository_id = $1
           and expires_at > now()
           for update skip locked
      )`,
    [id],
  )
}

/** Removes targets of deployments, and then the deployments. */
async function removeDeployments(tx: Transaction, id: number, limit: number): Promise<number> {
  const { rows: targets } = await tx.query<{ unit: string }>(
    `delete from targets t
      using (
        select t.deployment_id, t.host_id, t.unit
          from targets t
          join deployments d on d.id = t.deployment_id
         where d.repository_id = $1
         limit $2
      ) old
      where t.deployment_id = old.deployment_id
        and t.host_id = old.host_id
        and t.unit = old.unit
     returning t.unit`,
    [id, limit],
  )
  if (targets.length > 0) return targets.length
  const { rows } = await tx.query<{ id: string }>(
    `delete from deployments
      where id in (
        select id
          from deployments
         where repository_id = $1
         limit $2
      )
     returning id`,
    [id, limit],
  )
  return rows.length
}

async function removeHolds(tx: Transaction, id: number, limit: number): Promise<number> {
  const { rows } = await tx.query<{ id: number }>(
    `delete from repository_blobs
      where repository_id = $1
        and blob_id in (
          select blob_id
            from repository_blobs
           where repository_id = $1
           order by blob_id
           limit $2
        )
     returning blob_id as id`,
    [id, limit],
  )
  return rows.length
}

async function removeHistory(tx: Transaction, id: number, limit: number): Promise<number> {
  const { rows } = await tx.query<{ id: number }>(
    `delete from tag_history
      where id in (
        select id
          from tag_history
         where repository_id = $1
         limit $2
      )
     returning id`,
    [id, limit],
  )
  return rows.length
}

/** Marks a deleted repository that has no content and no upload in progress. Returns false when it has some. */
export async function markEmptied(tx: Transaction, id: number): Promise<boolean> {
  const { rows } = await tx.query<{ id: number }>(
    `update repositories
        set emptied = true
      where id = $1
        and not exists (select 1 from uploads where repository_id = $1)
        and not exists (select 1 from repository_blobs where repository_id = $1)
        and not exists (select 1 from manifests where repository_id = $1)
        and not exists (select 1 from deployments where repository_id = $1)
     returning id`,
    [id],
  )
  return rows.length > 0
}

/** Removes the rows of up to `limit` deleted repositories of which the feed has no event any more. */
export async function removeEmptied(db: Queryable, limit: number): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    `delete from repositories
      where id in (
        select r.id
          from repositories r
         where r.deleted_at is not null
           and r.emptied
           and not exists (select 1 from events e where e.repository_id = r.id)
           and not exists (select 1 from event_outbox o where o.repository_id = r.id)
         order by r.deleted_at, r.id
         limit $1
           for update skip locked
      )
     returning id`,
    [limit],
  )
  return rows.length
}

import type { Digest } from '../oci/digest.ts'
import type { Tag } from '../oci/reference.ts'
import type { Queryable, Transaction } from './database.ts'

/**
 * Lets nobody else move these tags until the transaction ends, also tags that do not exist yet; so
 * what is read next is what the move replaces.
 */
export async function lockTags(
  tx: Transaction,
  repositoryId: number,
  tags: readonly Tag[],
): Promise<void> {
  await tx.query(
    `select pg_advisory_xact_lock(hashtextextended(wanted.name, $1))
       from (
         select name
           from unnest($2::text[]) as t (name)
          order by name
       ) wanted`,
    [repositoryId, tags],
  )
}

/** The digests that these tags have now; a tag that does not exist is absent. */
export async function findTags(
  tx: Queryable,
  repositoryId: number,
  tags: readonly Tag[],
): Promise<Map<Tag, Digest>> {
  const { rows } = await tx.query<{ name: Tag; digest: Digest }>(
    `select name, digest
       from tags
      where repository_id = $1
        and name = any($2)`,
    [repositoryId, tags],
  )
  return new Map(rows.map(({ name, digest }) => [name, digest]))
}

/**
 * Moves locked tags to `digest` and writes their new positions into the history. A tag that is
 * there already does not move, and gets no new position.
 */
export async function moveTags(
  tx: Transaction,
  repositoryId: number,
  tags: readonly Tag[],
  digest: Digest,
  actor: string,
): Promise<void> {
  await tx.query(
    `with wanted as (
       select w.name, t.digest as previous
         from unnest($2::text[]) as w (name)
         left join tags t on t.repository_id = $1 and t.name = w.name
        where t.digest is distinct from $3
     ), moved as (
       insert into tags (repository_id, name, digest)
       select $1, name, $3
         from wanted
           on conflict (repository_id, name) do update
          set digest = excluded.digest,
              moved_at = now()
     )
     insert into tag_history (repository_id, tag, digest, previous_digest, actor, reason)
     select $1, name, $3, previous, $4, 'push'
       from wanted`,
    [repositoryId, tags, digest, actor],
  )
}

/** The tags of a manifest; the caller holds the manifest's lock, so no tag can join them. */
export async function findTagsOf(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
): Promise<Tag[]> {
  const { rows } = await tx.query<{ name: Tag }>(
    `select name
       from tags
      where repository_id = $1
        and digest = $2`,
    [repositoryId, digest],
  )
  return rows.map(({ name }) => name)
}

/** Removes locked tags that stand at `digest`, and writes that into their history. */
export async function removeTags(
  tx: Transaction,
  repositoryId: number,
  tags: readonly Tag[],
  digest: Digest,
  actor: string,
): Promise<void> {
  await tx.query(
    `with gone as (
       delete from tags
        where repository_id = $1
          and name = any($2)
          and digest = $3
       returning name
     )
     insert into tag_history (repository_id, tag, previous_digest, actor, reason)
     select $1, name, $3, $4, 'delete'
       from gone`,
    [repositoryId, tags, digest, actor],
  )
}

/** Tags after `last`, in the order of bytes. */
export async function listTags(
  db: Queryable,
  repositoryId: number,
  last: string,
  limit: number,
): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select name
       from tags
      where repository_id = $1
        and name > $2
      order by name
      limit $3`,
    [repositoryId, last, limit],
  )
  return rows.map(({ name }) => name)
}

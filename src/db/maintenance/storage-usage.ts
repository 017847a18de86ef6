import type { Queryable } from '../database.ts'

/** Blobs of one page: their number and bytes, and the id of the last one. */
export type BlobsPage = {
  readonly blobs: number
  readonly bytes: number
  /** Blobs whose bytes the store lost. */
  readonly lost: number
  /** Null: there are no further blobs. */
  readonly last: number | null
}

/** The blobs of a repository on one page, which may have more on the next. */
export type RepositoryPage = {
  readonly repositoryId: number
  readonly bytes: number
  readonly lastBlob: number
}

/** A constant in the statements: Postgres then plans for so few rows. */
const ROWS_A_PAGE = 1_000

/** Sums the blobs of the page after the id `after`. */
export async function sumBlobs(db: Queryable, after: number): Promise<BlobsPage> {
  const { rows } = await db.query<BlobsPage>(
    `select count(*) as blobs, coalesce(sum(size), 0)::bigint as bytes,
            count(*) filter (where lost_at is not null) as lost, max(id) as last
       from (
         select id, size, lost_at
           from blobs
          where id > $1
          order by id
          limit ${ROWS_A_PAGE}
       ) page`,
    [after],
  )
  return rows[0] ?? { blobs: 0, bytes: 0, lost: 0, last: null }
}

/** Sums the blobs of repositories on the page after a blob of a repository, in the order of repositories. */
export async function sumRepositories(
  db: Queryable,
  repositoryId: number,
  blobId: number,
): Promise<RepositoryPage[]> {
  const { rows } = await db.query<RepositoryPage>(
    `with page as materialized (
       select repository_id, blob_id
         from repository_blobs
        where (repository_id, blob_id) > ($1::bigint, $2::bigint)
        order by repository_id, blob_id
        limit ${ROWS_A_PAGE}
     )
     select p.repository_id as "repositoryId", sum(b.size)::bigint as bytes, max(p.blob_id) as "lastBlob"
       from page p
      -- A row by its index, and not all blobs, whatever Postgres knows of their number.
      cross join lateral (
            select size
              from blobs
             where id = p.blob_id
             limit 1
            ) b
      group by p.repository_id
      order by p.repository_id`,
    [repositoryId, blobId],
  )
  return rows
}

/** Returns the names of repositories by id. Deleted ones are missing. */
export async function listNames(
  db: Queryable,
  ids: readonly number[],
): Promise<{ readonly id: number; readonly name: string }[]> {
  const { rows } = await db.query<{ id: number; name: string }>(
    `select id, name
       from repositories
      where id = any($1::bigint[])
        and deleted_at is null`,
    [ids],
  )
  return rows
}

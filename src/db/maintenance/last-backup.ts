import type { Queryable } from '../database.ts'

/** The record of a complete backup. */
export type BackupRecord = {
  /** The name of the backup in its folder: the time of its snapshot in UTC. */
  readonly name: string
  readonly folder: string
  readonly rows: number
  readonly blobs: number
  /** Bytes of all blobs. */
  readonly bytes: number
}

/** The newest complete backup. Times are those of the database's clock. */
export type LastBackup = BackupRecord & {
  /** When its snapshot of the database was taken: later changes are not in it. */
  readonly takenAt: Date
  readonly finishedAt: Date
  /** Seconds since `takenAt`; 0 when the clock was set back since. */
  readonly ageSeconds: number
}

/** Returns the newest complete backup; undefined when this installation has none. */
export async function findLastBackup(db: Queryable): Promise<LastBackup | undefined> {
  const { rows } = await db.query<LastBackup>(
    `select name, folder, row_count as rows, blob_count as blobs, bytes,
            taken_at as "takenAt", finished_at as "finishedAt",
            greatest(0, extract(epoch from now() - taken_at))::float8 as "ageSeconds"
       from last_backup`,
  )
  return rows[0]
}

/** Records a complete backup, whose snapshot is `seconds` old, in place of the last one. */
export async function recordBackup(
  db: Queryable,
  { name, folder, rows, blobs, bytes }: BackupRecord,
  seconds: number,
): Promise<void> {
  await db.query(
    `insert into last_backup (name, folder, row_count, blob_count, bytes, taken_at)
     values ($1, $2, $3, $4, $5, now() - make_interval(secs => $6))
         on conflict (single) do update
        set name = excluded.name,
            folder = excluded.folder,
            row_count = excluded.row_count,
            blob_count = excluded.blob_count,
            bytes = excluded.bytes,
            taken_at = excluded.taken_at,
            finished_at = excluded.finished_at`,
    [name, folder, rows, blobs, bytes, seconds],
  )
}

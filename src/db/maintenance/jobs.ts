import type { Database, Queryable } from '../database.ts'

/** Another process does this job already. */
export class AlreadyRunningError extends Error {
  override readonly name = 'AlreadyRunningError'
}

// "main" in ASCII; the second key is the hash of the job's name.
const LOCK_CLASS = 0x6d61696e

/** The lock of a job that must run only once at a time; the job checks it between its steps. */
export type JobLock = {
  /** Throws AlreadyRunningError when the lock was lost with its connection. */
  assertHeld(): void
}

/**
 * Runs a job on the whole store, in only one process at a time. A process that dies releases the lock
 * with its connection. Throws AlreadyRunningError.
 */
export async function runExclusively<T>(
  db: Database,
  name: string,
  work: (lock: JobLock) => Promise<T>,
): Promise<T> {
  const client = await db.session()
  let lost = false
  client.once('end', () => {
    lost = true
  })
  const lock: JobLock = {
    assertHeld() {
      if (lost)
        throw new AlreadyRunningError(
          `${name} lost its lock because the database connection broke; run it again`,
        )
    },
  }
  try {
    const key = [LOCK_CLASS, name]
    const { rows } = await client.query<{ locked: boolean }>(
      'select pg_try_advisory_lock($1, hashtext($2)) as locked',
      key,
    )
    if (rows[0]?.locked !== true)
      throw new AlreadyRunningError(`another process is running ${name}`)
    try {
      return await work(lock)
    } finally {
      // Postgres sees the end of a connection a moment later, and the next command may already be there. A broken connection
      // has no lock any more.
      if (!lost) {
        await client
          .query('select pg_advisory_unlock($1, hashtext($2))', key)
          .catch(() => undefined)
      }
    }
  } finally {
    client.release(true)
  }
}

/** Returns the saved progress of a job; undefined when the job has not begun. */
export async function findProgress(
  db: Queryable,
  name: string,
): Promise<{ progress: unknown; startedAt: Date } | undefined> {
  const { rows } = await db.query<{ progress: unknown; startedAt: Date }>(
    `select progress, started_at as "startedAt"
       from maintenance
      where name = $1`,
    [name],
  )
  return rows[0]
}

/** Saves the progress of a job. */
export async function saveProgress(db: Queryable, name: string, progress: unknown): Promise<void> {
  await db.query(
    `insert into maintenance (name, progress)
     values ($1, $2)
         on conflict (name) do update
        set progress = excluded.progress,
            updated_at = now()`,
    [name, JSON.stringify(progress)],
  )
}

/**
 * Claims a job for `seconds`, without a lock: a process that dies lets another have it then. Returns false when another
 * process claimed it, or saved its progress, a shorter time ago.
 */
export async function claimJob(db: Queryable, name: string, seconds: number): Promise<boolean> {
  const { rows } = await db.query(
    `insert into maintenance as m (name, progress)
     values ($1, 'null')
         on conflict (name) do update
        set updated_at = now()
      where m.updated_at not between now() - make_interval(secs => $2) and now()
     returning name`,
    [name, seconds],
  )
  return rows.length > 0
}

/** Clears the progress of a job that is done or starts over. */
export async function clearProgress(db: Queryable, name: string): Promise<void> {
  await db.query(
    `delete from maintenance
      where name = $1`,
    [name],
  )
}

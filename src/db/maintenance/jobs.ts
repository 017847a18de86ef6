import type { Database, Queryable } from '../database.ts'

/** Somebody else does this work already. */
export class AlreadyRunningError extends Error {
  override readonly name = 'AlreadyRunningError'
}

// "main" in ASCII; the second key is the work's own.
const LOCK_CLASS = 0x6d61696e

/** Asked again and again by work that must not be done twice at once. */
export type JobLock = {
  /** Throws AlreadyRunningError when the lock was lost with its connection. */
  assertHeld(): void
}

/**
 * Runs work on the whole store as its only worker, among all processes. A worker that dies lets go
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
        throw new AlreadyRunningError(`the connection that locks this broke; run it again: ${name}`)
    },
  }
  try {
    const { rows } = await client.query<{ locked: boolean }>(
      'select pg_try_advisory_lock($1, hashtext($2)) as locked',
      [LOCK_CLASS, name],
    )
    if (rows[0]?.locked !== true) throw new AlreadyRunningError(`another process is at it: ${name}`)
    return await work(lock)
  } finally {
    client.release(true)
  }
}

/** How far the work came, as it was saved last; undefined when it was not begun. */
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

/** Saves how far the work came. */
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

/** The work is done, or begins anew. */
export async function clearProgress(db: Queryable, name: string): Promise<void> {
  await db.query(
    `delete from maintenance
      where name = $1`,
    [name],
  )
}

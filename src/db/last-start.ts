import type { Queryable } from './database.ts'

/** The address and settings that the last server to start left for commands. */
export type LastStart = {
  /** The URL on which it listens. */
  readonly url: string
  /** Values of its settings, by name. A missing one has its default. */
  readonly settings: Readonly<Record<string, string>>
}

/** Returns what the last start left; undefined when no server has started on this database. */
export async function findLastStart(db: Queryable): Promise<LastStart | undefined> {
  const { rows } = await db.query<LastStart>(
    `select url, settings
       from last_start`,
  )
  return rows[0]
}

/** Leaves the address and the settings of this server in place of those of the last start. */
export async function recordStart(db: Queryable, { url, settings }: LastStart): Promise<void> {
  await db.query(
    `insert into last_start (url, settings)
     values ($1, $2)
         on conflict (single) do update
        set url = excluded.url,
            settings = excluded.settings,
            started_at = now()`,
    [url, JSON.stringify(settings)],
  )
}

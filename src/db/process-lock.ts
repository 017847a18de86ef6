import { randomInt } from 'node:crypto'
import type pg from 'pg'

/** The first key of the advisory locks of processes: "writ" in ASCII. The second key names the process. */
export const PROCESS_LOCK_CLASS = 0x77726974
const KEY_MAX = 2 ** 31

/**
 * An advisory lock that this process holds on a connection of its own. It ends with the connection, so other processes
 * see at once that this one is gone, also when it was killed.
 */
export class ProcessLock {
  #key: number | null = null

  /** The key under which others find the lock; null while there is no connection that holds it. */
  get key(): number | null {
    return this.#key
  }

  /** Takes a lock on the connection. Its key is new, because the server may still hold the lock of a broken connection. */
  async take(client: pg.PoolClient): Promise<void> {
    const key = randomInt(-KEY_MAX, KEY_MAX)
    const { rows } = await client.query<{ locked: boolean }>(
      'select pg_try_advisory_lock($1, $2) as locked',
      [PROCESS_LOCK_CLASS, key],
    )
    this.#key = rows[0]?.locked === true ? key : null
  }

  /** Called when the connection ends. */
  lose(): void {
    this.#key = null
  }
}

import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { Loop } from '../async/loop.ts'
import type { Content } from './content-writes.ts'
import type { Database } from './database.ts'

/** The key in schema/0032-remembered-answers.sql. */
const LOCK_KEYS = [1919905643, 1818583411] as const

/** Fewer lookups a second cost less than the lease. */
const LOOKUPS_A_SECOND_MIN = 50
/** With fewer lookups for so long, the lease is given back. */
const IDLE_MILLISECONDS = 10_000
/** Others who change content wait at most about this long. */
const CHECK_MILLISECONDS = 100
const LOOKUPS_A_CHECK_MIN = (LOOKUPS_A_SECOND_MIN * CHECK_MILLISECONDS) / 1000
/** Answers are remembered for so long after the start of the last check. */
const VALID_MILLISECONDS = 250
/** After somebody else changed content, there is no lease for this time. */
const PAUSE_MILLISECONDS = 10_000
/** A write whose connection broke has ended by then, because a statement may not take longer. */
const UNKNOWN_END_MILLISECONDS = 60_000
/** For the end of the connections of an earlier process, each. */
const EARLIER_MILLISECONDS_MAX = 10_000

/**
 * A proof that nobody but this process changes the content of its embedded Postgres: a lock, for which others who do wait. It is taken
 * while many clients pull, checked ten times a second, and given back as soon as somebody waits for it. A connection of the
 * embedded Postgres is a socket of this machine, so its end is seen at once.
 */
export class ContentLease implements Content {
  readonly #db: Database
  readonly #loop: Loop
  #hasEndedEarlier = false
  #validUntil = Number.NEGATIVE_INFINITY
  #pausedUntil = Number.NEGATIVE_INFINITY
  #lookups = 0
  #countedFrom = performance.now()
  #isWanted = false

  /** `db` was opened with `isServer`, and gets this as its `content`. `onError` receives failures to take or check the lock. */
  constructor(db: Database, onError: (error: unknown) => void) {
    this.#db = db
    this.#loop = new Loop({ work: (signal) => this.#run(signal), onError })
    db.content = this
    db.writes.onUnknownEnd = () => this.#pause(UNKNOWN_END_MILLISECONDS)
  }

  get version(): number | undefined {
    const now = performance.now()
    this.#lookups += 1
    if (now < this.#validUntil) return this.#db.writes.version
    if (!this.#isWanted) this.#wantWhenBusy(now)
    return undefined
  }

  /** Gives the lease back, and takes none any more. */
  async close(): Promise<void> {
    await this.#loop.stop()
  }

  #wantWhenBusy(now: number): void {
    if (this.#lookups < LOOKUPS_A_SECOND_MIN) {
      if (now - this.#countedFrom > 1000) [this.#lookups, this.#countedFrom] = [0, now]
      return
    }
    const isFast = now - this.#countedFrom <= 1000
    ;[this.#lookups, this.#countedFrom] = [0, now]
    if (!isFast || now < this.#pausedUntil) return
    this.#isWanted = true
    this.#loop.poke()
  }

  #pause(milliseconds: number): void {
    this.#validUntil = Number.NEGATIVE_INFINITY
    this.#pausedUntil = Math.max(this.#pausedUntil, performance.now() + milliseconds)
  }

  async #run(signal: AbortSignal): Promise<void> {
    const client = await this.#db.session()
    let isBroken = false
    const broken = () => {
      isBroken = true
      this.#pause(UNKNOWN_END_MILLISECONDS)
    }
    client.once('end', broken)
    try {
      if (!this.#hasEndedEarlier) await endEarlierProcess(client)
      this.#hasEndedEarlier = true
      if (await tryLock(client)) await this.#hold(client, signal, () => isBroken)
      else this.#pause(PAUSE_MILLISECONDS)
    } finally {
      this.#validUntil = Number.NEGATIVE_INFINITY
      this.#isWanted = false
      client.off('end', broken)
      client.release(true)
    }
  }

  /** Holds the lock until somebody waits for it, nobody pulls, or the connection breaks. */
  async #hold(client: pg.PoolClient, signal: AbortSignal, isBroken: () => boolean): Promise<void> {
    let busyAt = performance.now()
    // What was remembered before may be old.
    this.#db.writes.begin()
    this.#db.writes.end(true)
    while (!signal.aborted) {
      const askedAt = performance.now()
      const isWaitedFor = await isLockWaitedFor(client)
      if (isBroken() || askedAt < this.#pausedUntil) return
      if (isWaitedFor) return this.#pause(PAUSE_MILLISECONDS)
      if (this.#lookups >= LOOKUPS_A_CHECK_MIN) busyAt = askedAt
      if (askedAt - busyAt > IDLE_MILLISECONDS) return
      this.#lookups = 0
      this.#validUntil = askedAt + VALID_MILLISECONDS
      await delay(CHECK_MILLISECONDS, undefined, { signal }).catch(() => {})
    }
  }
}

/**
 * Ends the connections that a killed process of this server left: what they still write would not wait for the lock. Throws
 * when one does not end.
 */
async function endEarlierProcess(client: pg.PoolClient): Promise<void> {
  const { rows } = await client.query<{ ended: boolean }>(
    `select pg_terminate_backend(pid, $1) as ended
       from pg_stat_activity
      where datname = current_database()
        and application_name = current_setting('application_name')
        and backend_start < (select $2::timestamptz)`,
    [EARLIER_MILLISECONDS_MAX, new Date(performance.timeOrigin)],
  )
  if (rows.some(({ ended }) => !ended)) {
    throw new Error('a connection of an earlier process of this server does not end')
  }
}

async function tryLock(client: pg.PoolClient): Promise<boolean> {
  const { rows } = await client.query<{ locked: boolean }>(
    'select pg_try_advisory_lock($1, $2) as locked',
    [...LOCK_KEYS],
  )
  return rows[0]?.locked === true
}

async function isLockWaitedFor(client: pg.PoolClient): Promise<boolean> {
  const { rows } = await client.query<{ waited: boolean }>({
    name: 'isLockWaitedFor',
    text: `select exists (
             select 1
               from pg_locks
              where locktype = 'advisory'
                and classid = $1
                and objid = $2
                and not granted
                and database = (
                  select oid
                    from pg_database
                   where datname = current_database()
                )
           ) as waited`,
    values: [...LOCK_KEYS],
  })
  return rows[0]?.waited === true
}

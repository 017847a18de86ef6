import { setTimeout as delay } from 'node:timers/promises'
import { Loop } from '../async/loop.ts'
import type { Content } from './content-writes.ts'
import type { Database, Queryable } from './database.ts'

/** Fewer lookups a second cost less than the checks of the lease. */
const LOOKUPS_A_SECOND_MIN = 50
/** With fewer lookups for so long, the lease is given back. */
const IDLE_MILLISECONDS = 10_000
const CHECK_MILLISECONDS = 100
const ATTEMPTS_MAX = 3
const ATTEMPT_MILLISECONDS = 5
const LOOKUPS_A_CHECK_MIN = (LOOKUPS_A_SECOND_MIN * CHECK_MILLISECONDS) / 1000
/** Answers are remembered for so long after the start of the last check. Others who change content wait for as long, in SQL. */
const VALID_MILLISECONDS = 200
/** For how long there is no lease. */
const PAUSES = {
  /** After somebody else changed content, or the database did not answer a check. */
  afterOthers: 10_000,
  /** After a change of content ran when the lease was wanted. */
  afterBusy: 1_000,
  /** After the connection of a write broke: its statement has ended by then, because it may not take longer. */
  afterUnknownEnd: 60_000,
}

/**
 * A proof that nobody but this process changes what the database answers to pulls, so that the answers can be remembered. It is
 * taken while many clients pull, checked ten times a second, and given back as soon as somebody else changes content. That change
 * waits first until the last check is no longer valid (schema/0032-remembered-answers.sql), so no answer is ever old: neither when
 * this process is stopped for a moment, nor when its connections break, nor when Postgres is killed.
 */
export class ContentLease implements Content {
  readonly #db: Database
  readonly #server: string
  readonly #loop: Loop
  readonly #pauses: typeof PAUSES
  #validUntil = Number.NEGATIVE_INFINITY
  #pausedUntil = Number.NEGATIVE_INFINITY
  #lookups = 0
  #countedFrom = performance.now()
  #isWanted = false

  /**
   * `db` was opened with the id of this `server`, a UUID that no other process has, and gets this as its `content`. `onError`
   * receives failures to take or check the lease.
   */
  constructor(
    db: Database,
    server: string,
    onError: (error: unknown) => void,
    pauses: typeof PAUSES = PAUSES,
  ) {
    this.#db = db
    this.#server = server
    this.#pauses = pauses
    this.#loop = new Loop({ work: (signal) => this.#run(signal), onError })
    db.content = this
    db.writes.onUnknownEnd = () => this.#pause(pauses.afterUnknownEnd)
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
    try {
      if (await takeLease(this.#db, this.#server)) await this.#hold(signal)
      else this.#pause(this.#pauses.afterBusy)
    } catch (error) {
      this.#pause(this.#pauses.afterOthers)
      throw error
    } finally {
      this.#validUntil = Number.NEGATIVE_INFINITY
      this.#isWanted = false
    }
  }

  /** True when nobody else changes content. The checks of two servers may hinder each other for a moment. */
  async #check(): Promise<boolean> {
    for (let attempts = 1; attempts < ATTEMPTS_MAX; attempts += 1) {
      if (await checkLease(this.#db, this.#server)) return true
      await delay(ATTEMPT_MILLISECONDS)
    }
    return checkLease(this.#db, this.#server)
  }

  /** Checks until somebody else changes content, or few pull. */
  async #hold(signal: AbortSignal): Promise<void> {
    let busyAt = performance.now()
    while (!signal.aborted) {
      const askedAt = performance.now()
      const isHeld = await this.#check()
      if (askedAt < this.#pausedUntil) break
      if (!isHeld) {
        this.#pause(this.#pauses.afterOthers)
        break
      }
      if (this.#lookups >= LOOKUPS_A_CHECK_MIN) busyAt = askedAt
      if (askedAt - busyAt > IDLE_MILLISECONDS) break
      this.#lookups = 0
      // A change of others takes as long as a check is valid. One between two checks that are further apart was not seen.
      if (performance.now() >= this.#validUntil) this.#db.writes.invalidate()
      this.#validUntil = askedAt + VALID_MILLISECONDS
      await delay(CHECK_MILLISECONDS, undefined, { signal }).catch(() => {})
    }
    this.#validUntil = Number.NEGATIVE_INFINITY
    await giveLeaseBack(this.#db, this.#server)
  }
}

/**
 * Takes the lease for this server. False while anybody changes content. The keys of the locks are those of
 * schema/0032-remembered-answers.sql. Rows of servers that have gone are removed.
 */
async function takeLease(db: Queryable, server: string): Promise<boolean> {
  const { rows } = await db.query<{ taken: boolean }>(
    `with locked as (
       select pg_try_advisory_xact_lock(1919905643, 1936028278) as free
     ), removed as (
       delete from remembered_answers
        where not held
          and server <> $1
     )
     insert into remembered_answers (server, held)
     select $1, true
       from locked
      where free
         on conflict (server) do update set held = true
     returning held as taken`,
    [server],
  )
  return rows.length > 0
}

/** True when nobody else changes content now, or did since the last check. */
async function checkLease(db: Queryable, server: string): Promise<boolean> {
  const { rows } = await db.query<{ held: boolean }>(
    `select pg_try_advisory_xact_lock(1919905643, 1818583411) as held
       from remembered_answers
      where held
        and server = $1`,
    [server],
  )
  return rows[0]?.held === true
}

/** Others need not wait any more. One who waits now says so itself. */
async function giveLeaseBack(db: Queryable, server: string): Promise<void> {
  await db.query(
    `update remembered_answers
        set held = false
      where server in (
        select server
          from remembered_answers
         where server = $1
           for update skip locked
      )`,
    [server],
  )
}

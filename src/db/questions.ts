import { availableParallelism } from 'node:os'
import pg from 'pg'
import { RegistryError, unavailable } from '../oci/errors.ts'
import { Database, type DatabaseOptions, type Queryable, type Transaction } from './database.ts'

const PROCESSORS_FOR_TWO = 3
/**
 * Connections for questions, beside those of the registry itself: with one or two processors a single one, because
 * pulls need a processor of their own.
 */
export const QUESTION_CONNECTIONS = availableParallelism() < PROCESSORS_FOR_TWO ? 1 : 2
/** The longest time of one statement of a question. */
export const QUESTION_MILLISECONDS_MAX = 2_000
/**
 * A connection rests for so many times as long as its statement took, up to REST_MILLISECONDS_MAX, so that short
 * questions without end leave most of a processor to pulls.
 */
const REST_FACTOR = 4
const REST_MILLISECONDS_MAX = 200
const RETRY_AFTER_SECONDS = 2
const CANCELED = '57014'

/** Statements of one client that may wait for their turn: more than its connections. */
const WAITING_MAX = 2_000

/** The client that asks. */
export type Asker = {
  /** Identifies the client: its statements run one after the other. */
  readonly client: string
  /** Aborted when the client leaves: its statement is canceled. */
  readonly signal: AbortSignal
  /** Throws TOOMANYREQUESTS when the client has used up its time. Called before each statement. */
  admit(): void
  /** The same before the turn of the client, and holds a refusal back. */
  admitSlowly(): Promise<void>
  /** Receives the time that a statement took. */
  spend(milliseconds: number): void
}

/** Runs the statements of one question. */
export interface QuestionQueryable extends Queryable {
  /** Runs `work` on one snapshot of the database. */
  snapshot<T>(work: (tx: Transaction) => Promise<T>): Promise<T>
  /** Counts time that the question took outside Postgres. */
  spend(milliseconds: number): void
}

/**
 * The connections for lists, searches and the feed: few, so that questions take no connection and little time from
 * pulls and pushes. A client has one of them at a time. A statement ends after QUESTION_MILLISECONDS_MAX, or when its
 * client leaves.
 */
export class Questions {
  readonly #pool: Database
  readonly #main: Queryable
  /** Clients with a statement, and the starts of those that wait for their turn. */
  readonly #turns = new Map<string, (() => void)[]>()

  /** `main` cancels statements, because all connections for questions may be busy. */
  constructor(main: Queryable, options: Omit<DatabaseOptions, 'connectionsMax'>) {
    this.#main = main
    this.#pool = new Database({
      ...options,
      connectionsMax: QUESTION_CONNECTIONS,
      statementMilliseconds: QUESTION_MILLISECONDS_MAX,
    })
  }

  /**
   * Returns the connection of one question. Its statements throw UNAVAILABLE when they take too long, and what
   * `admit` throws.
   */
  of(asker: Asker): QuestionQueryable {
    return {
      spend: (milliseconds) => asker.spend(milliseconds),
      query: <Row>(text: string, values: readonly unknown[] = []) =>
        this.#run(asker, (db) => db.query<Row>(text, values)),
      snapshot: (work) =>
        this.#run(asker, async (db) => {
          await db.query('begin isolation level repeatable read read only')
          const result = await work(db)
          await db.query('commit')
          return result
        }),
    }
  }

  async close(): Promise<void> {
    await this.#pool.close()
  }

  async #run<T>(asker: Asker, work: (db: Transaction) => Promise<T>): Promise<T> {
    await asker.admitSlowly()
    const end = await this.#turn(asker.client)
    try {
      return await this.#runNow(asker, work)
    } finally {
      end()
    }
  }

  /** Resolves when it is the client's turn, to a function that ends it. Throws UNAVAILABLE when too many wait. */
  async #turn(client: string): Promise<() => void> {
    const waiting = this.#turns.get(client)
    if (waiting === undefined) this.#turns.set(client, [])
    else if (waiting.length < WAITING_MAX) await new Promise<void>((start) => waiting.push(start))
    else throw tooManyWait()
    return () => {
      const next = this.#turns.get(client)?.shift()
      if (next === undefined) this.#turns.delete(client)
      else next()
    }
  }

  async #runNow<T>(asker: Asker, work: (db: Transaction) => Promise<T>): Promise<T> {
    asker.admit()
    asker.signal.throwIfAborted()
    const connection = await this.#pool.connection()
    const started = performance.now()
    let canceling: Promise<unknown> | undefined
    let failed = false
    const cancel = () => {
      canceling = this.#main
        .query('select pg_cancel_backend($1)', [connection.processId])
        .catch(() => {})
    }
    if (asker.signal.aborted) cancel()
    else asker.signal.addEventListener('abort', cancel, { once: true })
    try {
      return await work(connection.db)
    } catch (error) {
      failed = true
      throw isCanceled(error) ? tookTooLong(error) : error
    } finally {
      asker.signal.removeEventListener('abort', cancel)
      const took = performance.now() - started
      asker.spend(took)
      // A late cancellation must not reach the next question, so its connection is closed.
      await canceling
      const isLost = failed || canceling !== undefined
      const rest = Math.min(took * REST_FACTOR, REST_MILLISECONDS_MAX)
      setTimeout(() => connection.release(isLost), rest)
    }
  }
}

function isCanceled(error: unknown): boolean {
  const cause = error instanceof RegistryError ? error.cause : error
  return cause instanceof pg.DatabaseError && cause.code === CANCELED
}

function tooManyWait(): Error {
  return unavailable(`${WAITING_MAX} questions of this client wait already: ask one at a time`, {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  })
}

function tookTooLong(cause: unknown): Error {
  return unavailable(
    `this question takes more than ${QUESTION_MILLISECONDS_MAX / 1000} s: name a repository, a tag or a version, or ask for a smaller page with n=`,
    { retryAfterSeconds: RETRY_AFTER_SECONDS, cause },
  )
}

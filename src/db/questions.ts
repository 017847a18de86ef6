import pg from 'pg'
import { unavailable } from '../oci/errors.ts'
import { Database, type DatabaseOptions, type Queryable, type Transaction } from './database.ts'

/** Connections for questions, beside those of the registry itself. */
export const QUESTION_CONNECTIONS = 2
/** The longest time of one statement of a question. */
export const QUESTION_MILLISECONDS_MAX = 2_000
const RETRY_AFTER_SECONDS = 2
const CANCELED = '57014'

/** The client that asks. */
export type Asker = {
  /** Aborted when the client leaves: its statement is canceled. */
  readonly signal: AbortSignal
  /** Throws TOOMANYREQUESTS when the client has used up its time. Called before each statement. */
  admit(): void
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
 * pulls and pushes. A statement ends after QUESTION_MILLISECONDS_MAX, or when its client leaves.
 */
export class Questions {
  readonly #pool: Database
  readonly #main: Queryable

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
      asker.spend(performance.now() - started)
      // A late cancellation must not reach the next question, so its connection is closed.
      await canceling
      connection.release(failed || canceling !== undefined)
    }
  }
}

function isCanceled(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === CANCELED
}

function tookTooLong(cause: unknown): Error {
  return unavailable(
    `this question takes more than ${QUESTION_MILLISECONDS_MAX / 1000} s: name a repository, a tag or a version, or ask for a smaller page with n=`,
    { retryAfterSeconds: RETRY_AFTER_SECONDS, cause },
  )
}

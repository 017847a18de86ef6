import { availableParallelism } from 'node:os'
import pg from 'pg'
import { RegistryError, unavailable } from '../oci/errors.ts'
import {
  Database,
  type DatabaseOptions,
  type PoolUse,
  type Queryable,
  type Transaction,
} from './database.ts'
import { QuestionTurn } from './question-turn.ts'

const PROCESSORS_FOR_TWO = 3
/**
 * Connections for questions, beside those of the registry itself: with one or two processors a single one, because
 * pulls need a processor of their own.
 */
export const QUESTION_CONNECTIONS = availableParallelism() < PROCESSORS_FOR_TWO ? 1 : 2
/** The longest time of one statement of a question. */
export const QUESTION_MILLISECONDS_MAX = 2_000
const APPLICATION_NAME = 'rookery questions'
const RETRY_AFTER_SECONDS = 2
const CANCELED = '57014'

/** Questions of one client that may wait for their turn: more than its connections. */
const WAITING_MAX = 2_000

/** The client that asks. */
export type Asker = {
  /** Identifies the client: its questions have their turns one after the other. */
  readonly client: string
  /** Aborted when the client leaves: its statement is canceled, and a question that waits throws the reason. */
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
 * pulls and pushes. A client has one of them at a time, in turns of its questions. A statement ends after
 * QUESTION_MILLISECONDS_MAX, or when its client leaves.
 */
export class Questions {
  readonly #pool: Database
  readonly #main: Queryable
  /** Clients with a turn, and the starts of their questions that wait for the next one. */
  readonly #turns = new Map<string, (() => void)[]>()

  /** `main` cancels statements, because all connections for questions may be busy. */
  constructor(main: Queryable, options: Omit<DatabaseOptions, 'connectionsMax'>) {
    this.#main = main
    this.#pool = new Database({
      ...options,
      connectionsMax: QUESTION_CONNECTIONS,
      applicationName: APPLICATION_NAME,
      statementMilliseconds: QUESTION_MILLISECONDS_MAX,
    })
  }

  /**
   * Returns the connection of one question. Its statements throw UNAVAILABLE when they take too long, what `admit`
   * throws, and the reason of `signal` when that is aborted.
   */
  of(asker: Asker): QuestionQueryable {
    let turn: QuestionTurn | undefined
    let last: Promise<void> = Promise.resolve()
    // Statements that a question sends together have one turn: a turn of each would wait for the rest of the one before.
    const run = async <T>(work: (db: Transaction) => Promise<T>) => {
      const before = last
      let end = () => {}
      last = new Promise((resolve) => {
        end = resolve
      })
      try {
        await before
        await asker.admitSlowly()
        asker.signal.throwIfAborted()
        if (turn?.resume() !== true) turn = await this.#startTurn(asker)
        return await this.#run(asker, turn, work)
      } finally {
        end()
      }
    }
    return {
      spend: (milliseconds) => asker.spend(milliseconds),
      query: <Row>(text: string, values: readonly unknown[] = []) =>
        run((db) => db.query<Row>(text, values)),
      snapshot: (work) =>
        run(async (db) => {
          await db.query('begin isolation level repeatable read read only')
          const result = await work(db)
          await db.query('commit')
          return result
        }),
    }
  }

  /** How the connections are used now. */
  get use(): PoolUse {
    return this.#pool.use
  }

  async close(): Promise<void> {
    await this.#pool.close()
  }

  async #startTurn(asker: Asker): Promise<QuestionTurn> {
    const end = await this.#waitForTurn(asker.client)
    try {
      asker.admit()
      asker.signal.throwIfAborted()
      return new QuestionTurn(await this.#pool.connection(), end)
    } catch (error) {
      end()
      throw error
    }
  }

  /** Resolves when it is the client's turn, to a function that ends it. Throws UNAVAILABLE when too many wait. */
  async #waitForTurn(client: string): Promise<() => void> {
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

  async #run<T>(
    asker: Asker,
    turn: QuestionTurn,
    work: (db: Transaction) => Promise<T>,
  ): Promise<T> {
    const { db, processId } = turn.connection
    const started = performance.now()
    let canceling: Promise<unknown> | undefined
    let failed = false
    const cancel = () => {
      canceling = this.#main.query('select pg_cancel_backend($1)', [processId]).catch(() => {})
    }
    if (asker.signal.aborted) cancel()
    else asker.signal.addEventListener('abort', cancel, { once: true })
    try {
      return await work(db)
    } catch (error) {
      failed = true
      if (!isCanceled(error)) throw error
      asker.signal.throwIfAborted()
      throw tookTooLong(error)
    } finally {
      asker.signal.removeEventListener('abort', cancel)
      const took = performance.now() - started
      asker.spend(took)
      // A late cancellation must not reach the next statement, so its connection is closed.
      await canceling
      turn.rest(took, failed || canceling !== undefined)
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

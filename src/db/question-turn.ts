import type { Database } from './database.ts'

/**
 * A connection rests for so many times as long as the statements of a turn took, up to REST_MILLISECONDS_MAX, so that
 * short questions without end leave most of a processor to pulls.
 */
const REST_FACTOR = 4
const REST_MILLISECONDS_MAX = 200
/** A turn has no further statement after this time in statements: its rest is the longest then. */
const TURN_MILLISECONDS_MAX = REST_MILLISECONDS_MAX / REST_FACTOR

type Connection = Awaited<ReturnType<Database['connection']>>

/**
 * The turn of a question: it has a connection for statements that follow one another, and for one rest after them. A
 * question with many statements has several turns, between which others have theirs.
 */
export class QuestionTurn {
  readonly connection: Connection
  readonly #onEnd: () => void
  readonly #startedAt = performance.now()
  /** The time that its statements took. */
  #milliseconds = 0
  #isLost = false
  #resting: NodeJS.Timeout | undefined

  /** Releases the connection, and calls `onEnd`, when it has rested. */
  constructor(connection: Connection, onEnd: () => void) {
    this.connection = connection
    this.#onEnd = onEnd
  }

  /** Ends the rest for another statement. False when the turn is over, or takes no further one. */
  resume(): boolean {
    const isFull = this.#isLost || this.#milliseconds >= TURN_MILLISECONDS_MAX
    if (this.#resting === undefined || isFull) return false
    clearTimeout(this.#resting)
    this.#resting = undefined
    return true
  }

  /**
   * Starts the rest after a statement that took `milliseconds`. The time between statements counts as rest. `isLost`: the
   * connection is closed, and takes no further statement.
   */
  rest(milliseconds: number, isLost: boolean): void {
    this.#milliseconds += milliseconds
    this.#isLost = isLost
    const rested = performance.now() - this.#startedAt - this.#milliseconds
    const rest = Math.min(this.#milliseconds * REST_FACTOR - rested, REST_MILLISECONDS_MAX)
    this.#resting = setTimeout(() => this.#end(), rest)
  }

  #end(): void {
    this.#resting = undefined
    this.connection.release(this.#isLost)
    this.#onEnd()
  }
}

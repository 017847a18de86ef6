import { visible } from '../printing.ts'
import type { Terminal } from './progress-bar.ts'

/** A terminal with its height. */
export type TallTerminal = Terminal & { readonly rows?: number }

const REDRAW_MILLISECONDS = 100
const COLUMNS_DEFAULT = 80
const ROWS_DEFAULT = 24
// With autowrap off a line that is too long is cut by the terminal, and takes one row.
const WRAP_OFF = '\u001b[?7l'
const WRAP_ON = '\u001b[?7h'
const CLEAR_LINE = '\u001b[K'
const CLEAR_BELOW = '\u001b[J'
const upBy = (rows: number) => (rows === 0 ? '\r' : `\u001b[${rows}A\r`)

/** Lines at the end of a terminal that are redrawn in place, at most ten times a second. */
export class LiveLines {
  readonly #terminal: TallTerminal
  readonly #linesOf: (rows: number, columns: number) => readonly string[]
  readonly #now: () => number
  #drawn: readonly string[] = []
  #drawnAt = 0
  #timer: NodeJS.Timeout | undefined

  /** `linesOf` returns the lines to draw, at most `rows`. They are cut to fewer characters than `columns`. */
  constructor(
    terminal: TallTerminal,
    linesOf: (rows: number, columns: number) => readonly string[],
    now: () => number = Date.now,
  ) {
    this.#terminal = terminal
    this.#linesOf = linesOf
    this.#now = now
  }

  /** Draws the lines, at once or when the last drawing is old enough. */
  draw(): void {
    const wait = this.#drawnAt + REDRAW_MILLISECONDS - this.#now()
    if (wait <= 0) this.#drawNow()
    else this.#timer ??= setTimeout(() => this.#drawNow(), wait)
  }

  /** Writes a line above the others that stays. */
  note(text: string): void {
    this.#terminal.write(`${this.#up()}${CLEAR_BELOW}${visible(text)}\n`)
    this.#drawn = []
    this.#drawNow()
  }

  /** Removes the lines. */
  clear(): void {
    this.#stopTimer()
    if (this.#drawn.length > 0) this.#terminal.write(`${this.#up()}${CLEAR_BELOW}`)
    this.#drawn = []
  }

  #drawNow(): void {
    this.#stopTimer()
    this.#drawnAt = this.#now()
    // One row less: the cursor is below the last line.
    const rows = Math.max(1, (this.#terminal.rows || ROWS_DEFAULT) - 1)
    const columns = this.#columns()
    const lines = this.#linesOf(rows, columns)
      .slice(0, rows)
      .map((line) => [...visible(line)].slice(0, columns - 1).join(''))
    const text = lines.map((line) => `${line}${CLEAR_LINE}\n`).join('')
    this.#terminal.write(`${WRAP_OFF}${this.#up()}${text}${CLEAR_BELOW}${WRAP_ON}`)
    this.#drawn = lines
  }

  /** To the first drawn line. A terminal that became narrower has wrapped the lines. */
  #up(): string {
    const columns = this.#columns()
    const heights = this.#drawn.map(({ length }) => Math.max(1, Math.ceil(length / columns)))
    return upBy(heights.reduce((sum, height) => sum + height, 0))
  }

  #columns(): number {
    return Math.max(2, this.#terminal.columns || COLUMNS_DEFAULT)
  }

  #stopTimer(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}

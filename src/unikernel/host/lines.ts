// Who has as many has read enough.
export const PROBLEMS_MAX = 100

/** What was not understood in a file of lines, and where. It was left out. */
export type LineProblem = {
  /** From 1. */
  readonly line: number
  readonly problem: string
}

/** Gathers what was not understood: PROBLEMS_MAX, and then one that says how many more. */
export class LineProblems {
  readonly #found: LineProblem[] = []
  #more = 0

  add(line: number, problem: string): void {
    if (this.#found.length < PROBLEMS_MAX) this.#found.push({ line, problem })
    else this.#more += 1
  }

  list(): LineProblem[] {
    const last = this.#found.at(-1)
    if (this.#more === 0 || last === undefined) return this.#found
    const problem = `there are ${this.#more} more problems`
    return [...this.#found, { line: last.line, problem }]
  }
}

/** A line without its end, and its number. */
export type Line = { readonly number: number; readonly text: string }

const decoder = new TextDecoder('utf-8')

/**
 * The lines of a file that are not empty, from 1, with LF or CRLF behind them, or nothing after the
 * last. What is no UTF-8 becomes U+FFFD; a byte order mark is left out.
 */
export function* linesOf(bytes: Uint8Array): Generator<Line> {
  const text = decoder.decode(bytes)
  let number = 0
  for (let start = 0; start < text.length; ) {
    const found = text.indexOf('\n', start)
    const end = found === -1 ? text.length : found
    number += 1
    const line = text.slice(start, text[end - 1] === '\r' && end > start ? end - 1 : end)
    if (line.trim() !== '') yield { number, text: line }
    start = end + 1
  }
}

const SHOWN_MAX = 40

/** A piece of a file, as a message shows it: on one line, and not endless. */
export function shownText(text: string): string {
  const cut = text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text
  return JSON.stringify(cut)
}

// More problems than anyone reads.
export const PROBLEMS_MAX = 100

/** A line that could not be parsed and was left out. */
export type LineProblem = {
  /** From 1. */
  readonly line: number
  readonly problem: string
}

/** Collects problems: the first PROBLEMS_MAX, and then one with the number of the others. */
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

/** A line without its line ending, and its number. */
export type Line = { readonly number: number; readonly text: string }

const decoder = new TextDecoder('utf-8')

/**
 * Yields the non-empty lines of a file, numbered from 1, with LF or CRLF line endings. Invalid
 * UTF-8 becomes U+FFFD; a byte order mark is left out.
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

/** Shortens a piece of a file for a message, on one line. */
export function shownText(text: string): string {
  const cut = text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text
  return JSON.stringify(cut)
}

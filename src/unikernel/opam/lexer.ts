import { Buffer } from 'node:buffer'
import { readOpamString } from './string.ts'
import type { OpamAtom, Position, RelationalOperator, UpdateOperator } from './value.ts'

// The switch of a unikernel takes 80 KB, and 300 packages with files inside about a megabyte.
export const OPAM_BYTES_MAX = 4 * 1024 * 1024
// The switch of a unikernel has 6000, and one of 1000 packages about 100 000.
export const OPAM_TOKENS_MAX = 100_000
// The most characters of a file that a message repeats.
const SHOWN_MAX = 40

/**
 * A file that is not in the opam format. The message is one line with the position and the problem.
 */
export class MalformedOpamError extends Error {
  override readonly name = 'MalformedOpamError'
  /** From 1. */
  readonly line: number
  /** From 1, in UTF-16 units. */
  readonly column: number
  /** The problem alone, without the position. */
  readonly problem: string

  constructor({ line, column }: Position, problem: string) {
    super(`malformed opam file: line ${line}, column ${column}: ${problem}`)
    this.line = line
    this.column = column
    this.problem = problem
  }
}

/** A file beyond a limit of the parser: nothing of it is read. */
export class OpamLimitError extends MalformedOpamError {}

/** A token of the opam format. Brackets and the colon are tokens by themselves. */
export type Token =
  | OpamAtom
  | (Position &
      (
        | { readonly kind: '[' | ']' | '(' | ')' | '{' | '}' | ':' | 'end' }
        /** A piece that the lexer refused. */
        | { readonly kind: 'unknown'; readonly problem: string }
        | { readonly kind: 'logical'; readonly value: '&' | '|' }
        | { readonly kind: 'prefix'; readonly value: '!' | '?' }
        | { readonly kind: 'relation'; readonly value: RelationalOperator }
        | { readonly kind: 'update'; readonly value: UpdateOperator }
      ))

/**
 * Splits an opam file into tokens, in time linear in its length: opam manual, "General syntax", and
 * where that is silent, the longest token wins, as in opam's own lexer.
 */
export class OpamLexer {
  readonly #text: string
  #at = 0
  #line = 1
  #lineStart = 0
  #tokens = 0
  #beginsLine = false
  // The last run of letters, digits, `_` and `-`. Kept, because a run such as `1-1-1-1` is many
  // tokens, and each would have to look for a letter up to its end.
  #runStart = 0
  #runEnd = 0
  #lastLetter = -1

  /** Decodes bytes as UTF-8; invalid ones become U+FFFD. Throws MalformedOpamError. */
  constructor(source: Uint8Array | string) {
    const size = typeof source === 'string' ? Buffer.byteLength(source) : source.length
    if (size > OPAM_BYTES_MAX) {
      throw new OpamLimitError(
        { line: 1, column: 1 },
        `the file has ${size} bytes; the limit is ${OPAM_BYTES_MAX}`,
      )
    }
    this.#text =
      typeof source === 'string'
        ? source
        : Buffer.from(source.buffer, source.byteOffset, source.length).toString('utf8')
  }

  /** True when the last token is the first one in its line. */
  get beginsLine(): boolean {
    return this.#beginsLine
  }

  /**
   * Returns the next token; after the last one always `end`. Throws MalformedOpamError, and goes on after the character that
   * it does not know; what follows a malformed string or comment is not read.
   */
  next(): Token {
    const line = this.#line
    this.#skipBlanks()
    const here = this.#position(this.#at)
    this.#beginsLine = this.#line > line
    if (this.#at === this.#text.length) return { kind: 'end', ...here }
    this.#tokens += 1
    if (this.#tokens > OPAM_TOKENS_MAX) {
      throw new OpamLimitError(here, `there are more than ${OPAM_TOKENS_MAX} tokens`)
    }
    if (this.#text[this.#at] === '"') return this.#string(here)
    return this.#symbol(here) ?? this.#word(here)
  }

  #position(at: number): Position {
    return { line: this.#line, column: at - this.#lineStart + 1 }
  }

  #newLine(start: number): void {
    this.#line += 1
    this.#lineStart = start
  }

  #skipBlanks(): void {
    const text = this.#text
    for (;;) {
      switch (text[this.#at]) {
        case ' ':
        case '\t':
          this.#at += 1
          break
        case '\r':
          if (text[this.#at + 1] !== '\n') return
          this.#at += 1
          break
        case '\n':
          this.#at += 1
          this.#newLine(this.#at)
          break
        case '#': {
          const end = text.indexOf('\n', this.#at)
          this.#at = end === -1 ? text.length : end
          break
        }
        case '(':
          if (text[this.#at + 1] !== '*') return
          this.#skipComment()
          break
        default:
          return
      }
    }
  }

  /** `(* ... *)`, which nest. Strings in them are not parsed. */
  #skipComment(): void {
    const text = this.#text
    const start = this.#position(this.#at)
    let depth = 0
    do {
      const pair = text.slice(this.#at, this.#at + 2)
      if (pair === '')
        throw new MalformedOpamError(start, 'the comment that begins here does not end')
      if (pair === '(*') depth += 1
      if (pair === '*)') depth -= 1
      this.#at += pair === '(*' || pair === '*)' ? 2 : 1
      if (pair[0] === '\n') this.#newLine(this.#at)
    } while (depth > 0)
  }

  #string(here: Position): Token {
    const read = readOpamString(this.#text, this.#at)
    for (const start of read.lineStarts) this.#newLine(start)
    if (read.problem !== undefined) {
      const at = read.at === this.#at ? here : this.#position(read.at)
      this.#at = this.#text.length
      throw new MalformedOpamError(at, read.problem)
    }
    this.#at = read.at
    return { kind: 'string', value: read.value, ...here }
  }

  #symbol(here: Position): Token | undefined {
    const first = this.#text[this.#at]
    const second = this.#text[this.#at + 1]
    switch (first) {
      case '[':
      case ']':
      case '(':
      case ')':
      case '{':
      case '}':
        return this.#taken(1, { kind: first, ...here })
      case '&':
      case '|':
        return this.#taken(1, { kind: 'logical', value: first, ...here })
      case '?':
        return this.#taken(1, { kind: 'prefix', value: first, ...here })
      case '!':
        return second === '='
          ? this.#taken(2, { kind: 'relation', value: '!=', ...here })
          : this.#taken(1, { kind: 'prefix', value: first, ...here })
      case '<':
      case '>':
        return second === '='
          ? this.#taken(2, { kind: 'relation', value: `${first}=`, ...here })
          : this.#taken(1, { kind: 'relation', value: first, ...here })
      case '~':
        // An old spelling, which opam still reads and never writes.
        return this.#taken(1, { kind: 'relation', value: '>=', ...here })
      case ':':
        return second === '='
          ? this.#taken(2, { kind: 'update', value: ':=', ...here })
          : this.#taken(1, { kind: ':', ...here })
      case '+':
        if (second !== '=') return undefined
        return this.#taken(2, { kind: 'update', value: '+=', ...here })
      case '=':
        if (second === '+' || second === ':') {
          const value = `=${second}${this.#text[this.#at + 2] === '=' ? '=' : ''}` as const
          if (value === '=:=') {
            this.#at += value.length
            throw new MalformedOpamError(here, '=:= is not an operator')
          }
          return this.#taken(value.length, { kind: 'update', value, ...here })
        }
        return this.#taken(1, { kind: 'relation', value: first, ...here })
      default:
        return undefined
    }
  }

  #taken(length: number, token: Token): Token {
    this.#at += length
    return token
  }

  /**
   * Reads an identifier, a boolean or an integer: the longest wins, and an integer before the
   * others.
   */
  #word(here: Position): Token {
    const start = this.#at
    const integerEnd = this.#integerEnd(start)
    const identifierEnd = this.#identifierEnd(start)
    this.#at = Math.max(integerEnd, identifierEnd)
    const text = this.#text.slice(start, this.#at)
    if (identifierEnd > integerEnd) {
      if (text === 'true' || text === 'false') {
        return { kind: 'boolean', value: text === 'true', ...here }
      }
      return { kind: 'identifier', value: text, ...here }
    }
    if (integerEnd === start) {
      const character = String.fromCodePoint(this.#text.codePointAt(start) ?? 0)
      this.#at += character.length
      throw new MalformedOpamError(here, `unexpected ${quoted(character)}`)
    }
    if (!isInteger(text)) {
      throw new MalformedOpamError(here, `${quoted(text)} is not a valid integer`)
    }
    return { kind: 'integer', value: Number(text.replaceAll('_', '')), ...here }
  }

  /** Returns the end of digits and `_`, with an optional sign; `start` when there are none. */
  #integerEnd(start: number): number {
    const digits = this.#text[start] === '-' ? start + 1 : start
    let end = digits
    while (isDigitOrLine(this.#text.charCodeAt(end))) end += 1
    return end === digits ? start : end
  }

  /**
   * Returns the end of a variable, optionally of one or more packages; `start` when there is none.
   */
  #identifierEnd(start: number): number {
    let end = this.#nameEnd(start)
    if (end === start) return start
    while (this.#text[end] === '+' && this.#nameEnd(end + 1) > end + 1) end = this.#nameEnd(end + 1)
    return this.#text[end] === ':' && this.#hasLetter(end + 1) ? this.#runEnd : end
  }

  /** Returns the end of a name, or of the single `_` that means the package itself. */
  #nameEnd(start: number): number {
    if (this.#hasLetter(start)) return this.#runEnd
    return this.#text[start] === '_' ? start + 1 : start
  }

  /** True when the run at `start` has a letter from there on. `#runEnd` is its end. */
  #hasLetter(start: number): boolean {
    if (start < this.#runStart || start >= this.#runEnd) {
      this.#runStart = start
      this.#lastLetter = -1
      let end = start
      for (;;) {
        const code = this.#text.charCodeAt(end)
        if (isLetter(code)) this.#lastLetter = end
        else if (!isDigitOrLine(code) && code !== MINUS) break
        end += 1
      }
      this.#runEnd = end
    }
    return this.#lastLetter >= start
  }
}

/** Describes a token for a message. */
export function describeToken(token: Token): string {
  switch (token.kind) {
    case 'end':
      return 'the end of the file'
    case 'string':
      return `the string ${quoted(token.value)}`
    case 'identifier':
    case 'boolean':
    case 'integer':
      return `the ${token.kind} ${quoted(String(token.value))}`
    case 'logical':
    case 'prefix':
    case 'relation':
    case 'update':
      return token.value
    default:
      return token.kind
  }
}

/** Shortens text of a file for a message, on one line. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text)
}

const MINUS = 0x2d
// Integers of OCaml have 63 bits, the sign included.
const INTEGER_END = 2n ** 62n

function isInteger(text: string): boolean {
  if (!/^-?[0-9]/.test(text)) return false
  const [, sign = '', digits] = /^(-?)0*([0-9]{1,19})$/.exec(text.replaceAll('_', '')) ?? []
  if (digits === undefined) return false
  const value = BigInt(digits)
  return value < INTEGER_END || (sign === '-' && value === INTEGER_END)
}

function isDigitOrLine(code: number): boolean {
  return (code >= 0x30 && code <= 0x39) || code === 0x5f
}

function isLetter(code: number): boolean {
  return (code >= 0x61 && code <= 0x7a) || (code >= 0x41 && code <= 0x5a)
}

import { OpamProblems } from './fields.ts'
import {
  describeToken,
  MalformedOpamError,
  OpamLexer,
  OpamLimitError,
  type Token,
} from './lexer.ts'
import type { OpamAtom, OpamItem, OpamValue, Position } from './value.ts'

// Real files nest 6 deep. Each level takes a few stack frames, here and in code that walks a value.
export const OPAM_DEPTH_MAX = 100

/** The newest version of the format whose whole syntax is read. */
const SYNTAX_VERSION = [2, 1] as const
const VERSION_CHARACTERS_MAX = 20

/**
 * Parses the fields and sections of an opam file, in their order: opam manual, "Common file
 * format", and the precedences of opam's own grammar: braces, then `!` and `?`, then `&`, then `|`.
 * Bytes that are not UTF-8 become U+FFFD. Throws MalformedOpamError, with the position, for
 * anything else; at most OPAM_BYTES_MAX bytes, OPAM_TOKENS_MAX tokens and OPAM_DEPTH_MAX levels are
 * read. Takes time linear in the size.
 *
 * A file that declares a newer `opam-version` than SYNTAX_VERSION may have other syntax. As in opam, such a file is
 * not malformed: fields with syntax that is not known are left out, each with a problem.
 */
export function parseOpam(
  source: Uint8Array | string,
  problems: OpamProblems = new OpamProblems(),
): OpamItem[] {
  return new Parser(new OpamLexer(source), problems).items(undefined, 0)
}

class Parser {
  readonly #lexer: OpamLexer
  readonly #problems: OpamProblems
  #token: Token
  /** Brackets that are open. */
  #open = 0
  /** The version of a file that may have syntax that is not known. */
  #newerVersion: string | undefined

  constructor(lexer: OpamLexer, problems: OpamProblems) {
    this.#lexer = lexer
    this.#problems = problems
    this.#token = lexer.next()
  }

  /**
   * Reads the items of the file, or of a section that begins at `opened`, with its closing brace.
   */
  items(opened: Position | undefined, depth: number): OpamItem[] {
    const items: OpamItem[] = []
    const open = this.#open
    for (;;) {
      try {
        const token = this.#token
        if (token.kind === 'identifier') {
          const item = this.#item(token.value, token, depth)
          items.push(item)
          if (depth === 0) this.#newerVersion ??= findNewerVersion(item)
          continue
        }
        if (token.kind === (opened ? '}' : 'end')) {
          this.#close()
          return items
        }
        if (token.kind === 'end' && opened) {
          throw new MalformedOpamError(opened, 'the section that begins here does not end')
        }
        throw this.#unexpected('a field or a section')
      } catch (error) {
        if (!this.#isNewerSyntax(error)) throw error
        this.#problems.add(
          error,
          `${error.problem}; the file is for opam ${this.#newerVersion}, and a part in newer syntax than that of opam ${SYNTAX_VERSION.join('.')} was left out`,
        )
        this.#skip(open)
        if (this.#token.kind === 'end') return items
      }
    }
  }

  /** True for an error of a file of a newer version, but not for that of a limit. */
  #isNewerSyntax(error: unknown): error is MalformedOpamError {
    const isLimit = error instanceof OpamLimitError
    return this.#newerVersion !== undefined && error instanceof MalformedOpamError && !isLimit
  }

  /** Skips to the next item in the section in which `open` brackets are open, or to its end. */
  #skip(open: number): void {
    for (;;) {
      const { kind } = this.#token
      const isInside = this.#open > open
      if (kind === 'end') return
      if (!isInside && kind === 'identifier' && this.#lexer.beginsLine) return
      if (!isInside && kind === '}' && open > 0) return
      if (kind === '[' || kind === '(' || kind === '{') this.#open += 1
      if (isInside && (kind === ']' || kind === ')' || kind === '}')) this.#open -= 1
      this.#advance()
    }
  }

  #item(name: string, { line, column }: Position, depth: number): OpamItem {
    const token = this.#advance()
    if (token.kind === ':') {
      this.#advance()
      return { kind: 'field', name, value: this.#value(depth), line, column }
    }
    const title = token.kind === 'string' ? token.value : undefined
    if (title !== undefined) this.#advance()
    if (this.#token.kind !== '{') {
      throw this.#unexpected(title === undefined ? '":" or "{"' : '"{"')
    }
    this.#assertDepth(depth + 1)
    this.#enter()
    const items = this.items({ line, column }, depth + 1)
    return { kind: 'section', type: name, name: title, items, line, column }
  }

  #value(depth: number): OpamValue {
    const first = this.#conjunction(depth)
    if (!this.#isLogical('|')) return first
    const operands = [first]
    while (this.#isLogical('|')) {
      this.#advance()
      operands.push(this.#conjunction(depth))
    }
    return { kind: 'logical', operator: '|', operands, line: first.line, column: first.column }
  }

  #conjunction(depth: number): OpamValue {
    const first = this.#prefixed(depth)
    if (!this.#isLogical('&')) return first
    const operands = [first]
    while (this.#isLogical('&')) {
      this.#advance()
      operands.push(this.#prefixed(depth))
    }
    return { kind: 'logical', operator: '&', operands, line: first.line, column: first.column }
  }

  #isLogical(operator: '&' | '|'): boolean {
    return this.#token.kind === 'logical' && this.#token.value === operator
  }

  #prefixed(depth: number): OpamValue {
    const token = this.#token
    if (token.kind !== 'prefix') return this.#braced(depth)
    this.#assertDepth(depth + 1)
    this.#advance()
    const { value: operator, line, column } = token
    return { kind: 'prefix', operator, operand: this.#prefixed(depth + 1), line, column }
  }

  #braced(depth: number): OpamValue {
    let value = this.#simple(depth)
    const { line, column } = value
    for (let level = depth + 1; this.#token.kind === '{'; level += 1) {
      const options = this.#values('}', level)
      value = { kind: 'option', value, options, line, column }
    }
    return value
  }

  #simple(depth: number): OpamValue {
    const token = this.#token
    const { line, column } = token
    if (token.kind === '[') {
      return { kind: 'list', values: this.#values(']', depth + 1), line, column }
    }
    if (token.kind === '(') {
      return { kind: 'group', values: this.#values(')', depth + 1), line, column }
    }
    if (token.kind === 'relation') {
      this.#advance()
      const right = this.#atom('a value to compare with')
      return { kind: 'relation', operator: token.value, left: undefined, right, line, column }
    }
    const left = this.#atom('a value')
    const next = this.#token
    if (next.kind === 'relation') {
      this.#advance()
      const right = this.#atom('a value to compare with')
      return { kind: 'relation', operator: next.value, left, right, line, column }
    }
    if (next.kind === 'update') {
      this.#advance()
      const right = this.#atom('a value to set')
      return { kind: 'update', operator: next.value, left, right, line, column }
    }
    return left
  }

  #atom(wanted: string): OpamAtom {
    const token = this.#token
    switch (token.kind) {
      case 'boolean':
      case 'integer':
      case 'string':
      case 'identifier':
        this.#advance()
        return token
      default:
        throw this.#unexpected(wanted)
    }
  }

  /** Reads from an opening bracket to its closing one. */
  #values(closing: ']' | ')' | '}', depth: number): OpamValue[] {
    const opened = this.#token
    this.#assertDepth(depth)
    this.#enter()
    const values: OpamValue[] = []
    while (this.#token.kind !== closing) {
      if (this.#token.kind === 'end') {
        throw new MalformedOpamError(opened, `the ${opened.kind} that begins here is not closed`)
      }
      values.push(this.#value(depth))
    }
    this.#close()
    return values
  }

  /** Takes an opening bracket. */
  #enter(): void {
    this.#open += 1
    this.#advance()
  }

  /** Takes a closing bracket, or the end of the file. */
  #close(): void {
    this.#open -= 1
    this.#advance()
  }

  #advance(): Token {
    try {
      this.#token = this.#lexer.next()
    } catch (error) {
      if (!this.#isNewerSyntax(error)) throw error
      const { line, column, problem } = error
      this.#token = { kind: 'unknown', problem, line, column }
    }
    return this.#token
  }

  #assertDepth(depth: number): void {
    if (depth <= OPAM_DEPTH_MAX) return
    throw new OpamLimitError(this.#token, `nested deeper than ${OPAM_DEPTH_MAX}`)
  }

  #unexpected(wanted: string): MalformedOpamError {
    const token = this.#token
    if (token.kind === 'unknown') return new MalformedOpamError(token, token.problem)
    return new MalformedOpamError(token, `expected ${wanted}, found ${describeToken(token)}`)
  }
}

/** Returns the `opam-version` of a file when it is newer than SYNTAX_VERSION. */
function findNewerVersion(item: OpamItem): string | undefined {
  if (item.kind !== 'field' || item.name !== 'opam-version') return undefined
  if (item.value.kind !== 'string') return undefined
  const { value } = item.value
  const [, major, minor = '0'] = /^(\d{1,4})(?:\.(\d{1,4}))?(?![^.~])/.exec(value) ?? []
  const [knownMajor, knownMinor] = SYNTAX_VERSION
  if (major === undefined || Number(major) < knownMajor) return undefined
  const isNewer = Number(major) > knownMajor || Number(minor) > knownMinor
  return isNewer && value.length <= VERSION_CHARACTERS_MAX ? value : undefined
}

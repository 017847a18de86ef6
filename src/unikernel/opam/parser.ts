import { describeToken, MalformedOpamError, OpamLexer, type Token } from './lexer.ts'
import type { OpamAtom, OpamItem, OpamValue, Position } from './value.ts'

// Real files nest 6 deep. Each level takes a few stack frames, here and in code that walks a value.
export const OPAM_DEPTH_MAX = 100

/**
 * Parses the fields and sections of an opam file, in their order: opam manual, "Common file
 * format", and the precedences of opam's own grammar: braces, then `!` and `?`, then `&`, then `|`.
 * Bytes that are not UTF-8 become U+FFFD. Throws MalformedOpamError, with the position, for
 * anything else; at most OPAM_BYTES_MAX bytes, OPAM_TOKENS_MAX tokens and OPAM_DEPTH_MAX levels are
 * read. Takes time linear in the size.
 */
export function parseOpam(source: Uint8Array | string): OpamItem[] {
  return new Parser(new OpamLexer(source)).items(undefined, 0)
}

class Parser {
  readonly #lexer: OpamLexer
  #token: Token

  constructor(lexer: OpamLexer) {
    this.#lexer = lexer
    this.#token = lexer.next()
  }

  /**
   * Reads the items of the file, or of a section that begins at `opened`, with its closing brace.
   */
  items(opened: Position | undefined, depth: number): OpamItem[] {
    const items: OpamItem[] = []
    for (;;) {
      const token = this.#token
      if (token.kind === 'identifier') {
        items.push(this.#item(token.value, token, depth))
        continue
      }
      if (token.kind === (opened ? '}' : 'end')) {
        this.#advance()
        return items
      }
      if (token.kind === 'end' && opened) {
        throw new MalformedOpamError(opened, 'the section that begins here does not end')
      }
      throw this.#unexpected('a field or a section')
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
    this.#advance()
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
    this.#advance()
    const values: OpamValue[] = []
    while (this.#token.kind !== closing) {
      if (this.#token.kind === 'end') {
        throw new MalformedOpamError(opened, `the ${opened.kind} that begins here is not closed`)
      }
      values.push(this.#value(depth))
    }
    this.#advance()
    return values
  }

  #advance(): Token {
    this.#token = this.#lexer.next()
    return this.#token
  }

  #assertDepth(depth: number): void {
    if (depth <= OPAM_DEPTH_MAX) return
    throw new MalformedOpamError(this.#token, `nested deeper than ${OPAM_DEPTH_MAX}`)
  }

  #unexpected(wanted: string): MalformedOpamError {
    return new MalformedOpamError(
      this.#token,
      `expected ${wanted}, found ${describeToken(this.#token)}`,
    )
  }
}

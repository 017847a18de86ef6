export const CONSTRAINT_CHARACTERS_MAX = 1000
export const CONSTRAINT_DEPTH_MAX = 20
// Each is compared with each version. Constraints in opam files have at most a handful.
export const CONSTRAINT_RELATIONS_MAX = 16

/** A version constraint. `and` and `or` have two or more parts. */
export type VersionConstraint =
  | {
      readonly kind: 'relation'
      readonly operator: keyof typeof RELATIONS
      readonly version: string
    }
  | { readonly kind: 'and' | 'or'; readonly parts: readonly VersionConstraint[] }
  | { readonly kind: 'not'; readonly part: VersionConstraint }

/** A malformed version constraint. The message is one line with the position and the problem. */
export class MalformedConstraintError extends Error {
  override readonly name = 'MalformedConstraintError'
  /** From 1, in UTF-16 units. */
  readonly column: number

  constructor(column: number, problem: string) {
    super(`malformed version constraint: at character ${column}, ${problem}`)
    this.column = column
  }
}

const RELATIONS = {
  '=': (order: number) => order === 0,
  '!=': (order: number) => order !== 0,
  '<': (order: number) => order < 0,
  '<=': (order: number) => order <= 0,
  '>': (order: number) => order > 0,
  '>=': (order: number) => order >= 0,
} as const

/**
 * Parses a constraint such as `>= 1.2 & < 2`, `= 1.0 | > 3` or `!(> 2 & < 3.5)`: the version
 * formulas of opam's manual, "Package Formulas", with optional quotes around versions. `&` binds
 * tighter than `|`. Throws MalformedConstraintError.
 */
export function parseVersionConstraint(text: string): VersionConstraint {
  if (text.length > CONSTRAINT_CHARACTERS_MAX) {
    throw new MalformedConstraintError(
      CONSTRAINT_CHARACTERS_MAX + 1,
      `it is longer than ${CONSTRAINT_CHARACTERS_MAX} characters`,
    )
  }
  return new Parser(text).whole()
}

/** True when a version satisfies a constraint, in an order of versions. */
export function satisfies(
  version: string,
  constraint: VersionConstraint,
  compare: (a: string, b: string) => number,
): boolean {
  switch (constraint.kind) {
    case 'and':
      return constraint.parts.every((part) => satisfies(version, part, compare))
    case 'or':
      return constraint.parts.some((part) => satisfies(version, part, compare))
    case 'not':
      return !satisfies(version, constraint.part, compare)
    case 'relation':
      return RELATIONS[constraint.operator](compare(version, constraint.version))
  }
}

// The characters in versions of opam, Debian, Alpine and FreeBSD; opam writes quotes around them.
const VERSION = /^(?:[A-Za-z0-9_+.,~:-]+|"[A-Za-z0-9_+.,~:-]+")$/
const WORDS = /[!<>]=|[=<>!&|()]|[A-Za-z0-9_+.,~:-]+|"[A-Za-z0-9_+.,~:-]+"|[^ \t]/gu

class Parser {
  readonly #words: readonly { readonly text: string; readonly column: number }[]
  readonly #end: { readonly text: ''; readonly column: number }
  #next = 0
  #relations = 0

  constructor(text: string) {
    this.#words = [...text.matchAll(WORDS)].map((found) => ({
      text: found[0],
      column: found.index + 1,
    }))
    this.#end = { text: '', column: text.length + 1 }
  }

  whole(): VersionConstraint {
    const constraint = this.#alternatives(0)
    if (this.#word.text !== '') throw this.#unexpected('& or |')
    return constraint
  }

  get #word() {
    return this.#words[this.#next] ?? this.#end
  }

  #alternatives(depth: number): VersionConstraint {
    return this.#chain('|', 'or', () => this.#chain('&', 'and', () => this.#part(depth)))
  }

  #chain(sign: string, kind: 'and' | 'or', part: () => VersionConstraint): VersionConstraint {
    const first = part()
    const parts = [first]
    while (this.#take(sign)) parts.push(part())
    return parts.length === 1 ? first : { kind, parts }
  }

  #part(depth: number): VersionConstraint {
    const { text, column } = this.#word
    if (depth > CONSTRAINT_DEPTH_MAX) {
      throw new MalformedConstraintError(column, `nested deeper than ${CONSTRAINT_DEPTH_MAX}`)
    }
    if (isRelation(text)) {
      this.#relations += 1
      if (this.#relations > CONSTRAINT_RELATIONS_MAX) {
        const problem = `there are more than ${CONSTRAINT_RELATIONS_MAX} relations`
        throw new MalformedConstraintError(column, problem)
      }
      this.#next += 1
      const version = this.#word.text
      if (!VERSION.test(version)) throw this.#unexpected('a version')
      this.#next += 1
      return { kind: 'relation', operator: text, version: version.replaceAll('"', '') }
    }
    if (this.#take('!')) return { kind: 'not', part: this.#part(depth + 1) }
    if (!this.#take('(')) throw this.#unexpected('one of = != < <= > >= before a version')
    const inner = this.#alternatives(depth + 1)
    if (!this.#take(')')) throw this.#unexpected('& or | or )')
    return inner
  }

  #take(sign: string): boolean {
    if (this.#word.text !== sign) return false
    this.#next += 1
    return true
  }

  #unexpected(wanted: string): MalformedConstraintError {
    const { text, column } = this.#word
    const found = text === '' ? 'the end' : JSON.stringify(text)
    return new MalformedConstraintError(column, `expected ${wanted}, found ${found}`)
  }
}

function isRelation(text: string): text is keyof typeof RELATIONS {
  return Object.hasOwn(RELATIONS, text)
}

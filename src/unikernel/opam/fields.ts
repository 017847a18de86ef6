import { quoted } from './lexer.ts'
import { findOpamChecksum, type OpamChecksum } from './package.ts'
import type { OpamField, OpamItem, OpamSection, OpamValue, Position } from './value.ts'

// Who has as many has read enough.
export const PROBLEMS_MAX = 100
// Real ones have 200. What stores or shows them has to bear it.
export const URL_CHARACTERS_MAX = 2000

/** What was not understood in an opam file, and where. It was left out. */
export type OpamProblem = Position & { readonly problem: string }

/** Gathers what was not understood: PROBLEMS_MAX, and then one that says how many more. */
export class OpamProblems {
  readonly #found: OpamProblem[] = []
  #more = 0

  add({ line, column }: Position, problem: string): void {
    if (this.#found.length < PROBLEMS_MAX) this.#found.push({ line, column, problem })
    else this.#more += 1
  }

  /** In the order of the file; the one that counts the rest is last. */
  list(): OpamProblem[] {
    const sorted = this.#found.toSorted((a, b) => a.line - b.line || a.column - b.column)
    const last = sorted.at(-1)
    if (this.#more === 0 || !last) return sorted
    const { line, column } = last
    return [...sorted, { line, column, problem: `there are ${this.#more} more problems` }]
  }
}

/** The field of a name. A second one is a problem, as it is for opam; the first counts. */
export function findField(
  items: readonly OpamItem[],
  name: string,
  problems: OpamProblems,
): OpamField | undefined {
  const [first, ...others] = items.filter(
    (item): item is OpamField => item.kind === 'field' && item.name === name,
  )
  for (const other of others) problems.add(other, `a second field ${name}`)
  return first
}

/** The sections of a type, such as `package`. */
export function listSections(items: readonly OpamItem[], type: string): OpamSection[] {
  return items.filter((item): item is OpamSection => item.kind === 'section' && item.type === type)
}

/** A list's values; of one value, the brackets may be left out: opam manual, "Conventions". */
export function valuesOf(value: OpamValue): readonly OpamValue[] {
  return value.kind === 'list' ? value.values : [value]
}

/** The text of a string. Anything else is a problem, and then undefined. */
export function findText(value: OpamValue, problems: OpamProblems): string | undefined {
  if (value.kind === 'string') return value.value
  problems.add(value, 'expected a string')
  return undefined
}

/** What a string says to `find`. What that does not know is a problem: it is no `wanted`. */
export function findWord<T>(
  value: OpamValue,
  find: (text: string) => T | undefined,
  wanted: string,
  problems: OpamProblems,
): T | undefined {
  const text = findText(value, problems)
  if (text === undefined) return undefined
  const found = find(text)
  if (found === undefined) problems.add(value, `${quoted(text)} is no ${wanted}`)
  return found
}

/** What strings say, each: those that are a `wanted`. */
export function listWords<T>(
  value: OpamValue,
  find: (text: string) => T | undefined,
  wanted: string,
  problems: OpamProblems,
): T[] {
  return valuesOf(value).flatMap((word) => {
    const found = findWord(word, find, wanted, problems)
    return found === undefined ? [] : [found]
  })
}

/** Checksums, each once, in order. */
export function listChecksums(value: OpamValue, problems: OpamProblems): OpamChecksum[] {
  return [...new Set(listWords(value, findOpamChecksum, 'checksum', problems))].toSorted()
}

/** An address as it stands: opam manual, "URLs". No blanks or control characters, not endless. */
export function findUrl(value: OpamValue, problems: OpamProblems): string | undefined {
  const fits = (text: string) =>
    text.length <= URL_CHARACTERS_MAX && /^[^\s\p{Cc}\p{Cs}]+$/u.test(text) ? text : undefined
  return findWord(value, fits, 'URL', problems)
}

/** In the order of names by UTF-16 units, which no locale changes. */
export function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0
}

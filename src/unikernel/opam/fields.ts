import { quoted } from './lexer.ts'
import { findOpamChecksum, type OpamChecksum } from './package.ts'
import type { OpamField, OpamItem, OpamSection, OpamValue, Position } from './value.ts'

// More problems than anyone reads.
export const PROBLEMS_MAX = 100
// Real ones have 200. Storage and display need a limit.
export const URL_CHARACTERS_MAX = 2000

/** A part of an opam file that could not be parsed and was left out, and its position. */
export type OpamProblem = Position & { readonly problem: string }

/** Collects problems: the first PROBLEMS_MAX, and then one with the number of the others. */
export class OpamProblems {
  readonly #found: OpamProblem[] = []
  #more = 0

  add({ line, column }: Position, problem: string): void {
    if (this.#found.length < PROBLEMS_MAX) this.#found.push({ line, column, problem })
    else this.#more += 1
  }

  /** In the order of the file; the one with the number of the others is last. */
  list(): OpamProblem[] {
    const sorted = this.#found.toSorted((a, b) => a.line - b.line || a.column - b.column)
    const last = sorted.at(-1)
    if (this.#more === 0 || !last) return sorted
    const { line, column } = last
    return [...sorted, { line, column, problem: `there are ${this.#more} more problems` }]
  }
}

/**
 * Finds a field by name. Among several the first counts, and the others are problems, as in opam.
 */
export function findField(
  items: readonly OpamItem[],
  name: string,
  problems: OpamProblems,
): OpamField | undefined {
  const [first, ...others] = items.filter(
    (item): item is OpamField => item.kind === 'field' && item.name === name,
  )
  for (const other of others) problems.add(other, `a second ${name} field`)
  return first
}

/** Lists the sections of a type, such as `package`. */
export function listSections(items: readonly OpamItem[], type: string): OpamSection[] {
  return items.filter((item): item is OpamSection => item.kind === 'section' && item.type === type)
}

/**
 * Returns a list's values. A list of one value may omit the brackets: opam manual, "Conventions".
 */
export function valuesOf(value: OpamValue): readonly OpamValue[] {
  return value.kind === 'list' ? value.values : [value]
}

/** Returns the text of a string. Undefined, with a problem, for any other value. */
export function findText(value: OpamValue, problems: OpamProblems): string | undefined {
  if (value.kind === 'string') return value.value
  problems.add(value, 'expected a string')
  return undefined
}

/** Returns the text of a field for people, without blanks around it. Undefined when it is empty, missing or too long. */
export function findProse(
  items: readonly OpamItem[],
  name: string,
  charactersMax: number,
  problems: OpamProblems,
): string | undefined {
  const field = findField(items, name, problems)
  const text = field && findText(field.value, problems)?.trim()
  if (field === undefined || text === undefined || text === '') return undefined
  // Neither JSON nor Postgres holds NUL and half surrogate pairs.
  if (text.length <= charactersMax && !/[\0\p{Cs}]/u.test(text)) return text
  problems.add(field, `${name} must have at most ${charactersMax} characters, without NUL`)
  return undefined
}

/** Parses a string with `find`. Undefined, with a problem that names `wanted`, when that fails. */
export function findWord<T>(
  value: OpamValue,
  find: (text: string) => T | undefined,
  wanted: string,
  problems: OpamProblems,
): T | undefined {
  const text = findText(value, problems)
  if (text === undefined) return undefined
  const found = find(text)
  if (found === undefined) problems.add(value, `${quoted(text)} is not a valid ${wanted}`)
  return found
}

/** Parses strings with `find`, and leaves out those that are not a `wanted`. */
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

/** Lists checksums without duplicates, in order. */
export function listChecksums(value: OpamValue, problems: OpamProblems): OpamChecksum[] {
  return [...new Set(listWords(value, findOpamChecksum, 'checksum', problems))].toSorted()
}

/**
 * Returns a URL unchanged: opam manual, "URLs". No blanks, control or hidden characters, and not too long.
 */
export function findUrl(value: OpamValue, problems: OpamProblems): string | undefined {
  const fits = (text: string) =>
    text.length <= URL_CHARACTERS_MAX && /^[^\s\p{Cc}\p{Cf}\p{Cs}]+$/u.test(text) ? text : undefined
  return findWord(value, fits, 'URL', problems)
}

/** Compares names by UTF-16 units, independent of any locale. */
export function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0
}

/** Returns the version of the opam format that a file declares. */
export function findOpamVersion(
  items: readonly OpamItem[],
  problems: OpamProblems,
): string | undefined {
  const field = findField(items, 'opam-version', problems)
  const version = field && findText(field.value, problems)
  if (field && version !== undefined && !/^2\.[0-9.]{1,20}$/.test(version)) {
    problems.add(field, 'an opam-version other than 2; parsed as 2')
    return undefined
  }
  return version
}

import {
  DESCRIPTION_CHARACTERS_MAX,
  listMirageFields,
  type MirageField,
  type OpamAbout,
  SYNOPSIS_CHARACTERS_MAX,
} from './definition.ts'
import { entriesOf, listVendored, type VendoredSource } from './duniverse.ts'
import {
  byName,
  findField,
  findOpamVersion,
  findProse,
  findText,
  findUrl,
  findWord,
  listWords,
  type OpamProblem,
  OpamProblems,
  valuesOf,
} from './fields.ts'
import { MalformedOpamError } from './lexer.ts'
import { findOpamPackage, isOpamName, isOpamVersion, OPAM_PACKAGES_MAX } from './package.ts'
import { parseOpam } from './parser.ts'
import type { OpamItem, OpamValue } from './value.ts'

/** A package that a lock file names. */
export type LockedPackage = {
  readonly name: string
  /** Undefined when the file does not fix it. */
  readonly version: string | undefined
  /** True when its source is built with the unikernel; false when opam installs it. */
  readonly vendored: boolean
}

/** A package whose source the file fixes. */
export type LockPin = { readonly name: string; readonly version: string; readonly url: string }

/** The checked content of a lock file, `NAME.opam.locked`. Lists are by name, without duplicates. */
export type OpamLock = {
  /** The program that wrote it: only opam-monorepo says which packages are vendored, and where their sources are. */
  readonly kind: 'opam-monorepo' | 'opam'
  readonly opamVersion: string | undefined
  /** The version of the format of opam-monorepo. */
  readonly monorepoVersion: string | undefined
  /** The packages whose dependencies were locked, such as the unikernel itself. */
  readonly roots: readonly string[]
  /** Undefined when the file has neither, and for opam-monorepo. */
  readonly about: OpamAbout | undefined
  /** Packages that opam installs although they could be vendored. */
  readonly provided: readonly string[]
  readonly locked: readonly LockedPackage[]
  readonly pins: readonly LockPin[]
  /** By folder. */
  readonly duniverse: readonly VendoredSource[]
  readonly mirage: readonly MirageField[]
  /** Parts that could not be parsed and were left out, in the order of the file. */
  readonly problems: readonly OpamProblem[]
}

const MONOREPO = 'x-opam-monorepo-'
// Packages of these variables are no part of a build.
const UNUSED = ['with-test', 'with-doc', 'with-dev-setup', 'dev']

/**
 * Parses a lock file of `opam monorepo lock` or `opam lock`: opam manual, "opam", and the `x-` fields of opam-monorepo and
 * mirage. Parts that cannot be parsed are in `problems`. Throws MalformedOpamError, with the position, for a file that is
 * not in the opam format or beyond its limits.
 */
export function parseOpamLock(source: Uint8Array | string): OpamLock {
  const problems = new OpamProblems()
  const items = parseOpam(source, problems)
  const names = (field: string) => listNames(items, field, problems)
  const duniverse = findField(items, `${MONOREPO}duniverse-dirs`, problems)
  const isMonorepo = items.some((item) => item.kind === 'field' && item.name.startsWith(MONOREPO))
  return {
    kind: isMonorepo ? 'opam-monorepo' : 'opam',
    opamVersion: findOpamVersion(items, problems),
    monorepoVersion: findMonorepoVersion(items, problems),
    roots: names(`${MONOREPO}root-packages`),
    // The text of opam-monorepo's files is about the file.
    about: isMonorepo ? undefined : findAbout(items, problems),
    provided: names(`${MONOREPO}opam-provided`),
    locked: listLocked(items, problems),
    pins: listPins(items, problems),
    duniverse: duniverse ? listVendored(duniverse.value, problems) : [],
    mirage: listMirageFields(items, problems),
    problems: problems.list(),
  }
}

function findAbout(items: readonly OpamItem[], problems: OpamProblems): OpamAbout | undefined {
  const synopsis = findProse(items, 'synopsis', SYNOPSIS_CHARACTERS_MAX, problems)
  const description = findProse(items, 'description', DESCRIPTION_CHARACTERS_MAX, problems)
  return synopsis === undefined && description === undefined ? undefined : { synopsis, description }
}

const findPackageName = (text: string) => (isOpamName(text) ? text : undefined)

function findMonorepoVersion(items: readonly OpamItem[], problems: OpamProblems) {
  const field = findField(items, `${MONOREPO}version`, problems)
  const version = field && findText(field.value, problems)
  if (field === undefined || version === undefined || isOpamVersion(version)) return version
  problems.add(field, 'not a version of opam-monorepo')
  return undefined
}

function listNames(items: readonly OpamItem[], name: string, problems: OpamProblems): string[] {
  const field = findField(items, name, problems)
  if (field === undefined) return []
  assertFew(field.value, valuesOf(field.value), name)
  const names = listWords(field.value, findPackageName, 'package name', problems)
  return [...new Set(names)].toSorted()
}

function assertFew(at: OpamValue, values: readonly OpamValue[], name: string): void {
  if (values.length <= OPAM_PACKAGES_MAX) return
  const problem = `${name} has ${values.length} packages: at most ${OPAM_PACKAGES_MAX} are allowed`
  throw new MalformedOpamError(at, problem)
}

function listLocked(items: readonly OpamItem[], problems: OpamProblems): LockedPackage[] {
  const found = new Map<string, LockedPackage>()
  const field = findField(items, 'depends', problems)
  const values = field === undefined ? [] : valuesOf(field.value)
  if (field !== undefined) assertFew(field.value, values, 'depends')
  for (const value of values) {
    const formula = value.kind === 'option' ? value.options : []
    const name = findWord(
      value.kind === 'option' ? value.value : value,
      findPackageName,
      'package name',
      problems,
    )
    if (name === undefined) continue
    const terms = formula.flatMap(termsOf)
    if (terms.some((term) => term.kind === 'identifier' && UNUSED.includes(term.value))) continue
    const version = findVersion(terms)
    const vendored = terms.some(isVendor)
    if (version === undefined) problems.add(value, `the version of ${name} is not locked`)
    if (found.has(name)) problems.add(value, `${name} is locked twice`)
    else found.set(name, { name, version, vendored })
  }
  return [...found.values()].toSorted(byName)
}

/** Returns the terms of a conjunction. */
function termsOf(value: OpamValue): readonly OpamValue[] {
  if (value.kind === 'group') return value.values.flatMap(termsOf)
  return value.kind === 'logical' && value.operator === '&'
    ? value.operands.flatMap(termsOf)
    : [value]
}

function findVersion(terms: readonly OpamValue[]): string | undefined {
  for (const term of terms) {
    if (term.kind !== 'relation' || term.operator !== '=' || term.left !== undefined) continue
    if (term.right.kind === 'string' && isOpamVersion(term.right.value)) return term.right.value
  }
  return undefined
}

/** `?vendor` */
function isVendor(term: OpamValue): boolean {
  return (
    term.kind === 'prefix' &&
    term.operator === '?' &&
    term.operand.kind === 'identifier' &&
    term.operand.value === 'vendor'
  )
}

/** Parses the lists of a package with its version and the URL of its source: opam manual, "pin-depends". */
function listPins(items: readonly OpamItem[], problems: OpamProblems): LockPin[] {
  const field = findField(items, 'pin-depends', problems)
  const entries =
    field === undefined ? [] : entriesOf(field.value, OPAM_PACKAGES_MAX, 'pinned packages')
  const found = new Map<string, LockPin>()
  for (const entry of entries) {
    const [first, second, ...others] = entry.kind === 'list' ? entry.values : []
    if (!first || !second || others.length > 0) {
      problems.add(entry, 'expected a list of a package and a URL')
      continue
    }
    const one = findWord(first, findOpamPackage, 'name.version of a package', problems)
    const url = findUrl(second, problems)
    if (one === undefined || url === undefined) continue
    if (found.has(one.name)) problems.add(first, `${one.name} is pinned twice`)
    else found.set(one.name, { ...one, url })
  }
  return [...found.values()].toSorted(byName)
}

import {
  entriesOf,
  findLabel,
  LABEL_CHARACTERS_MAX,
  listVendored,
  type VendoredSource,
} from './duniverse.ts'
import {
  byName,
  findField,
  findProse,
  findUrl,
  findWord,
  listChecksums,
  listSections,
  listWords,
  type OpamProblems,
} from './fields.ts'
import { isOpamName, isOpamVersion, OPAM_PACKAGES_MAX, type OpamSource } from './package.ts'
import type { OpamItem, OpamSection, OpamValue, Position } from './value.ts'

// One string of an `x-mirage-` field: a command, at most a script.
export const EXTENSION_CHARACTERS_MAX = 64 * 1024
// opam's own rule is one line; the longest of opam-repository has 200 characters.
export const SYNOPSIS_CHARACTERS_MAX = 1000
export const DESCRIPTION_CHARACTERS_MAX = 64 * 1024

/** A field value as JSON. An identifier, such as `make`, is its name. */
export type PlainValue = string | number | boolean | readonly PlainValue[]

/** A file that is added to the source tree of a package: opam manual, `extra-source`. */
export type ExtraSource = OpamSource & { readonly name: string }

/** The dependencies of a package that is vendored or used by vendored ones, recorded by orb. */
export type OrbDependencies = { readonly name: string; readonly dependsOn: readonly string[] }

/** A field whose name begins with `x-mirage-`. */
export type MirageField = { readonly name: string; readonly value: PlainValue }

/** The synopsis and the description of a package: opam manual. */
export type OpamAbout = {
  /** One line. */
  readonly synopsis: string | undefined
  readonly description: string | undefined
}

/**
 * The parsed `package` section of a package, as far as the registry needs it. Lists are by name.
 */
export type OpamDefinition = Position & {
  readonly name: string
  readonly version: string | undefined
  /** One line about the package: opam manual, `synopsis`. */
  readonly synopsis: string | undefined
  readonly description: string | undefined
  /** Undefined for packages without a source, such as `conf-` packages. */
  readonly source: OpamSource | undefined
  readonly extraSources: readonly ExtraSource[]
  readonly mirage: readonly MirageField[]
  readonly duniverse: readonly VendoredSource[]
  readonly dependencies: readonly OrbDependencies[]
}

/** Parses a `package` section. Undefined, with a problem, when the package has no name. */
export function findDefinition(
  section: OpamSection,
  problems: OpamProblems,
): OpamDefinition | undefined {
  const { items, line, column } = section
  const name = findName(section, problems)
  if (name === undefined) return undefined
  const version = findField(items, 'version', problems)
  const isVersion = (text: string) => (isOpamVersion(text) ? text : undefined)
  const [url, ...others] = listSections(items, 'url')
  for (const other of others) problems.add(other, 'a second url section')
  const duniverse = findField(items, 'x-opam-monorepo-duniverse-dirs', problems)
  const dependencies = findField(items, 'x-orb-dependencies', problems)
  return {
    line,
    column,
    name,
    version: version && findWord(version.value, isVersion, 'version', problems),
    synopsis: findProse(items, 'synopsis', SYNOPSIS_CHARACTERS_MAX, problems),
    description: findProse(items, 'description', DESCRIPTION_CHARACTERS_MAX, problems),
    source: url && findSource(url, problems),
    extraSources: listExtraSources(items, problems),
    mirage: listMirageFields(items, problems),
    duniverse: duniverse ? listVendored(duniverse.value, problems) : [],
    dependencies: dependencies ? listDependencies(dependencies.value, problems) : [],
  }
}

const findPackageName = (text: string) => (isOpamName(text) ? text : undefined)

function findName(section: OpamSection, problems: OpamProblems): string | undefined {
  const field = findField(section.items, 'name', problems)
  if (section.name === undefined && field) {
    return findWord(field.value, findPackageName, 'package name', problems)
  }
  const name = findPackageName(section.name ?? '')
  if (name === undefined) problems.add(section, 'a package section without a package name')
  return name
}

// opam 1.2 wrote the kind of the source as the name of the field: opam manual, "url".
const SOURCE_FIELDS: Readonly<Record<string, (url: string) => string>> = {
  src: (url) => url,
  archive: (url) => url,
  http: (url) => url,
  git: (url) => withVcs('git', url),
  hg: (url) => withVcs('hg', url),
  darcs: (url) => withVcs('darcs', url),
  local: (path) => (path.startsWith('/') ? `file://${path}` : path),
}

function withVcs(vcs: string, url: string): string {
  return url.startsWith(`${vcs}+`) || url.startsWith(`${vcs}:`) ? url : `${vcs}+${url}`
}

/** Parses the fields of a `url` or `extra-source` section: opam manual, "url". */
export function findSource({ items, line, column }: OpamSection, problems: OpamProblems) {
  const found = Object.entries(SOURCE_FIELDS).flatMap(([name, urlOf]) => {
    const field = findField(items, name, problems)
    return field === undefined ? [] : [{ field, urlOf }]
  })
  const [{ field, urlOf } = {}] = found
  const checksum = findField(items, 'checksum', problems)
  const checksums = checksum ? listChecksums(checksum.value, problems) : []
  if (!field) problems.add({ line, column }, 'a source without src')
  const url = field && findUrl(field.value, problems)
  return url === undefined || !urlOf ? undefined : { url: urlOf(url), checksums }
}

function listExtraSources(items: readonly OpamItem[], problems: OpamProblems): ExtraSource[] {
  const found = new Map<string, ExtraSource>()
  for (const section of listSections(items, 'extra-source')) {
    const name = findLabel(section.name ?? '')
    const source = findSource(section, problems)
    if (name === undefined) problems.add(section, 'an extra-source without the name of a file')
    else if (found.has(name)) problems.add(section, 'a second extra-source for this file')
    else if (source) found.set(name, { name, ...source })
  }
  return [...found.values()].toSorted(byName)
}

/** Lists the fields whose names begin with `x-mirage-`, by name. */
export function listMirageFields(
  items: readonly OpamItem[],
  problems: OpamProblems,
): MirageField[] {
  const found = new Map<string, MirageField>()
  for (const item of items) {
    if (item.kind !== 'field' || !item.name.startsWith('x-mirage-')) continue
    const value = findPlain(item.value)
    if (item.name.length > LABEL_CHARACTERS_MAX || value === undefined) {
      problems.add(item, 'a field may have only lists of simple values')
    } else if (found.has(item.name)) problems.add(item, `a second ${item.name} field`)
    else found.set(item.name, { name: item.name, value })
  }
  return [...found.values()].toSorted(byName)
}

/** Undefined when it has more than lists of atoms, or a value that JSON or Postgres cannot hold. */
function findPlain(value: OpamValue): PlainValue | undefined {
  switch (value.kind) {
    case 'boolean':
      return value.value
    case 'integer':
      return Number.isSafeInteger(value.value) ? value.value : undefined
    case 'string':
    case 'identifier':
      return value.value.length > EXTENSION_CHARACTERS_MAX || /[\0\p{Cs}]/u.test(value.value)
        ? undefined
        : value.value
    case 'list': {
      const values: PlainValue[] = []
      for (const part of value.values) {
        const plain = findPlain(part)
        if (plain === undefined) return undefined
        values.push(plain)
      }
      return values
    }
    default:
      return undefined
  }
}

/** Parses orb's lists of a package's name and the names of its dependencies. */
function listDependencies(value: OpamValue, problems: OpamProblems): OrbDependencies[] {
  const found = new Map<string, OrbDependencies>()
  for (const entry of entriesOf(value, OPAM_PACKAGES_MAX, 'packages')) {
    const [first, second, ...rest] = entry.kind === 'list' ? entry.values : []
    if (!first || !second || rest.length > 0) {
      problems.add(entry, 'expected a list of a package and its dependencies')
      continue
    }
    const name = findWord(first, findPackageName, 'package name', problems)
    const dependsOn = listWords(second, findPackageName, 'package name', problems)
    if (name === undefined) continue
    if (found.has(name)) problems.add(first, 'a second list for this package')
    else found.set(name, { name, dependsOn: [...new Set(dependsOn)].toSorted() })
  }
  return [...found.values()].toSorted(byName)
}

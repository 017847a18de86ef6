import {
  type ExtraSource,
  findDefinition,
  type MirageField,
  type OpamAbout,
  type OpamDefinition,
  type OrbDependencies,
} from './definition.ts'
import type { VendoredSource } from './duniverse.ts'
import {
  byName,
  findField,
  findOpamVersion,
  findWord,
  listSections,
  type OpamProblem,
  OpamProblems,
  valuesOf,
} from './fields.ts'
import { MalformedOpamError } from './lexer.ts'
import { findOpamPackage, OPAM_PACKAGES_MAX, type OpamPackage, type OpamSource } from './package.ts'
import { parseOpam } from './parser.ts'
import type { OpamItem, Position } from './value.ts'

/** A package of a switch. */
export type InstalledPackage = OpamPackage & {
  /** Pinned to a version or a source: opam manual, "Pinning". */
  readonly pinned: boolean
  /** Undefined for packages without a source, and for those that the export does not describe. */
  readonly source: OpamSource | undefined
  /** By name. */
  readonly extraSources: readonly ExtraSource[]
}

/** A field of a package's section, with the name of the package. */
export type FromPackage<T> = T & { readonly package: string }

/**
 * The checked content of `opam switch export --full --freeze`. Lists are by name, without
 * duplicates.
 */
export type OpamSwitch = {
  readonly opamVersion: string | undefined
  /** Packages that cannot be removed. */
  readonly compiler: readonly OpamPackage[]
  /** The requested packages, such as the unikernel itself. */
  readonly roots: readonly OpamPackage[]
  /** Undefined when no root is described. */
  readonly about: OpamAbout | undefined
  readonly pinned: readonly OpamPackage[]
  readonly installed: readonly InstalledPackage[]
  /** By package, then by folder. */
  readonly duniverse: readonly FromPackage<VendoredSource>[]
  /** By package, then by name. */
  readonly mirage: readonly FromPackage<MirageField>[]
  /** By package, then by name. */
  readonly dependencies: readonly FromPackage<OrbDependencies>[]
  /** Parts that could not be parsed and were left out, in the order of the file. */
  readonly problems: readonly OpamProblem[]
}

// `invariant` constrains installations, `extra-files` has patches by their hashes: both are
// ignored.
const FIELDS = [
  'opam-version',
  'compiler',
  'roots',
  'installed',
  'pinned',
  'invariant',
  'extra-files',
]

/**
 * Parses an opam switch export: opam manual, "switch-export" and "switch-state", and the `x-`
 * fields of mirage, opam-monorepo and orb. Parts that cannot be parsed are in `problems`. Throws
 * MalformedOpamError, with the position, for a file that is not in the opam format or beyond its
 * limits.
 */
export function parseOpamSwitch(source: Uint8Array | string): OpamSwitch {
  const problems = new OpamProblems()
  const items = parseOpam(source, problems)
  const compiler = listPackages(items, 'compiler', problems)
  const roots = listPackages(items, 'roots', problems)
  const pinned = listPackages(items, 'pinned', problems)
  const installed = listPackages(items, 'installed', problems)
  for (const found of [...compiler.values(), ...roots.values()]) {
    if (installed.get(found.name)?.version === found.version) continue
    problems.add(found, `${found.name}.${found.version} is not among the installed packages`)
  }
  const definitions = listDefinitions(
    items,
    (name) => installed.get(name) ?? pinned.get(name),
    problems,
  )
  const undescribed = [...installed.values()].filter(({ name }) => !definitions.has(name))
  const [first] = undescribed
  if (first) {
    problems.add(
      first,
      `${undescribed.length} installed packages are not described, such as ${first.name}; opam switch export --full describes all except those pinned to a version`,
    )
  }
  reportUnknown(items, problems)
  const all = [...definitions.values()].toSorted(byName)
  const plain = ({ name, version }: OpamPackage) => ({ name, version })
  return {
    opamVersion: findOpamVersion(items, problems),
    compiler: [...compiler.values()].map(plain),
    roots: [...roots.values()].map(plain),
    about: findAbout(all.filter(({ name }) => roots.has(name))),
    pinned: [...pinned.values()].map(plain),
    installed: [...installed.values()].map(({ name, version }) => ({
      name,
      version,
      pinned: pinned.has(name),
      source: definitions.get(name)?.source,
      extraSources: definitions.get(name)?.extraSources ?? [],
    })),
    duniverse: all.flatMap(({ name, duniverse }) => duniverse.map(withPackage(name))),
    mirage: all.flatMap(({ name, mirage }) => mirage.map(withPackage(name))),
    dependencies: all.flatMap(({ name, dependencies }) => dependencies.map(withPackage(name))),
    problems: problems.list(),
  }
}

/** Among several roots the unikernel is the one that mirage configured, or else the first that has a text. */
function findAbout(roots: readonly OpamDefinition[]): OpamAbout | undefined {
  const hasText = ({ synopsis, description }: OpamDefinition) =>
    synopsis !== undefined || description !== undefined
  const root = roots.find(({ mirage }) => mirage.length > 0) ?? roots.find(hasText)
  if (root === undefined || !hasText(root)) return undefined
  const { synopsis, description } = root
  return { synopsis, description }
}

function withPackage(name: string) {
  return <T>(field: T): FromPackage<T> => ({ package: name, ...field })
}

/** Lists the packages of a field, in the order of names. */
function listPackages(
  items: readonly OpamItem[],
  name: string,
  problems: OpamProblems,
): Map<string, OpamPackage & Position> {
  const found = new Map<string, OpamPackage & Position>()
  const field = findField(items, name, problems)
  const values = field ? valuesOf(field.value) : []
  if (field && values.length > OPAM_PACKAGES_MAX) {
    const problem = `${name} has ${values.length} packages: at most ${OPAM_PACKAGES_MAX} are allowed`
    throw new MalformedOpamError(field, problem)
  }
  for (const value of values) {
    const { line, column } = value
    const one = findWord(value, findOpamPackage, 'name.version of a package', problems)
    if (one && found.has(one.name)) problems.add(value, `a second version of ${one.name}`)
    else if (one) found.set(one.name, { ...one, line, column })
  }
  return new Map([...found].toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

/** Returns the parsed sections by package name, where they describe the installed version. */
function listDefinitions(
  items: readonly OpamItem[],
  findInstalled: (name: string) => OpamPackage | undefined,
  problems: OpamProblems,
): Map<string, OpamDefinition> {
  const found = new Map<string, OpamDefinition>()
  for (const section of listSections(items, 'package')) {
    const definition = findDefinition(section, problems)
    if (!definition) continue
    const { name, version } = definition
    const installed = findInstalled(name)
    if (!installed) problems.add(section, `${name} is described but not installed`)
    else if (version !== undefined && version !== installed.version) {
      problems.add(
        section,
        `version ${version} is described, but ${installed.version} is installed`,
      )
    } else if (found.has(name)) problems.add(section, `a second section of ${name}`)
    else found.set(name, definition)
  }
  return found
}

function reportUnknown(items: readonly OpamItem[], problems: OpamProblems): void {
  for (const item of items) {
    if (item.kind === 'field') {
      if (!FIELDS.includes(item.name)) problems.add(item, 'unknown field in a switch export')
    } else if (item.type !== 'package') {
      problems.add(item, 'unknown section in a switch export')
    }
  }
}

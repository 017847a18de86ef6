import type { SystemPackages } from './host/system-packages.ts'
import type { AnalyzedRole, LayerAnalysis } from './layer-analysis.ts'
import { SOURCES_MAX, type VendoredSource } from './opam/duniverse.ts'
import type { OpamLock } from './opam/lock.ts'
import { findRepository, sourceDigest, sourceKeys } from './opam/source-keys.ts'
import type { InstalledPackage, OpamSwitch } from './opam/switch.ts'
import { inferPackages } from './opam/vendored.ts'
import { ecosystemOf } from './versions/orders.ts'

/**
 * How a package and its version are known, the most certain first: `installed`, `lock` (a lock file), `index` (an opam
 * repository has it with the checksum or URL of the source), `inferred` (the name is in the graph of the build and the version in
 * that of the archive), `unknown` (nothing says the version).
 */
export const BASES = ['installed', 'lock', 'index', 'inferred', 'unknown'] as const
export type Basis = (typeof BASES)[number]

/** A package in a list. */
export type ListedPackage = {
  readonly ecosystem: string
  readonly name: string
  /** UNKNOWN_VERSION when nothing says it. */
  readonly version: string
  readonly basis: Basis
  /** The ordinal of the vendored source that holds it, or null. */
  readonly source: number | null
  /** False for a guess from the name of an archive or a folder. */
  readonly isNamed: boolean
}

/** A source in a list: vendored, or that of an installed package. */
export type ListedSource = {
  readonly ordinal: number
  /** Empty for the source of an installed package. */
  readonly directory: string
  readonly url: string
  /** Such as `github.com/mirage/mirage`. */
  readonly repository: string | null
  readonly checksums: readonly string[]
  /** Identify its bytes: checksums, commit and URL. Empty where the package is known without the index. */
  readonly keys: readonly string[]
  /** SHA-256 of URL and checksums. */
  readonly digest: string
  /** The installed package that it is the source of. Null for a vendored source. */
  readonly packageName: string | null
  readonly packageVersion: string | null
}

/** The packages in the analysis of a blob. */
export type PackageList = {
  readonly packages: readonly ListedPackage[]
  readonly sources: readonly ListedSource[]
  /** The packages of the build, by graph or lock file: of the packages in a source, only these are inside. */
  readonly names: readonly string[]
}

/** The version of a package whose version is unknown. No package manager has an empty version. */
export const UNKNOWN_VERSION = ''

const NOTHING: PackageList = { packages: [], sources: [], names: [] }

const LISTS: readonly string[] = [
  'opam-switch',
  'opam-lock',
  'system-packages',
] satisfies AnalyzedRole[]

/** True for a role whose blobs list packages. */
export function isPackageList(role: string): boolean {
  return LISTS.includes(role)
}

/** Lists the packages in the analysis of a blob, each name and version once, and their sources. */
export function listPackages(role: AnalyzedRole, { value }: LayerAnalysis): PackageList {
  if (value === undefined || !isPackageList(role)) return NOTHING
  if (role === 'opam-switch' && 'installed' in value) return switchPackages(value)
  if (role === 'opam-lock' && 'locked' in value) return lockPackages(value)
  if (role === 'system-packages' && 'manager' in value) return systemPackages(value)
  return NOTHING
}

/** A unikernel contains the installed packages and the vendored sources. */
function switchPackages({ installed, duniverse, dependencies }: OpamSwitch): PackageList {
  const versions = new Map(installed.map(({ name, version }) => [name, version]))
  const names = new Set(dependencies.flatMap(({ name, dependsOn }) => [name, ...dependsOn]))
  const inferred = inferPackages(duniverse, names, (name) => versions.has(name))
  return {
    packages: distinct([
      ...installed.map(({ name, version }) => fact(name, version, 'installed')),
      ...inferred.map(({ name, version, source, isNamed }) =>
        fact(name, version, 'inferred', source, isNamed),
      ),
    ]),
    sources: [...duniverse.map(sourceOf), ...installedSources(installed, duniverse.length)],
    names: [...names],
  }
}

/** Lists the sources of installed packages, at most SOURCES_MAX, with ordinals from `first`. */
function installedSources(installed: readonly InstalledPackage[], first: number): ListedSource[] {
  return installed
    .flatMap(({ name, version, source, extraSources }) =>
      [...(source === undefined ? [] : [source]), ...extraSources].map((one) => ({
        ...one,
        packageName: name,
        packageVersion: version,
      })),
    )
    .slice(0, SOURCES_MAX)
    .map(({ url, checksums, packageName, packageVersion }, index) => ({
      ...sourceOf({ url, checksums, directory: '' }, first + index),
      keys: [],
      packageName,
      packageVersion,
    }))
}

/** A lock file names each package with its version. */
function lockPackages({ locked, pins, duniverse }: OpamLock): PackageList {
  const names = new Set(locked.map(({ name }) => name))
  const installed = new Set(locked.flatMap(({ name, vendored }) => (vendored ? [] : [name])))
  const inferred = inferPackages(duniverse, names, (name) => installed.has(name))
  const sources = new Map(inferred.map(({ name, source }) => [name, source]))
  const byUrl = new Map(duniverse.map(({ url }, ordinal) => [url, ordinal]))
  const pinned = new Map(pins.map(({ name, url }) => [name, byUrl.get(url)]))
  return {
    packages: distinct([
      ...locked.map(({ name, version, vendored }) => {
        const source = vendored ? (pinned.get(name) ?? sources.get(name)) : undefined
        return fact(name, version, version === undefined ? 'unknown' : 'lock', source)
      }),
      ...inferred.flatMap(({ name, version, source, isNamed }) =>
        names.has(name) ? [] : [fact(name, version, 'inferred', source, isNamed)],
      ),
    ]),
    sources: duniverse.map(sourceOf),
    names: [...names],
  }
}

function systemPackages({ manager, packages }: SystemPackages): PackageList {
  if (manager === undefined) return NOTHING
  const ecosystem = ecosystemOf(manager)
  // A package for two architectures is listed twice.
  const listed = packages.map(({ name, version }) => ({
    ...fact(name, version, 'installed'),
    ecosystem,
  }))
  return { ...NOTHING, packages: distinct(listed) }
}

function fact(
  name: string,
  version: string | undefined,
  basis: Basis,
  source?: number,
  isNamed = true,
): ListedPackage {
  return {
    ecosystem: 'opam',
    name,
    version: version ?? UNKNOWN_VERSION,
    basis: version === undefined ? 'unknown' : basis,
    source: source ?? null,
    isNamed,
  }
}

function sourceOf(source: VendoredSource, ordinal: number): ListedSource {
  const { directory, url, checksums } = source
  return {
    ordinal,
    directory,
    url,
    repository: findRepository(url) ?? null,
    checksums,
    keys: sourceKeys(source),
    digest: sourceDigest(source),
    packageName: null,
    packageVersion: null,
  }
}

/** Joins the facts of a name and version: the most certain basis, and any source. */
function distinct(packages: readonly ListedPackage[]): ListedPackage[] {
  const found = new Map<string, ListedPackage>()
  for (const one of packages) {
    const key = `${one.name} ${one.version}`
    const other = found.get(key)
    found.set(key, other === undefined ? one : joined(other, one))
  }
  return [...found.values()]
}

function joined(a: ListedPackage, b: ListedPackage): ListedPackage {
  const [first, second] = BASES.indexOf(a.basis) <= BASES.indexOf(b.basis) ? [a, b] : [b, a]
  return { ...first, source: first.source ?? second.source, isNamed: a.isNamed || b.isNamed }
}

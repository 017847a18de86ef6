import type { ExtraSource } from '../opam/definition.ts'
import type { VendoredSource } from '../opam/duniverse.ts'
import type { FromPackage, InstalledPackage, OpamSwitch } from '../opam/switch.ts'
import { type Differences, differences, directionOf, type ValueChange } from './differences.ts'
import { type Bytes, compareBytes } from './sources.ts'

/** A package by its name and version. */
export type PackageVersion = { readonly name: string; readonly version: string }

/**
 * An aspect of a package that differs although the version is the same. `checksums`: other bytes;
 * `no-common-checksum`: both sides have no kind of checksum in common, so that nobody knows.
 */
export type Aspect = 'url' | 'checksums' | 'no-common-checksum' | 'extra-sources' | 'pinned'

/** A package on both sides with another version, or with another source or other bytes. */
export type ChangedPackage = {
  readonly name: string
  readonly version: ValueChange<string>
  readonly direction: 'upgrade' | 'downgrade' | undefined
  /** Aspects other than the version. Empty for another version, which always has another source. */
  readonly aspects: readonly Aspect[]
  /** Only when there are aspects. */
  readonly source?: ValueChange<InstalledPackage['source']>
}

/** Sources that were built with the unikernel, with another URL or other bytes. */
export type ChangedSource = {
  readonly package: string
  readonly directory: string
  readonly url: ValueChange<string>
  readonly bytes: Bytes
  readonly checksums: ValueChange<readonly string[]>
}

export type OpamComparison = {
  readonly packages: Differences<PackageVersion, ChangedPackage>
  readonly roots: Differences<PackageVersion, PackageVersion & { readonly from: string }>
  readonly compiler: Differences<PackageVersion, PackageVersion & { readonly from: string }>
  /** Sources below `duniverse`. */
  readonly vendored: Differences<FromPackage<VendoredSource>, ChangedSource>
}

/** Compares two switches: packages, roots, the compiler, and vendored sources. */
export function compareSwitches(from: OpamSwitch, to: OpamSwitch): OpamComparison {
  const name = (one: { name: string }) => one.name
  const packages = differences(from.installed, to.installed, name, changedPackage)
  return {
    packages: {
      added: packages.added.map(plain),
      removed: packages.removed.map(plain),
      changed: packages.changed,
    },
    roots: differences(from.roots, to.roots, name, changedVersion),
    compiler: differences(from.compiler, to.compiler, name, changedVersion),
    vendored: differences(
      from.duniverse,
      to.duniverse,
      (source) => `${source.package} ${source.directory}`,
      changedSource,
    ),
  }
}

const plain = ({ name, version }: PackageVersion) => ({ name, version })

function changedVersion(from: PackageVersion, to: PackageVersion) {
  return from.version === to.version ? undefined : { ...plain(to), from: from.version }
}

function changedPackage(from: InstalledPackage, to: InstalledPackage): ChangedPackage | undefined {
  const aspects = aspectsOf(from, to)
  if (from.version === to.version && aspects.length === 0) return undefined
  return {
    name: to.name,
    version: { from: from.version, to: to.version },
    direction: directionOf('opam', from.version, to.version),
    aspects,
    ...(aspects.length === 0 ? {} : { source: { from: from.source, to: to.source } }),
  }
}

function aspectsOf(from: InstalledPackage, to: InstalledPackage): Aspect[] {
  const pinned: Aspect[] = from.pinned === to.pinned ? [] : ['pinned']
  if (from.version !== to.version) return pinned
  const bytes = compareBytes(from.source, to.source)
  return [
    ...(from.source?.url === to.source?.url ? [] : ['url' as const]),
    ...(bytes === 'other' ? ['checksums' as const] : []),
    ...(bytes === 'unknown' && hasChecksums(from, to) ? ['no-common-checksum' as const] : []),
    ...(equalExtras(from.extraSources, to.extraSources) ? [] : ['extra-sources' as const]),
    ...pinned,
  ]
}

function hasChecksums(from: InstalledPackage, to: InstalledPackage): boolean {
  const sides = [from.source, to.source]
  return (
    sides.every((source) => source !== undefined) &&
    sides.some((source) => source?.checksums.length !== 0)
  )
}

/** Both are in the order of names. */
function equalExtras(from: readonly ExtraSource[], to: readonly ExtraSource[]): boolean {
  if (from.length !== to.length) return false
  return from.every((one, index) => {
    const other = to[index]
    const isSame = one.name === other?.name && one.url === other.url
    return isSame && compareBytes(one, other) === 'same'
  })
}

function changedSource(
  from: FromPackage<VendoredSource>,
  to: FromPackage<VendoredSource>,
): ChangedSource | undefined {
  const bytes = compareBytes(from, to)
  if (from.url === to.url && bytes === 'same') return undefined
  return {
    package: to.package,
    directory: to.directory,
    url: { from: from.url, to: to.url },
    bytes,
    checksums: { from: from.checksums, to: to.checksums },
  }
}

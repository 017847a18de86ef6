import type { ImagePackage } from '../image-packages.ts'
import type { ExtraSource } from '../opam/definition.ts'
import type { InstalledPackage } from '../opam/switch.ts'
import type { Basis } from '../package-lists.ts'
import { type Differences, directionOf, type ValueChange } from './differences.ts'
import { compareBytes } from './sources.ts'

/** A package of one image only. */
export type ComparedPackage = {
  readonly name: string
  /** Null when it is unknown. */
  readonly version: string | null
  readonly basis: Basis
}

/**
 * An aspect of a package that differs although the version is the same. `checksums`: other bytes;
 * `no-common-checksum`: both sides have no kind of checksum in common, so that nobody knows.
 */
export type Aspect = 'url' | 'checksums' | 'no-common-checksum' | 'extra-sources' | 'pinned'

/** A package on both sides with another version, or with another source or other bytes. */
export type ChangedPackage = {
  readonly name: string
  /** Null on a side where it is unknown. */
  readonly version: ValueChange<string | null>
  readonly basis: ValueChange<Basis>
  readonly direction: 'upgrade' | 'downgrade' | undefined
  /** Aspects other than the version. Empty for another version, which always has another source. */
  readonly aspects: readonly Aspect[]
  /** Only when there are aspects. */
  readonly source?: ValueChange<InstalledPackage['source']>
}

type Side = {
  readonly packages: readonly ImagePackage[]
  readonly installed: readonly InstalledPackage[]
}

/**
 * Compares the packages of two images by name: one version on one side and another one on the other side are a change.
 * Packages whose version is the same on both sides are compared by their aspects, when both are installed. Linear, except for
 * sorting.
 */
export function comparePackages(
  from: Side,
  to: Side,
): Differences<ComparedPackage, ChangedPackage> {
  const before = byName(from.packages)
  const after = byName(to.packages)
  const wasInstalled = new Map(from.installed.map((one) => [one.name, one]))
  const isInstalled = new Map(to.installed.map((one) => [one.name, one]))
  const found = {
    added: [] as ComparedPackage[],
    removed: [] as ComparedPackage[],
    changed: [] as ChangedPackage[],
  }
  for (const name of [...new Set([...before.keys(), ...after.keys()])].toSorted()) {
    const was = before.get(name) ?? []
    const is = after.get(name) ?? []
    const gone = was.filter(({ version }) => !is.some((one) => one.version === version))
    const come = is.filter(({ version }) => !was.some((one) => one.version === version))
    const sides = [wasInstalled.get(name), isInstalled.get(name)] as const
    for (const one of is) {
      const same = was.find(({ version }) => version === one.version)
      const change = same && changeOf(same, one, ...sides)
      if (change !== undefined && change.aspects.length > 0) found.changed.push(change)
    }
    const [only, ...others] = gone
    const [next, ...more] = come
    if (only !== undefined && next !== undefined && others.length + more.length === 0) {
      found.changed.push(changeOf(only, next, ...sides))
    } else {
      found.removed.push(...gone.map(plain))
      found.added.push(...come.map(plain))
    }
  }
  return found
}

const plain = ({ name, version, basis }: ImagePackage): ComparedPackage => ({
  name,
  version,
  basis,
})

function byName(packages: readonly ImagePackage[]): Map<string, ImagePackage[]> {
  const found = new Map<string, ImagePackage[]>()
  for (const one of packages) {
    const group = found.get(one.name)
    if (group === undefined) found.set(one.name, [one])
    else group.push(one)
  }
  return found
}

function changeOf(
  from: ImagePackage,
  to: ImagePackage,
  wasInstalled: InstalledPackage | undefined,
  isInstalled: InstalledPackage | undefined,
): ChangedPackage {
  const areBoth = from.basis === 'installed' && to.basis === 'installed'
  const aspects = areBoth && wasInstalled && isInstalled ? aspectsOf(wasInstalled, isInstalled) : []
  const areKnown = from.version !== null && to.version !== null
  return {
    name: to.name,
    version: { from: from.version, to: to.version },
    basis: { from: from.basis, to: to.basis },
    direction: areKnown ? directionOf('opam', from.version ?? '', to.version ?? '') : undefined,
    aspects,
    ...(aspects.length === 0
      ? {}
      : { source: { from: wasInstalled?.source, to: isInstalled?.source } }),
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

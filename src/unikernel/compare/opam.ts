import type { UnikernelImage } from '../image.ts'
import type { ImagePackage } from '../image-packages.ts'
import type { VendoredSource } from '../opam/duniverse.ts'
import type { FromPackage, InstalledPackage } from '../opam/switch.ts'
import { type Differences, differences, type ValueChange } from './differences.ts'
import { type ChangedPackage, type ComparedPackage, comparePackages } from './packages.ts'
import { type Bytes, compareBytes } from './sources.ts'

/** A package by its name and version. */
export type PackageVersion = { readonly name: string; readonly version: string }

/** Sources that were built with the unikernel, with another URL or other bytes. */
export type ChangedSource = {
  readonly package: string
  readonly directory: string
  readonly url: ValueChange<string>
  readonly bytes: Bytes
  readonly checksums: ValueChange<readonly string[]>
}

export type OpamComparison = {
  readonly packages: Differences<ComparedPackage, ChangedPackage>
  readonly roots: Differences<PackageVersion, PackageVersion & { readonly from: string }>
  readonly compiler: Differences<PackageVersion, PackageVersion & { readonly from: string }>
  /** Sources below `duniverse`. */
  readonly vendored: Differences<FromPackage<VendoredSource>, ChangedSource>
}

/** The lists of an image that are compared. */
export type OpamSide = {
  /** Packages of opam. */
  readonly packages: readonly ImagePackage[]
  readonly installed: readonly InstalledPackage[]
  readonly roots: readonly PackageVersion[]
  readonly compiler: readonly PackageVersion[]
  readonly duniverse: readonly FromPackage<VendoredSource>[]
}

/** Returns the lists of the switch and the lock file; undefined when the image has neither. */
export function opamSideOf(
  { opamSwitch, opamLock }: UnikernelImage,
  packages: readonly ImagePackage[],
): OpamSide | undefined {
  if (opamSwitch === undefined && opamLock === undefined) return undefined
  const { installed = [], roots = [], compiler = [], duniverse = [] } = opamSwitch ?? {}
  const folders = new Set(duniverse.map(({ directory }) => directory))
  const [owner = ''] = opamLock?.roots ?? []
  const locked = (opamLock?.duniverse ?? []).filter(({ directory }) => !folders.has(directory))
  return {
    packages: packages.filter(({ ecosystem }) => ecosystem === 'opam'),
    ...{ installed, roots, compiler },
    duniverse: [...duniverse, ...locked.map((source) => ({ package: owner, ...source }))],
  }
}

/** Compares packages, roots, the compiler, and vendored sources. */
export function compareOpam(from: OpamSide, to: OpamSide): OpamComparison {
  const name = (one: { name: string }) => one.name
  const vendored = differences(
    from.duniverse,
    to.duniverse,
    (source) => `${source.package} ${source.directory}`,
    changedSource,
  )
  return {
    packages: comparePackages(from, to),
    roots: differences(from.roots, to.roots, name, changedVersion),
    compiler: differences(from.compiler, to.compiler, name, changedVersion),
    vendored: {
      added: vendored.added.map(plainSource),
      removed: vendored.removed.map(plainSource),
      changed: vendored.changed,
    },
  }
}

function plainSource(source: FromPackage<VendoredSource>): FromPackage<VendoredSource> {
  const { package: owner, directory, url, checksums } = source
  return { package: owner, directory, url, checksums }
}

const plain = ({ name, version }: PackageVersion) => ({ name, version })

function changedVersion(from: PackageVersion, to: PackageVersion) {
  return from.version === to.version ? undefined : { ...plain(to), from: from.version }
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

import type { UnikernelImage } from './image.ts'
import type { AnalyzedRole, LayerAnalysis } from './layer-analysis.ts'
import { type Basis, listPackages } from './package-lists.ts'

/** A package of an image, and how it is known. */
export type ImagePackage = {
  readonly ecosystem: string
  readonly name: string
  /** Null when nothing says it. */
  readonly version: string | null
  readonly basis: Basis
  /** The vendored source that holds it; null for an installed package, and where none is known to hold it. */
  readonly source: ImagePackageSource | null
}

export type ImagePackageSource = {
  readonly directory: string
  readonly url: string
  readonly checksums: readonly string[]
}

/**
 * Lists the packages of an image, each name and version once, by ecosystem, name and version, as far as the image itself says
 * it: without the index of a registry, no package has the basis `index`. A package in the lock file counts before the
 * vendored one of its name in the switch export.
 */
export function listKnownPackages(
  image: Pick<UnikernelImage, 'opamSwitch' | 'opamLock' | 'systemPackages'>,
): ImagePackage[] {
  const found = new Map<string, ImagePackage>()
  const locked = packagesOf('opam-lock', image.opamLock)
  const lockedNames = new Set(locked.map(({ name }) => name))
  const others = [
    ...packagesOf('opam-switch', image.opamSwitch),
    ...packagesOf('system-packages', image.systemPackages),
  ].filter(
    ({ ecosystem, name, basis }) =>
      basis === 'installed' || ecosystem !== 'opam' || !lockedNames.has(name),
  )
  for (const one of [...locked, ...others]) {
    const key = `${one.ecosystem} ${one.name} ${one.version ?? ''}`
    const kept = found.get(key)
    if (kept === undefined) found.set(key, one)
    else if (kept.source === null) found.set(key, { ...kept, source: one.source })
  }
  return [...found].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one)
}

function packagesOf(role: AnalyzedRole, value: LayerAnalysis['value']): ImagePackage[] {
  const list = listPackages(role, { value, problem: undefined, sha256: undefined })
  return list.packages.map(({ ecosystem, name, version, basis, source }) => {
    const vendored = source === null ? undefined : list.sources[source]
    return {
      ecosystem,
      name,
      version: version === '' ? null : version,
      basis,
      source:
        vendored === undefined
          ? null
          : {
              directory: vendored.directory,
              url: vendored.url,
              checksums: vendored.checksums,
            },
    }
  })
}

import type { SystemPackages } from './host/system-packages.ts'
import type { AnalyzedRole, LayerAnalysis } from './layer-analysis.ts'
import type { OpamSwitch } from './opam/switch.ts'
import { findVendoredPackage } from './opam/vendored.ts'
import { ecosystemOf } from './versions/orders.ts'

/** A package in a list. */
export type ListedPackage = {
  readonly ecosystem: string
  readonly name: string
  readonly version: string
}

/** The version of a package whose version is unknown. No package manager has an empty version. */
export const UNKNOWN_VERSION = ''

/** Lists the packages in the analysis of a blob, without duplicates. */
export function listPackages(role: AnalyzedRole, { value }: LayerAnalysis): ListedPackage[] {
  if (value === undefined) return []
  if (role === 'opam-switch' && 'installed' in value) return opamPackages(value)
  if (role === 'system-packages' && 'manager' in value) return systemPackages(value)
  return []
}

/** A unikernel contains the installed packages and the vendored sources. */
function opamPackages({ installed, duniverse }: OpamSwitch): ListedPackage[] {
  const vendored = duniverse.flatMap((source) => {
    const found = findVendoredPackage(source)
    return found === undefined
      ? []
      : [{ name: found.name, version: found.version ?? UNKNOWN_VERSION }]
  })
  return distinct([...installed, ...vendored]).map((one) => ({ ecosystem: 'opam', ...one }))
}

function systemPackages({ manager, packages }: SystemPackages): ListedPackage[] {
  if (manager === undefined) return []
  const ecosystem = ecosystemOf(manager)
  // A package for two architectures is listed twice.
  return distinct(packages).map((one) => ({ ecosystem, ...one }))
}

type Named = { readonly name: string; readonly version: string }

function distinct(packages: readonly Named[]): Named[] {
  const found = new Map(
    packages.map(({ name, version }) => [`${name} ${version}`, { name, version }]),
  )
  return [...found.values()]
}

import type { PackageManager } from '../host/system-packages.ts'
import { compareAlpineVersions } from './alpine.ts'
import { compareDebianVersions } from './debian.ts'
import { compareFreebsdVersions } from './freebsd.ts'
import { compareOpamVersions } from './opam.ts'

/** A package ecosystem. Each orders versions in its own way. */
export const ECOSYSTEMS = ['opam', 'deb', 'apk', 'freebsd'] as const
export type Ecosystem = (typeof ECOSYSTEMS)[number]

/** Negative when `a` is before `b`, 0 when both are equal, else positive. */
export type VersionOrder = (a: string, b: string) => number

const ORDERS: Readonly<Record<Ecosystem, VersionOrder>> = {
  opam: compareOpamVersions,
  deb: compareDebianVersions,
  apk: compareAlpineVersions,
  freebsd: compareFreebsdVersions,
}

const MANAGED: Readonly<Record<PackageManager, Ecosystem>> = {
  dpkg: 'deb',
  apk: 'apk',
  pkg: 'freebsd',
}

/** Returns the ecosystem of a package manager of a host. */
export function ecosystemOf(manager: PackageManager): Ecosystem {
  return MANAGED[manager]
}

/** Returns the version order of an ecosystem. It accepts any text and never throws. */
export function versionOrder(ecosystem: Ecosystem): VersionOrder {
  return ORDERS[ecosystem]
}

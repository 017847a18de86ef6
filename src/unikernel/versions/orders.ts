import type { PackageManager } from '../host/system-packages.ts'
import { compareAlpineVersions } from './alpine.ts'
import { compareDebianVersions } from './debian.ts'
import { compareFreebsdVersions } from './freebsd.ts'
import { compareOpamVersions } from './opam.ts'

/** Whose packages they are: each orders versions in its own way. */
export const ECOSYSTEMS = ['opam', 'deb', 'apk', 'freebsd'] as const
export type Ecosystem = (typeof ECOSYSTEMS)[number]

/** Negative when `a` is before `b`, 0 when both count as the same, else positive. */
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

/** Whose packages a package manager of a host lists. */
export function ecosystemOf(manager: PackageManager): Ecosystem {
  return MANAGED[manager]
}

/** How an ecosystem orders its versions. The order takes any text and never throws. */
export function versionOrder(ecosystem: Ecosystem): VersionOrder {
  return ORDERS[ecosystem]
}

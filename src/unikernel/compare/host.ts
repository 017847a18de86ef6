import type { BuildEnvironment } from '../host/build-environment.ts'
import type { PackageManager, SystemPackage, SystemPackages } from '../host/system-packages.ts'
import { ecosystemOf } from '../versions/orders.ts'
import {
  type Differences,
  differences,
  directionOf,
  equalTexts,
  type ValueChange,
} from './differences.ts'

/** A package of the host with its versions, mostly one. */
export type HostPackage = {
  readonly name: string
  readonly architecture?: string
  readonly versions: readonly string[]
}

export type ChangedHostPackage = {
  readonly name: string
  readonly architecture?: string
  readonly versions: ValueChange<readonly string[]>
  /** Undefined when a side has several versions. */
  readonly direction: 'upgrade' | 'downgrade' | undefined
}

export type HostComparison = Differences<HostPackage, ChangedHostPackage> & {
  readonly manager: ValueChange<PackageManager | undefined>
}

/** Compares the packages of two hosts by name and, if the list has it, architecture. */
export function compareHosts(from: SystemPackages, to: SystemPackages): HostComparison {
  const ecosystem = from.manager === to.manager && to.manager ? ecosystemOf(to.manager) : undefined
  const found = differences(
    grouped(from.packages),
    grouped(to.packages),
    ({ key }) => key,
    (was, is): ChangedHostPackage | undefined => {
      // A list may have them in any order.
      if (equalTexts(was.versions.toSorted(), is.versions.toSorted())) return undefined
      const [before, ...othersBefore] = was.versions
      const [after, ...othersAfter] = is.versions
      const isOne = othersBefore.length + othersAfter.length === 0
      return {
        ...namedAs(is.first),
        versions: { from: was.versions, to: is.versions },
        direction: isOne ? directionOf(ecosystem, before ?? '', after ?? '') : undefined,
      }
    },
  )
  return {
    manager: { from: from.manager, to: to.manager },
    added: found.added.map(hostPackage),
    removed: found.removed.map(hostPackage),
    changed: found.changed,
  }
}

/** The versions of one name and architecture. A host has thousands of these, and few differ. */
type Group = { readonly key: string; readonly first: SystemPackage; readonly versions: string[] }

function grouped(packages: readonly SystemPackage[]): Group[] {
  const groups = new Map<string, Group>()
  for (const one of packages) {
    const key = `${one.name} ${one.architecture ?? ''}`
    const group = groups.get(key)
    if (group === undefined) groups.set(key, { key, first: one, versions: [one.version] })
    else group.versions.push(one.version)
  }
  return [...groups.values()]
}

function hostPackage({ first, versions }: Group): HostPackage {
  return { ...namedAs(first), versions }
}

function namedAs({ name, architecture }: SystemPackage): Omit<HostPackage, 'versions'> {
  return architecture === undefined ? { name } : { name, architecture }
}

export type Variable = { readonly name: string; readonly value: string }
export type EnvironmentComparison = Differences<
  Variable,
  { readonly name: string; readonly value: ValueChange<string> }
>

/** Compares the variables of two environments. */
export function compareEnvironments(
  from: BuildEnvironment,
  to: BuildEnvironment,
): EnvironmentComparison {
  return differences(from.variables, to.variables, variableName, (was, is) =>
    was.value === is.value
      ? undefined
      : { name: is.name, value: { from: was.value, to: is.value } },
  )
}

const variableName = ({ name }: Variable) => name

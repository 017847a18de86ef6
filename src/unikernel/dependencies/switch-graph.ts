import type { OpamSwitch } from '../opam/switch.ts'

/** The dependencies that orb recorded in a switch, between packages by their names. */
export type NameGraph = {
  /** Each once, by name. */
  readonly names: readonly string[]
  /** For each name the numbers of those that it depends on, without itself. */
  readonly dependencies: readonly (readonly number[])[]
}

/** Builds the graph of a switch from its recorded dependencies alone, so that it depends only on the bytes of the file. */
export function switchGraphOf({ dependencies }: Pick<OpamSwitch, 'dependencies'>): NameGraph {
  const names = [
    ...new Set(dependencies.flatMap(({ name, dependsOn }) => [name, ...dependsOn])),
  ].toSorted()
  const numbers = new Map(names.map((name, number) => [name, number]))
  const targets = names.map(() => new Set<number>())
  for (const { name, dependsOn } of dependencies) {
    const from = numbers.get(name)
    if (from === undefined) continue
    for (const one of dependsOn) {
      const to = numbers.get(one)
      if (to !== undefined && to !== from) targets[from]?.add(to)
    }
  }
  return { names, dependencies: targets.map((set) => [...set].toSorted((a, b) => a - b)) }
}

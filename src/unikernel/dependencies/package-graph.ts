import { componentsOf } from '../documents/components.ts'
import type { UnikernelImage } from '../image.ts'
import type { ImagePackage } from '../image-packages.ts'

/** A package of a graph. Its number is its place in the list. */
export type GraphPackage = {
  /** Unique in the graph, as in the bills of materials. */
  readonly ref: string
  readonly name: string
  /** Undefined when nothing says it. */
  readonly version: string | undefined
}

/** The packages of opam in an image, vendored ones included, and the dependencies between them, by number. */
export type PackageGraph = {
  readonly packages: readonly GraphPackage[]
  /** The requested packages, such as the unikernel itself. */
  readonly roots: readonly number[]
  /** For each package the packages that it depends on. None depends on itself; there may be cycles. */
  readonly dependencies: readonly (readonly number[])[]
  /** Packages and dependencies beyond the limits of `componentsOf`. */
  readonly omitted: number
}

/** Builds the graph of an image's packages from what its switch export and lock file record. */
export function packageGraphOf(
  image: UnikernelImage,
  known: readonly ImagePackage[],
): PackageGraph {
  const { list, roots, dependencies, omitted } = componentsOf(image, known)
  const packages = list.filter(({ kind }) => kind !== 'host')
  const numbers = new Map(packages.map(({ ref }, number) => [ref, number]))
  const numbersOf = (refs: readonly string[]) => refs.flatMap((ref) => numbers.get(ref) ?? [])
  return {
    packages: packages.map(({ ref, name, version }) => ({ ref, name, version })),
    roots: numbersOf(roots),
    dependencies: packages.map(({ ref }) => numbersOf(dependencies.get(ref) ?? [])),
    omitted,
  }
}

/** Turns all dependencies around: for each package the packages that depend on it. */
export function dependentsOf({ dependencies }: Pick<PackageGraph, 'dependencies'>): number[][] {
  const dependents: number[][] = dependencies.map(() => [])
  for (const [from, targets] of dependencies.entries()) {
    for (const to of targets) dependents[to]?.push(from)
  }
  return dependents
}

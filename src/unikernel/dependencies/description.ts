import type { UnikernelImage } from '../image.ts'
import type { ImagePackage } from '../image-packages.ts'
import { packageGraphOf } from './package-graph.ts'
import { listPathsTo } from './paths.ts'

/** The dependencies of an image: spec/openapi.yaml, Dependencies. Packages refer to each other by `ref`. */
export type DependenciesDescription = {
  readonly roots: readonly string[]
  readonly packages: readonly {
    readonly ref: string
    readonly name: string
    readonly version: string | null
    readonly dependsOn: readonly string[]
  }[]
  /** Packages and dependencies that were left out. */
  readonly omitted: number
}

/** Why a package is in an image: spec/openapi.yaml, DependencyPaths. */
export type PathsDescription = {
  readonly package: string
  /** The versions of the package in the image; none when the image does not have it. */
  readonly versions: readonly (string | null)[]
  /** Each from a requested package to the package; the shortest are first. */
  readonly paths: readonly (readonly PathPackage[])[]
  /** True when there may be further paths. */
  readonly more: boolean
}

export type PathPackage = { readonly name: string; readonly version: string | null }

/** Describes the graph of an image's packages. */
export function describeDependencies(
  image: UnikernelImage,
  packages: readonly ImagePackage[],
): DependenciesDescription {
  const graph = packageGraphOf(image, packages)
  const refsOf = (numbers: readonly number[]) =>
    numbers.flatMap((number) => graph.packages[number]?.ref ?? [])
  return {
    roots: refsOf(graph.roots),
    packages: graph.packages.map(({ ref, name, version = null }, number) => ({
      ...{ ref, name, version },
      dependsOn: refsOf(graph.dependencies[number] ?? []),
    })),
    omitted: graph.omitted,
  }
}

/** Describes the paths from the requested packages of an image to the packages of this name. */
export function describePaths(
  image: UnikernelImage,
  packages: readonly ImagePackage[],
  name: string,
): PathsDescription {
  const graph = packageGraphOf(image, packages)
  const { paths, more } = listPathsTo(graph, name)
  const versions = graph.packages.filter((one) => one.name === name)
  return {
    package: name,
    versions: versions.map(({ version = null }) => version),
    paths: paths.map((path) =>
      path
        .flatMap((number) => graph.packages[number] ?? [])
        .map(({ name: own, version = null }) => ({ name: own, version })),
    ),
    more: more || graph.omitted > 0,
  }
}

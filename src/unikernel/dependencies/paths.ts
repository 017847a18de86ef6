import { dependentsOf, type PackageGraph } from './package-graph.ts'

// More paths, and longer ones, answer no further question.
export const PATHS_MAX = 10
export const PATH_PACKAGES_MAX = 32
// Dependencies that a search follows; the number of all paths grows exponentially.
const STEPS_MAX = 50_000

/** The paths from requested packages to one package. */
export type DependencyPaths = {
  /** Each from a requested package to the package, by number. The shortest are first; then in the order of the graph. */
  readonly paths: readonly (readonly number[])[]
  /** True when the search ended at a limit: there may be further paths. */
  readonly more: boolean
}

/**
 * Lists the paths that lead from a root to a package with this name, at most PATHS_MAX. No path has a package twice. Without
 * a path, no recorded dependency leads there.
 */
export function listPathsTo(graph: PackageGraph, name: string): DependencyPaths {
  const wanted = graph.packages.flatMap((one, number) => (one.name === name ? [number] : []))
  const distances = distancesTo(graph, wanted)
  const lengths = graph.roots.flatMap((root) => distances[root] ?? [])
  const search = new PathSearch(graph, distances)
  if (lengths.length === 0) return search.result()
  const shortest = lengths.reduce((least, length) => Math.min(least, length))
  for (let length = shortest; length < PATH_PACKAGES_MAX && !search.isEnded; length += 1) {
    for (const root of new Set(graph.roots)) search.follow(root, length)
    // All paths were seen when no longer one was begun.
    if (search.takeCut() === 0) return search.result()
  }
  return search.result(true)
}

/** Counts for each package the dependencies on the shortest way to a wanted one. Undefined: none leads there. */
function distancesTo(
  graph: PackageGraph,
  wanted: readonly number[],
): readonly (number | undefined)[] {
  const dependents = dependentsOf(graph)
  const distances: (number | undefined)[] = graph.packages.map(() => undefined)
  let reached = [...wanted]
  for (let distance = 0; reached.length > 0; distance += 1) {
    const next: number[] = []
    for (const one of reached) {
      if (distances[one] !== undefined) continue
      distances[one] = distance
      next.push(...(dependents[one] ?? []))
    }
    reached = next
  }
  return distances
}

/** Follows dependencies depth first, only where a wanted package can still be reached within the length. */
class PathSearch {
  readonly #graph: PackageGraph
  readonly #distances: readonly (number | undefined)[]
  readonly #paths: number[][] = []
  readonly #path: number[] = []
  readonly #onPath = new Set<number>()
  #steps = 0
  #cut = 0

  constructor(graph: PackageGraph, distances: readonly (number | undefined)[]) {
    this.#graph = graph
    this.#distances = distances
  }

  /** True when there is one path more than are listed, or when the search took too long. */
  get isEnded(): boolean {
    return this.#paths.length > PATHS_MAX || this.#steps > STEPS_MAX
  }

  /** Adds the paths from `one` with exactly `length` dependencies. */
  follow(one: number, length: number): void {
    const distance = this.#distances[one]
    if (distance === undefined || this.#onPath.has(one) || this.isEnded) return
    this.#steps += 1
    if (distance > length) {
      this.#cut += 1
      return
    }
    this.#path.push(one)
    this.#onPath.add(one)
    if (distance === 0) {
      if (length === 0) this.#paths.push([...this.#path])
    } else {
      for (const next of this.#graph.dependencies[one] ?? []) this.follow(next, length - 1)
    }
    this.#path.pop()
    this.#onPath.delete(one)
  }

  /** Returns the number of paths that the last length cut off, and begins to count anew. */
  takeCut(): number {
    const cut = this.#cut
    this.#cut = 0
    return cut
  }

  result(more = false): DependencyPaths {
    return { paths: this.#paths.slice(0, PATHS_MAX), more: more || this.isEnded }
  }
}

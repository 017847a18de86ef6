import { visibleJson } from '../../oci/hidden-characters.ts'
import { switchGraphOf } from '../../unikernel/dependencies/switch-graph.ts'
import { reduceTransitively } from '../../unikernel/dependencies/transitive-reduction.ts'
import type { SymbolTable } from '../../unikernel/kernel/elf-symbols.ts'
import { programSizes } from '../../unikernel/sizes/program-sizes.ts'
import { layoutGraph } from './graph-layout.ts'
import { layoutTreemap } from './treemap-layout.ts'

/** A picture to make. */
export type PictureTask =
  /** `facts`: OpamSwitch as JSON. */
  | { readonly kind: 'graph-picture'; readonly facts: string }
  | { readonly kind: 'sizes-picture'; readonly table: SymbolTable }

/** A picture as JSON: its facts and its coordinates. Or the reason why there is none. */
export type MadePicture =
  | { readonly facts: string | null; readonly picture: string }
  | { readonly problem: string }

// The reduction takes the square of them: 100 ms for so many.
const REDUCED_PACKAGES_MAX = 2_000
// The largest unikernels have some 200 packages and 400 edges. dagre takes 2 s for these bounds, and nobody can read more.
export const GRAPH_PACKAGES_MAX = 400
export const GRAPH_EDGES_MAX = 1_000

/** Makes a picture. Beyond the limits there is a problem instead. */
export function makePicture(task: PictureTask): MadePicture {
  return task.kind === 'graph-picture' ? graphPicture(task.facts) : sizesPicture(task.table)
}

function graphPicture(facts: string): MadePicture {
  const { names, dependencies } = switchGraphOf(JSON.parse(facts))
  const [packages, count] = [names.length, dependencies.reduce((sum, one) => sum + one.length, 0)]
  if (packages === 0) return { problem: 'the switch export has no dependencies of orb' }
  if (packages > REDUCED_PACKAGES_MAX) return { problem: tooLarge(packages, count) }
  const edges = reduceTransitively(dependencies)
  const left = edges.reduce((sum, one) => sum + one.length, 0)
  if (packages > GRAPH_PACKAGES_MAX || left > GRAPH_EDGES_MAX) {
    return { problem: tooLarge(packages, left) }
  }
  return { facts: null, picture: visibleJson(layoutGraph({ labels: names, edges })) }
}

function tooLarge(packages: number, edges: number): string {
  return `too large to draw: ${packages} packages and ${edges} dependencies; at most ${GRAPH_PACKAGES_MAX} and ${GRAPH_EDGES_MAX} are drawn`
}

function sizesPicture(table: SymbolTable): MadePicture {
  const { problem = null, ...sizes } = programSizes(table)
  return {
    facts: visibleJson({ ...sizes, problem }),
    picture: visibleJson(layoutTreemap(sizes.tree)),
  }
}

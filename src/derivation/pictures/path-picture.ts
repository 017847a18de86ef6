import type { PathsDescription } from '../../unikernel/dependencies/description.ts'
import type { DrawnPaths } from '../../unikernel/dependencies/graph-picture.ts'
import { layoutGraph } from './graph-layout.ts'

// dagre takes some 50 ms for so many.
const PACKAGES_MAX = 40
const EDGES_MAX = 80

/** Draws the packages of paths, each once, with the dependencies that the paths follow. */
export function drawPaths(description: PathsDescription): DrawnPaths {
  const labels: string[] = []
  const edges: number[][] = []
  const numbers = new Map<string, number>()
  const numberOf = ({ name, version }: PathsDescription['paths'][number][number]) => {
    const key = `${name} ${version}`
    const number = numbers.get(key) ?? labels.length
    if (number === labels.length) {
      numbers.set(key, number)
      labels.push(name)
      edges.push([])
    }
    return number
  }
  for (const path of description.paths) {
    for (const [index, one] of path.map(numberOf).entries()) {
      const before = path[index - 1]
      const targets = before === undefined ? undefined : edges[numberOf(before)]
      if (targets?.includes(one) === false) targets.push(one)
    }
  }
  const count = edges.reduce((sum, targets) => sum + targets.length, 0)
  const isDrawn = labels.length > 0 && labels.length <= PACKAGES_MAX && count <= EDGES_MAX
  return { ...description, picture: isDrawn ? layoutGraph({ labels, edges }) : null }
}

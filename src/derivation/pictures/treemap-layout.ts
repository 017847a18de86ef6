import { hierarchy, treemap } from 'd3-hierarchy'
import type { SizeTree } from '../../unikernel/sizes/size-tree.ts'
import { HEADING_HEIGHT, type TreemapPicture } from '../../unikernel/sizes/treemap-picture.ts'

export const TREEMAP_WIDTH = 1200
export const TREEMAP_HEIGHT = 560
// Thinner parts cannot be pointed at, and a page with all of them would be large.
const SIDE_MIN = 4

/** Lays a tree out as rectangles whose areas are in proportion to the bytes within each part. */
export function layoutTreemap(tree: SizeTree): TreemapPicture {
  const root = hierarchy<SizeTree>(tree).sum(({ bytes, children }) => (children ? 0 : bytes))
  const layout = treemap<SizeTree>()
    .size([TREEMAP_WIDTH, TREEMAP_HEIGHT])
    .paddingTop(({ depth }) => (depth === 0 ? 0 : HEADING_HEIGHT))
    .paddingInner(1)
    .round(false)
  const nodes = layout(root).descendants()
  const cells = nodes.flatMap(({ data, depth, x0, y0, x1, y1, children, ...node }) => {
    if (depth === 0 || x1 - x0 < SIDE_MIN || y1 - y0 < SIDE_MIN) return []
    const path = [data.name]
    for (let above = node.parent; above !== null && above.depth > 0; above = above.parent) {
      path.unshift(above.data.name)
    }
    const [x, y] = [rounded(x0), rounded(y0)]
    return [
      {
        path,
        bytes: data.bytes,
        ...{ x, y, width: rounded(x1 - x), height: rounded(y1 - y) },
        isLeaf: children === undefined,
      },
    ]
  })
  return { width: TREEMAP_WIDTH, height: TREEMAP_HEIGHT, cells }
}

function rounded(pixels: number): number {
  return Math.round(pixels * 10) / 10
}

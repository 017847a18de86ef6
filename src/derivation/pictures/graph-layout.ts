import { Graph, layout, type Point } from '@dagrejs/dagre'
import {
  type GraphPicture,
  LABEL_CHARACTERS_MAX,
  NODE_HEIGHT,
} from '../../unikernel/dependencies/graph-picture.ts'

/** A graph to draw: labels, and for each node the numbers of the nodes below it. */
export type DrawableGraph = {
  readonly labels: readonly string[]
  readonly edges: readonly (readonly number[])[]
}

// The width of a character of a label on a page, and the room around a label, in pixels.
const CHARACTER_WIDTH = 7
const LABEL_MARGIN = 16

/** Lays a graph out in layers, from left to right: a node is right of those that depend on it, except in circles. */
export function layoutGraph({ labels, edges }: DrawableGraph): GraphPicture {
  const graph = new Graph()
  graph.setGraph({ rankdir: 'LR', nodesep: 8, edgesep: 4, ranksep: 48, marginx: 8, marginy: 8 })
  graph.setDefaultEdgeLabel(() => ({}))
  for (const [number, label] of labels.entries()) {
    graph.setNode(`${number}`, { width: widthOf(label), height: NODE_HEIGHT })
  }
  const list = edges.flatMap((targets, from) => targets.map((to) => ({ from, to })))
  for (const { from, to } of list) graph.setEdge(`${from}`, `${to}`)
  layout(graph)
  const { width = 0, height = 0 } = graph.graph()
  return {
    width: Math.ceil(width),
    height: Math.ceil(height),
    nodes: labels.map((label, number) => {
      const { x = 0, y = 0, width: own = 0 } = graph.node(`${number}`)
      return { label, x: rounded(x), y: rounded(y), width: own }
    }),
    edges: list.map(({ from, to }) => {
      const { points = [] } = graph.edge(`${from}`, `${to}`)
      return { from, to, points: cornersOf(points) }
    }),
  }
}

function widthOf(label: string): number {
  return Math.min(label.length, LABEL_CHARACTERS_MAX) * CHARACTER_WIDTH + LABEL_MARGIN
}

/** The points of a polyline in whole pixels, without those on a level line between two others. */
function cornersOf(points: readonly Point[]): [x: number, y: number][] {
  const whole = points.map(({ x, y }): [number, number] => [Math.round(x), Math.round(y)])
  const isLevel = (index: number) =>
    whole[index - 1]?.[1] === whole[index]?.[1] && whole[index]?.[1] === whole[index + 1]?.[1]
  return whole.filter((_, index) => !isLevel(index))
}

function rounded(pixels: number): number {
  return Math.round(pixels * 10) / 10
}

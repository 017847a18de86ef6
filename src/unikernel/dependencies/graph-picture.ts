import type { PathsDescription } from './description.ts'

/** A drawn graph, in pixels. Nodes are rectangles around their middles, and edges polylines. */
export type GraphPicture = {
  readonly width: number
  readonly height: number
  readonly nodes: readonly {
    readonly label: string
    readonly x: number
    readonly y: number
    readonly width: number
  }[]
  readonly edges: readonly {
    /** Numbers of nodes. */
    readonly from: number
    readonly to: number
    /** Whole numbers. */
    readonly points: readonly (readonly [x: number, y: number])[]
  }[]
}

/** The height of every node in pixels. */
export const NODE_HEIGHT = 24
/** The widest label, in characters; longer ones are cut. */
export const LABEL_CHARACTERS_MAX = 28

/** Paths to a package, and the graph of their packages; null when there is no path, and when it is too large to draw. */
export type DrawnPaths = PathsDescription & { readonly picture: GraphPicture | null }

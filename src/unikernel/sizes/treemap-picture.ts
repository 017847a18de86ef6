/** A part of a treemap, in pixels. */
export type TreemapCell = {
  /** The names of the parts that it is in, from the outside, and its own. */
  readonly path: readonly string[]
  readonly bytes: number
  readonly x: number
  readonly y: number
  readonly width: number
  readonly height: number
  /** False for a part whose own parts are drawn in it. */
  readonly isLeaf: boolean
}

/** A drawn tree of sizes. The root is not drawn. */
export type TreemapPicture = {
  readonly width: number
  readonly height: number
  /** A part is before the parts in it. */
  readonly cells: readonly TreemapCell[]
}

/** The height of the name of a part above its own parts. */
export const HEADING_HEIGHT = 16

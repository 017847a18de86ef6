/** A part of a program and the room that it takes: the sum of its children, if it has any. */
export type SizeTree = {
  /** Unique among the children of one part. */
  readonly name: string
  /** In bytes of the loaded sections. */
  readonly bytes: number
  /** The largest first, and then by name. */
  readonly children?: readonly SizeTree[]
}

/** Sums up the sizes of parts by their paths. */
export class SizeSums {
  readonly #root: Sum = { bytes: 0, children: new Map() }

  add(path: readonly string[], bytes: number): void {
    if (bytes === 0) return
    let sum = this.#root
    sum.bytes += bytes
    for (const name of path) {
      const child = sum.children.get(name) ?? { bytes: 0, children: new Map() }
      sum.children.set(name, child)
      child.bytes += bytes
      sum = child
    }
  }

  /** Returns the tree. A part has at most `childrenMax` children: the smallest are one. */
  tree(name: string, childrenMax: number): SizeTree {
    return treeOf(name, this.#root, childrenMax)
  }
}

type Sum = { bytes: number; readonly children: Map<string, Sum> }

function treeOf(name: string, { bytes, children }: Sum, childrenMax: number): SizeTree {
  if (children.size === 0) return { name, bytes }
  const sorted = [...children].toSorted(
    ([aName, a], [bName, b]) => b.bytes - a.bytes || (aName < bName ? -1 : 1),
  )
  const kept = sorted.slice(0, sorted.length > childrenMax ? childrenMax - 1 : childrenMax)
  const others = sorted.slice(kept.length)
  const list = kept.map(([child, sum]) => treeOf(child, sum, childrenMax))
  if (others.length > 0) {
    const rest = others.reduce((total, [, sum]) => total + sum.bytes, 0)
    list.push({ name: `${others.length} others`, bytes: rest })
  }
  return { name, bytes, children: list.toSorted((a, b) => b.bytes - a.bytes) }
}

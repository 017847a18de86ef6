type Edges = readonly (readonly number[])[]

/**
 * Removes dependencies that follow from others: exactly the same packages can be reached from each package. Packages of a
 * circle keep all dependencies between them, because which of those could be removed is no fact. `edges`: for each package the numbers
 * of others, without itself. Quadratic in the number of packages, which the caller limits.
 */
export function reduceTransitively(edges: Edges): number[][] {
  const circles = circlesOf(edges)
  // Circles are numbered from the end of the graph: what a circle depends on has a lower number.
  const count = circles.reduce((most, circle) => Math.max(most, circle + 1), 0)
  const members: number[][] = Array.from({ length: count }, () => [])
  for (const [one, circle] of circles.entries()) members[circle]?.push(one)
  const reached: Uint8Array[] = []
  const reduced: number[][] = edges.map(() => [])
  for (const [circle, packages] of members.entries()) {
    const own = new Uint8Array(count)
    own[circle] = 1
    reached.push(own)
    const outside = packages.flatMap((from) =>
      (edges[from] ?? []).map((to) => ({ from, to, circle: circles[to] ?? circle })),
    )
    for (const { from, to, ...other } of outside) {
      if (other.circle === circle) reduced[from]?.push(to)
    }
    // The highest first: a dependency that another one implies has a lower number than that one.
    const others = outside
      .filter((edge) => edge.circle !== circle)
      .toSorted((a, b) => b.circle - a.circle)
    for (const { from, to, circle: target } of others) {
      if (own[target] === 1) continue
      reduced[from]?.push(to)
      for (const [index, isReached] of (reached[target] ?? []).entries()) {
        if (isReached === 1) own[index] = 1
      }
    }
  }
  return reduced.map((targets) => targets.toSorted((a, b) => a - b))
}

/**
 * Numbers the circles (strongly connected components) of a graph; a package in no circle is one of its own. Tarjan's algorithm,
 * without recursion: a chain may be as long as the graph.
 */
function circlesOf(edges: Edges): readonly number[] {
  const order: number[] = edges.map(() => -1)
  const lowest: number[] = edges.map(() => -1)
  const circles: number[] = edges.map(() => -1)
  const open: number[] = []
  let next = 0
  let count = 0
  for (const start of edges.keys()) {
    if (order[start] !== -1) continue
    const calls: { readonly one: number; at: number }[] = [{ one: start, at: 0 }]
    for (let call = calls.at(-1); call !== undefined; call = calls.at(-1)) {
      const { one } = call
      if (call.at === 0) {
        order[one] = next
        lowest[one] = next
        next += 1
        open.push(one)
      }
      const to = edges[one]?.[call.at]
      call.at += 1
      if (to !== undefined) {
        if (order[to] === -1) calls.push({ one: to, at: 0 })
        else if (circles[to] === -1) lowest[one] = Math.min(lowest[one] ?? 0, order[to] ?? 0)
        continue
      }
      if (lowest[one] === order[one]) {
        for (let member = open.pop(); member !== undefined; member = open.pop()) {
          circles[member] = count
          if (member === one) break
        }
        count += 1
      }
      calls.pop()
      const caller = calls.at(-1)?.one
      if (caller !== undefined) {
        lowest[caller] = Math.min(lowest[caller] ?? 0, lowest[one] ?? 0)
      }
    }
  }
  return circles
}

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { reduceTransitively } from '../../../src/unikernel/dependencies/transitive-reduction.ts'

const graphs = (size: number, degree: number) =>
  fc
    .integer({ min: 1, max: size })
    .chain((packages) =>
      fc.tuple(
        ...Array.from({ length: packages }, (_, from) =>
          fc
            .uniqueArray(fc.nat(packages - 1), { maxLength: degree })
            .map((targets) => targets.filter((to) => to !== from)),
        ),
      ),
    )

/** Without circles: each package depends on later ones. */
const orders = graphs(24, 8).map((edges) =>
  edges.map((targets, from) => targets.filter((to) => to > from)),
)

function reachedFrom(edges: readonly (readonly number[])[], start: number): number[] {
  const found = new Set<number>()
  const left = [...(edges[start] ?? [])]
  for (let one = left.pop(); one !== undefined; one = left.pop()) {
    if (found.has(one)) continue
    found.add(one)
    left.push(...(edges[one] ?? []))
  }
  return [...found].toSorted((a, b) => a - b)
}

const reachable = (edges: readonly (readonly number[])[]) =>
  edges.map((_, one) => reachedFrom(edges, one))

describe('the transitive reduction', () => {
  it('removes a dependency that others imply', () => {
    expect(reduceTransitively([[1, 2, 3], [2, 3], [3], []])).toEqual([[1], [2], [3], []])
  })

  it('keeps the dependencies within a circle', () => {
    expect(reduceTransitively([[1, 2], [0, 2], []])).toEqual([[1, 2], [0], []])
  })

  it('reaches the same packages from each package', () => {
    fc.assert(
      fc.property(fc.oneof(graphs(16, 6), orders), (edges) => {
        const reduced = reduceTransitively(edges)
        expect(reachable(reduced)).toEqual(reachable(edges))
        for (const [from, targets] of reduced.entries()) {
          expect(edges[from]).toEqual(expect.arrayContaining(targets))
        }
      }),
    )
  })

  it('has no dependency to spare in a graph without circles', () => {
    fc.assert(
      fc.property(orders, (edges) => {
        const reduced = reduceTransitively(edges)
        for (const [from, targets] of reduced.entries()) {
          for (const to of targets) {
            const without = reduced.map((list, one) =>
              one === from ? list.filter((other) => other !== to) : list,
            )
            expect(reachedFrom(without, from)).not.toContain(to)
          }
        }
      }),
    )
  })

  it('follows long chains and large circles', () => {
    const chain = Array.from({ length: 3000 }, (_, one) => (one < 2999 ? [one + 1] : []))
    expect(reduceTransitively(chain)).toEqual(chain)
    const circle = Array.from({ length: 3000 }, (_, one) => [(one + 1) % 3000])
    expect(reduceTransitively(circle)).toEqual(circle)
  })
})

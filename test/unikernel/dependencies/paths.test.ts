import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { PackageGraph } from '../../../src/unikernel/dependencies/package-graph.ts'
import {
  listPathsTo,
  PATH_PACKAGES_MAX,
  PATHS_MAX,
} from '../../../src/unikernel/dependencies/paths.ts'

/** A graph of packages `0`, `1` and so on. */
function graphOf(dependencies: readonly (readonly number[])[], roots = [0]): PackageGraph {
  const packages = dependencies.map((_, number) => ({
    ...{ ref: `opam/${number}`, name: `${number}`, version: '1' },
  }))
  return { packages, roots, dependencies, omitted: 0 }
}

const numbers = (length: number) => Array.from({ length }, (_, index) => index)

describe('the paths to a package', () => {
  it('begin with the shortest', () => {
    const graph = graphOf([[1, 2, 3], [3], [1], []])
    expect(listPathsTo(graph, '3')).toEqual({
      paths: [
        [0, 3],
        [0, 1, 3],
        [0, 2, 1, 3],
      ],
      more: false,
    })
    expect(listPathsTo(graph, '0')).toEqual({ paths: [[0]], more: false })
  })

  it('are none for a package that nothing needs, or that is missing', () => {
    const graph = graphOf([[1], [], [1]])
    expect(listPathsTo(graph, '2')).toEqual({ paths: [], more: false })
    expect(listPathsTo(graph, 'missing')).toEqual({ paths: [], more: false })
  })

  it('begin at each of several requested packages', () => {
    expect(listPathsTo(graphOf([[2], [2], []], [1, 0, 1]), '2').paths).toEqual([
      [1, 2],
      [0, 2],
    ])
  })

  it('go through no circle', () => {
    const { paths, more } = listPathsTo(graphOf([[1], [0, 2], [1, 2, 3], [2]]), '3')
    expect(paths).toEqual([[0, 1, 2, 3]])
    expect(more).toBe(false)
  })

  it('are limited in number, length and time', () => {
    const all = numbers(200)
    const dense = graphOf(all.map((from) => all.filter((to) => to !== from)))
    const begin = performance.now()
    expect(listPathsTo(dense, '199')).toMatchObject({ more: true })
    expect(listPathsTo(dense, '199').paths).toHaveLength(PATHS_MAX)
    // Every path of two columns of packages, of which the last column leads nowhere.
    const ladder = graphOf(all.map((one) => [2, 3].map((step) => (one - (one % 2) + step) % 200)))
    expect(listPathsTo(ladder, '150')).toMatchObject({ more: true, paths: [] })
    expect(performance.now() - begin).toBeLessThan(1000)
    const chain = graphOf(numbers(100).map((one) => (one < 99 ? [one + 1] : [])))
    expect(listPathsTo(chain, '99')).toEqual({ paths: [], more: true })
    expect(listPathsTo(chain, `${PATH_PACKAGES_MAX - 1}`).paths).toEqual([
      numbers(PATH_PACKAGES_MAX),
    ])
  })

  it('are all paths of any small graph', () => {
    const graphs = fc.integer({ min: 1, max: 6 }).chain((size) =>
      fc.array(fc.uniqueArray(fc.nat(size - 1), { maxLength: 3 }), {
        ...{ minLength: size, maxLength: size },
      }),
    )
    fc.assert(
      fc.property(graphs, (dependencies) => {
        const wanted = dependencies.length - 1
        const all = everyPath(dependencies, [0], wanted).toSorted((a, b) => a.length - b.length)
        const { paths, more } = listPathsTo(graphOf(dependencies), `${wanted}`)
        expect(paths.map(({ length }) => length)).toEqual(
          all.slice(0, PATHS_MAX).map(({ length }) => length),
        )
        for (const path of paths) expect(all).toContainEqual(path)
        expect(more).toBe(all.length > PATHS_MAX)
      }),
    )
  })
})

function everyPath(
  dependencies: readonly (readonly number[])[],
  path: readonly number[],
  wanted: number,
): (readonly number[])[] {
  const last = path.at(-1) ?? 0
  if (last === wanted) return [path]
  return (dependencies[last] ?? [])
    .filter((next) => !path.includes(next))
    .flatMap((next) => everyPath(dependencies, [...path, next], wanted))
}

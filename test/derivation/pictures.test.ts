import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { PictureMaker } from '../../src/derivation/picture-maker.ts'
import { drawPaths } from '../../src/derivation/pictures/path-picture.ts'
import { makePicture } from '../../src/derivation/pictures/tasks.ts'
import {
  layoutTreemap,
  TREEMAP_HEIGHT,
  TREEMAP_WIDTH,
} from '../../src/derivation/pictures/treemap-layout.ts'
import { type GraphPicture, NODE_HEIGHT } from '../../src/unikernel/dependencies/graph-picture.ts'
import { parseOpamSwitch } from '../../src/unikernel/opam/switch.ts'
import type { SizeTree } from '../../src/unikernel/sizes/size-tree.ts'
import { fixtureOf } from '../images/image-fixtures.ts'

const list = (length: number) => Array.from({ length }, (_, index) => index)
const nameOf = (index: number) => `p${index}`

/** Draws dependencies between packages `p0`, `p1` and so on. */
function draw(dependencies: readonly (readonly number[])[]) {
  const recorded = dependencies.map((targets, index) => ({
    ...{ package: 'p0', name: nameOf(index), dependsOn: targets.map(nameOf) },
  }))
  return makePicture({ kind: 'graph-picture', facts: JSON.stringify({ dependencies: recorded }) })
}

function graphOf(made: ReturnType<typeof makePicture>): GraphPicture {
  if ('problem' in made) throw new Error(made.problem)
  return JSON.parse(made.picture)
}

describe('the picture of dependencies', () => {
  it('has each package of a real switch once, none on another', () => {
    const facts = JSON.stringify(parseOpamSwitch(fixtureOf('hello-key-1', 'opam-switch')))
    const { width, height, nodes, edges } = graphOf(makePicture({ kind: 'graph-picture', facts }))
    expect(nodes).toHaveLength(39)
    expect(new Set(nodes.map(({ label }) => label)).size).toBe(39)
    expect(edges.length).toBeLessThan(128)
    for (const [index, one] of nodes.entries()) {
      expect(one.x - one.width / 2).toBeGreaterThanOrEqual(0)
      expect(one.x + one.width / 2).toBeLessThanOrEqual(width)
      expect(one.y + NODE_HEIGHT / 2).toBeLessThanOrEqual(height)
      for (const other of nodes.slice(index + 1)) {
        const isBeside = Math.abs(one.x - other.x) >= (one.width + other.width) / 2
        expect(isBeside || Math.abs(one.y - other.y) >= NODE_HEIGHT).toBe(true)
      }
    }
    for (const { points } of edges) expect(points.length).toBeGreaterThan(1)
  })

  it('is drawn with circles and packages that depend on themselves', () => {
    const { nodes, edges } = graphOf(draw([[0, 1, 2], [2], [1, 0], []]))
    expect(nodes.map(({ label }) => label)).toEqual(['p0', 'p1', 'p2', 'p3'])
    expect(edges.map(({ from, to }) => `${from}>${to}`)).not.toContain('0>0')
  })

  it.each([
    ['10 000 packages', list(10_000).map((index) => [index + 1])],
    ['500 packages', list(500).map((index) => [index + 1])],
    [
      'many dependencies',
      list(80).map((index) => (index < 40 ? list(40).map((to) => 40 + to) : [])),
    ],
  ])('is refused with the reason for %s', (_what, dependencies) => {
    expect(draw(dependencies)).toEqual({ problem: expect.stringMatching(/^too large to draw: /) })
  })

  it('is refused for a switch without recorded dependencies', () => {
    expect(draw([])).toEqual({ problem: 'the switch export has no dependencies of orb' })
  })
})

describe('the picture of paths', () => {
  const pathsOf = (...paths: string[][]) => ({
    ...{ package: 'x', versions: ['1'], more: false },
    paths: paths.map((path) => path.map((name) => ({ name, version: '1' }))),
  })

  it('has each package once, and each dependency that a path follows', () => {
    const { picture } = drawPaths(pathsOf(['a', 'x'], ['a', 'b', 'x'], ['a', 'b', 'c', 'x']))
    expect(picture?.nodes.map(({ label }) => label)).toEqual(['a', 'x', 'b', 'c'])
    const labels = picture?.nodes.map(({ label }) => label) ?? []
    expect(picture?.edges.map(({ from, to }) => `${labels[from]}>${labels[to]}`)).toEqual([
      ...['a>x', 'a>b', 'b>x', 'b>c', 'c>x'],
    ])
  })

  it('is none without a path, and for very many packages', () => {
    expect(drawPaths(pathsOf()).picture).toBeNull()
    expect(drawPaths(pathsOf(list(41).map(nameOf))).picture).toBeNull()
  })
})

describe('the treemap', () => {
  const trees = fc.letrec<{ tree: SizeTree }>((tie) => ({
    tree: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.record({ name: fc.string({ maxLength: 8 }), bytes: fc.nat(1_000_000) }),
      fc
        .record({
          name: fc.string({ maxLength: 8 }),
          children: fc.array(tie('tree'), { minLength: 1, maxLength: 8 }),
        })
        .map(({ name, children }) => ({
          ...{ name, children },
          bytes: children.reduce((sum, { bytes }) => sum + bytes, 0),
        })),
    ),
  })).tree

  it('has no part on another, and none outside', () => {
    fc.assert(
      fc.property(trees, (tree) => {
        const { cells } = layoutTreemap(tree)
        const leaves = cells.filter(({ isLeaf }) => isLeaf)
        for (const [index, one] of leaves.entries()) {
          expect(one.x + one.width).toBeLessThanOrEqual(TREEMAP_WIDTH + 0.1)
          expect(one.y + one.height).toBeLessThanOrEqual(TREEMAP_HEIGHT + 0.1)
          for (const other of leaves.slice(index + 1)) {
            const overlapX =
              Math.min(one.x + one.width, other.x + other.width) - Math.max(one.x, other.x)
            const overlapY =
              Math.min(one.y + one.height, other.y + other.height) - Math.max(one.y, other.y)
            expect(Math.min(overlapX, overlapY)).toBeLessThan(0.2)
          }
        }
      }),
      { numRuns: 50 },
    )
  })

  it('has areas in proportion to the bytes', () => {
    const children = [600, 300, 100].map((bytes) => ({ name: `${bytes}`, bytes }))
    const { cells } = layoutTreemap({ name: 'program', bytes: 1000, children })
    const areas = cells.map(({ width, height, bytes }) => (width * height) / bytes)
    expect(areas).toHaveLength(3)
    const whole = (TREEMAP_WIDTH * TREEMAP_HEIGHT) / 1000
    for (const area of areas) expect(area / whole).toBeGreaterThan(0.97)
    for (const area of areas) expect(area / whole).toBeLessThan(1.01)
  })
})

describe('a process that makes pictures', () => {
  let maker: PictureMaker
  afterEach(() => maker.close())
  const module = (code: string) => new URL(`data:text/javascript,${encodeURIComponent(code)}`)
  const task = async () => ({ kind: 'graph-picture', facts: '{"dependencies":[]}' }) as const

  it.each([
    [
      'hangs',
      "import { parentPort } from 'node:worker_threads'; parentPort.on('message', () => { for (;;); })",
    ],
    [
      'takes all memory',
      "import { parentPort } from 'node:worker_threads'; parentPort.on('message', () => { const all = []; for (;;) all.push(Array(1000).fill(1.5)) })",
    ],
  ])(
    'that %s ends in a refusal, and another one makes the next picture',
    async (_what, code) => {
      maker = new PictureMaker(module(code), 5_000)
      const refused = { problem: expect.stringMatching(/^too large to draw: /) }
      expect(await maker.make(task)).toEqual(refused)
      expect(await maker.make(task)).toEqual(refused)
    },
    30_000,
  )

  it('makes one picture after the other, and refuses requests when too many wait', async () => {
    maker = new PictureMaker()
    const all = await Promise.allSettled(list(12).map(() => maker.make(task)))
    const made = all.filter(({ status }) => status === 'fulfilled')
    expect(made).toHaveLength(9)
    for (const one of all) {
      if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'UNAVAILABLE' })
    }
  }, 30_000)
})

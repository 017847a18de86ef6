import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { coversGlob, type Glob, matchesGlob } from '../../src/oci/glob.ts'

const glob = (text: string) => text as Glob

describe('a pattern covers another', () => {
  it.each([
    ['builds/**', 'builds/a', true],
    ['builds/**', 'builds/a/b', true],
    ['builds/**', 'builds/*', true],
    ['builds/**', 'builds/**', true],
    ['builds/**', 'builds/*/www', true],
    ['builds/**', 'builds', false],
    ['builds/**', 'build*/**', false],
    ['builds/**', '**', false],
    ['builds/*', 'builds/a', true],
    ['builds/*', 'builds/*', true],
    ['builds/*', 'builds/v*', true],
    ['builds/*', 'builds/**', false],
    ['builds/*', 'builds/a/b', false],
    ['builds/*', 'builds/*/*', false],
    ['builds/a', 'builds/a', true],
    ['builds/a', 'builds/*', false],
    ['builds/a', 'builds/a*', false],
    ['**', '**', true],
    ['**', 'a/*/b**', true],
    ['*', '*', true],
    ['*', '**', false],
    ['*', 'a/b', false],
    ['**/www', 'a/b/www', true],
    ['**/www', '**/www', true],
    ['**/www', '*/www', true],
    ['**/www', '**/ww*', false],
    ['*a*', '*ba*', true],
    ['*a*', '*b*', false],
    ['***', 'a/**', true],
  ])('%s, %s: %s', (outer, inner, covers) => {
    expect(coversGlob(glob(outer), glob(inner))).toBe(covers)
  })

  const unit = fc.constantFrom('a', 'b', '/', '*', '*')
  const pattern = fc.string({ unit, maxLength: 7 }).map(glob)
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 7 })

  it('only when it matches every text that the other matches', () => {
    fc.assert(
      fc.property(pattern, pattern, text, (outer, inner, name) => {
        if (!coversGlob(outer, inner) || !matchesGlob(inner, name)) return
        expect(matchesGlob(outer, name)).toBe(true)
      }),
      { numRuns: 20_000 },
    )
  })

  it('always when both are equal, when it is **, and when the other is a name that it matches', () => {
    fc.assert(
      fc.property(pattern, text, (some, name) => {
        expect(coversGlob(some, some)).toBe(true)
        expect(coversGlob(glob('**'), some)).toBe(true)
        expect(coversGlob(some, glob(name))).toBe(matchesGlob(some, name))
      }),
      { numRuns: 5_000 },
    )
  })

  it('in time proportional to both lengths', () => {
    const started = process.cpuUsage()
    for (let round = 0; round < 10; round += 1) {
      expect(coversGlob(glob(`${'*a'.repeat(127)}b`), glob('*a'.repeat(127)))).toBe(false)
    }
    // A backtracking matcher would not end within the age of the universe.
    expect(process.cpuUsage(started).user / 1e6).toBeLessThan(10)
  })
})

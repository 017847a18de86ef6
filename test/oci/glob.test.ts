import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type Glob,
  matchesGlob,
  parseRepositoryGlob,
  parseTagGlob,
  postgresRegexOf,
} from '../../src/oci/glob.ts'

const glob = (text: string) => text as Glob

describe('a pattern', () => {
  it.each([
    ['builds/a', 'builds/a', true],
    ['builds/a', 'builds/ab', false],
    ['builds/*', 'builds/a', true],
    ['builds/*', 'builds/a/b', false],
    ['builds/*', 'builds/', true],
    ['builds/*', 'builds', false],
    ['builds/**', 'builds/a/b/c', true],
    ['builds/**', 'builds', false],
    ['builds/**', 'other/builds/a', false],
    ['**', 'anything/at/all', true],
    ['*', 'one', true],
    ['*', 'one/two', false],
    ['**/www', 'a/b/www', true],
    ['**/www', 'www', false],
    ['a*c', 'abc', true],
    ['a*c', 'ac', true],
    ['a*c', 'a/c', false],
    ['v*.*', 'v1.2', true],
    ['v*.*', 'v1', false],
    ['v1.2', 'v1x2', false],
    ['***', 'a/b', true],
    ['', '', true],
    ['', 'a', false],
  ])('%s and %s: %s', (pattern, text, matches) => {
    expect(matchesGlob(glob(pattern), text)).toBe(matches)
  })

  it('matches the same texts in Postgres', () => {
    const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '/', '.', '*', '-'), maxLength: 8 })
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '/', '.', '-'), maxLength: 8 })
    fc.assert(
      fc.property(pattern, text, (some, name) => {
        const expression = new RegExp(postgresRegexOf(glob(some)))
        expect(matchesGlob(glob(some), name)).toBe(expression.test(name))
      }),
      { numRuns: 5000 },
    )
  })

  it('takes time proportional to both lengths', () => {
    const pattern = glob(`${'*a'.repeat(127)}b`)
    const started = process.cpuUsage()
    for (let round = 0; round < 10; round += 1) {
      expect(matchesGlob(pattern, 'a'.repeat(255))).toBe(false)
    }
    // A backtracking matcher would not end within the age of the universe.
    expect(process.cpuUsage(started).user / 1e6).toBeLessThan(5)
  })

  it.each(['', 'Upper', 'a b', '/a', 'a/', 'a//b', 'a\0', 'ä', 'x'.repeat(256), '../a b'])(
    'of repositories is not %j',
    (text) => {
      expect(() => parseRepositoryGlob(text)).toThrow(/a repository pattern is/)
    },
  )

  it.each(['', 'a/b', 'a b', 'v1\n', 'x'.repeat(256)])('of tags is not %j', (text) => {
    expect(() => parseTagGlob(text)).toThrow(/a tag pattern is/)
  })
})

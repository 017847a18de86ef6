import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Glob, matchesGlob, parseRepositoryGlob, parseTagGlob } from '../../src/oci/glob.ts'

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

  it('matches the same texts as a regular expression', () => {
    const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '/', '.', '*', '-'), maxLength: 8 })
    const text = fc.string({ unit: fc.constantFrom('a', 'b', '/', '.', '-'), maxLength: 8 })
    fc.assert(
      fc.property(pattern, text, (some, name) => {
        const parts = (some.match(/\*+|[^*]/g) ?? []).map((part) =>
          part === '*' ? '[^/]*' : part.startsWith('*') ? '.*' : `[${part}]`,
        )
        const expression = new RegExp(`^${parts.join('')}$`)
        expect(matchesGlob(glob(some), name)).toBe(expression.test(name))
      }),
      { numRuns: 5000 },
    )
  })

  it('matches long texts across the words of its states', () => {
    const letter = fc.string({
      unit: fc.constantFrom('a', 'b', '/'),
      minLength: 30,
      maxLength: 100,
    })
    fc.assert(
      fc.property(letter, letter, letter, (start, middle, end) => {
        const text = `${start}${middle}${end}`
        expect(matchesGlob(glob(`${start}**${end}`), text)).toBe(true)
        expect(matchesGlob(glob(`${start}*${end}`), text)).toBe(!middle.includes('/'))
        expect(matchesGlob(glob(`**${middle}**`), text)).toBe(true)
        expect(matchesGlob(glob(`${start}**${end}c`), text)).toBe(false)
        expect(matchesGlob(glob(text), text)).toBe(true)
      }),
      { numRuns: 300 },
    )
  })

  it.each([
    `${'*a'.repeat(127)}b`,
    `${'**a'.repeat(85)}`,
    `**a*${'a'.repeat(200)}b`,
    `${'*'.repeat(254)}b`,
  ])('takes time proportional to the length of the text: %s', (text) => {
    const pattern = glob(text)
    const milliseconds = (length: number) => {
      const name = 'a'.repeat(length)
      const started = process.cpuUsage()
      for (let round = 0; round < 20; round += 1) matchesGlob(pattern, name)
      return process.cpuUsage(started).user / 1000
    }
    milliseconds(10_000)
    const short = milliseconds(10_000)
    // Ten times the text takes about ten times as long; a quadratic matcher takes a hundred times.
    expect(milliseconds(100_000)).toBeLessThan(40 * Math.max(short, 1))
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

import { expect, it } from 'vitest'
import { codeBelow } from './tree.ts'

// Postgres compiles a regular expression anew for each of many patterns, and matches `like` by backtracking.
const MATCHES = /(?:!?~\*?|\bi?like|\bsimilar to|\bregexp_\w+\()\s*(?:any\s*\(|all\s*\()?\s*\$\d/i

// With a plan for any value, Postgres uses no index for such a filter.
const OPTIONAL = /\$\d+(?:::\w+(?:\[\])?)? is null\s+or\b/i

it('no statement has a filter that a parameter turns off', () => {
  const optional = codeBelow('src').filter(({ text }) => OPTIONAL.test(text))
  expect(optional.map(({ path }) => path)).toEqual([])
  for (const text of ['($3::text is null or a = $3)', '($1 is null or b > $1)'])
    expect(text).toMatch(OPTIONAL)
  expect('expires_at is null or expires_at > $1').not.toMatch(OPTIONAL)
})

it('no statement matches a pattern of a caller in Postgres', () => {
  const files = codeBelow('src')
  expect(files.length).toBeGreaterThan(100)
  const matching = files.filter(({ text }) => MATCHES.test(text))
  expect(matching.map(({ path }) => path)).toEqual([])
  for (const text of ['name ~ any($2)', 'a !~* $1', 'name like $1', 'x similar to $3'])
    expect(text).toMatch(MATCHES)
})

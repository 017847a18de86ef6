import { expect, it } from 'vitest'
import { filesBelow } from './tree.ts'

// Postgres compiles a regular expression anew for each of many patterns, and matches `like` by backtracking.
const MATCHES = /(?:!?~\*?|\bi?like|\bsimilar to|\bregexp_\w+\()\s*(?:any\s*\(|all\s*\()?\s*\$\d/i

it('no statement matches a pattern of a caller in Postgres', () => {
  const files = filesBelow('src', '.ts')
  expect(files.length).toBeGreaterThan(100)
  const matching = files.filter(({ text }) => MATCHES.test(text))
  expect(matching.map(({ path }) => path)).toEqual([])
  for (const text of ['name ~ any($2)', 'a !~* $1', 'name like $1', 'x similar to $3'])
    expect(text).toMatch(MATCHES)
})

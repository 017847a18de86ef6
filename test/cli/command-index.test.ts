import { expect, it } from 'vitest'
import { FAMILIES, familyOf, loadAll } from '../../src/cli/command-index.ts'

it('every command is found by its first word, and every name has commands', async () => {
  for (const family of FAMILIES) {
    const first = new Set((await family.load()).map(({ words }) => words[0] ?? ''))
    expect([...first].sort()).toEqual([...family.names].sort())
    for (const name of family.names) expect(familyOf(name)).toBe(family)
  }
  const words = (await loadAll()).map((command) => command.words.join(' '))
  expect(new Set(words).size).toBe(words.length)
})

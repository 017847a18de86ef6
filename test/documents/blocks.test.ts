import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { listPages, ROOT } from '../house/tree.ts'
import { blocksOf, isScript, isShell, shellBlocksOf } from './pages.ts'
import { findPastedElsewhere, PAGES_WITH_CLIENTS, PASTED_ELSEWHERE } from './pasted-elsewhere.ts'
import { FOREIGN_PROGRAMS } from './pasting.ts'
import { unpastableLines } from './unpastable.ts'

const COMMAND = /^\s*(?:[$] |sudo |(?:rookery|npm|npx|node|curl|oras|docker|export|bash|sh) )/m
const blocks = listPages().flatMap((page) => shellBlocksOf(page))

describe('every shell block of every page', () => {
  it('can be pasted as it is: no placeholder, no cut line, no prompt, addresses in variables', () => {
    expect(blocks.length).toBeGreaterThan(30)
    expect(blocks.flatMap(unpastableLines)).toEqual([])
  })

  it('has the language of a shell: a block with commands and another language is not pasted', () => {
    const plain = listPages().flatMap((page) => blocksOf(page).filter((one) => !isShell(one)))
    expect(plain.length).toBeGreaterThan(10)
    expect(plain.filter(({ text }) => COMMAND.test(text))).toEqual([])
  })

  it.each(PASTED_ELSEWHERE)('of $page, $section is pasted by $test', (row) => {
    expect(blocks.filter((block) => findPastedElsewhere(block) === row)).not.toEqual([])
    expect(existsSync(join(ROOT, row.test)), row.test).toBe(true)
    expect(readFileSync(join(ROOT, row.test), 'utf8')).toContain(`'${row.page}'`)
  })

  it('of a page that needs clients is pasted by their tests', () => {
    const pages = new Set(blocks.map(({ page }) => page))
    const test = readFileSync(join(ROOT, 'test/clients/documents.test.ts'), 'utf8')
    for (const page of PAGES_WITH_CLIENTS) {
      expect(pages).toContain(page)
      expect(test).toContain(`paste('${page}'`)
    }
  })

  it('that is a script is a file of the examples', () => {
    const scripts = blocks.filter(isScript)
    expect(scripts).not.toEqual([])
    for (const { text } of scripts) {
      const [, name = ''] = /^# ([\w.-]+\.sh) /m.exec(text) ?? []
      expect(text).toBe(readFileSync(join(ROOT, 'docs/examples', name), 'utf8'))
    }
  })

  it('needs each of the programs that the tests replace', () => {
    const text = blocks.map((block) => block.text).join('')
    for (const program of FOREIGN_PROGRAMS) expect(text).toMatch(new RegExp(`^${program} `, 'm'))
  })
})

describe('a line that cannot be pasted is found:', () => {
  it.each([
    'rookery push . registry.example.org/a:b',
    'curl -f http://127.0.0.1:5000/v2/',
    'oras push <host>/a:b',
    'curl -u admin:… "$HOST"',
    'curl "$HOST" ...',
    '$ npm start',
    'rookery gc # sweep once',
    'rookery inspect "$IMAGE:live"',
    'oras login -u token --password-stdin "$HOST" <<< "$TOKEN"',
  ])('%s', (line) => {
    const page = `\`\`\`sh\nHOST=a.example.org\n${line}\n\`\`\`\n`
    expect(shellBlocksOf('a.md', page).flatMap(unpastableLines)).toHaveLength(1)
  })
})

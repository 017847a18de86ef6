import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Source } from './architecture.ts'
import {
  badNames,
  brokenLinks,
  brokenPaths,
  hastyWaits,
  openEnds,
  sleepingTests,
  tooLong,
  undocumented,
  unknownNames,
  vagueVerbs,
} from './tidy.ts'
import { codeBelow, filesBelow, ROOT } from './tree.ts'

const source = codeBelow('src')
const schema = filesBelow('schema', '.sql')
const spec = filesBelow('spec', '').filter(({ path }) => path.endsWith('.md'))
// These files contain the patterns that they refuse.
const tests = codeBelow('test').filter(({ path }) => !path.startsWith('house/'))

const file = (path: string, text: string): Source[] => [{ path, text }]

describe('the house has the form that the guide asks for', () => {
  it.each([
    ['files are named after what is in them', badNames, [...source, ...tests]],
    ['files are short', tooLong, [...source, ...tests]],
    ['nothing is left open', openEnds, [...source, ...schema, ...spec]],
    ['every test runs', sleepingTests, tests],
    ['every wait suits a busy machine', hastyWaits, tests],
    ['what is exported is explained', undocumented, source],
    ['verbs tell what to expect', vagueVerbs, source],
  ])('%s', (_what, check, files) => {
    expect(files.length).toBeGreaterThan(0)
    expect(check(files)).toEqual([])
  })

  it('the form of a UUID stands at one place', () => {
    const parts = /\[0-9a-f\]\{8\}(?:-|\(\?:-)\[0-9a-f\]\{4\}/
    const places = source.filter(({ text }) => parts.test(text)).map(({ path }) => path)
    expect(places).toEqual(['oci/uuid.ts'])
  })

  it('links lead somewhere', () => {
    const listed = execFileSync('git', ['ls-files', '*.md'], { cwd: ROOT, encoding: 'utf8' })
    const documents = listed
      .split('\n')
      .filter((path) => path.endsWith('.md') && !path.startsWith('test/fixtures/'))
      .map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') }))
    expect(documents.length).toBeGreaterThan(5)
    expect(brokenLinks(documents, (path) => existsSync(join(ROOT, path)))).toEqual([])
  })
})

describe('the pages for contributors are true', () => {
  const page = (path: string) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') })
  /** Rooms that are reserved. */
  const RESERVED = ['src/web']
  const exists = (path: string) => RESERVED.includes(path) || existsSync(join(ROOT, path))

  it.each(['ARCHITECTURE.md', 'CONTRIBUTING.md'])('%s names files that exist', (path) => {
    expect(brokenPaths([page(path)], exists)).toEqual([])
  })

  it.each(['ARCHITECTURE.md', 'CONTRIBUTING.md'])('%s names code that exists', (path) => {
    expect(unknownNames([page(path)], source)).toEqual([])
  })

  it('every path of a recipe is written with its folder', () => {
    const [, recipes = ''] = page('CONTRIBUTING.md').text.split('## Recipes')
    const named = [...recipes.matchAll(/`([\w./-]+\.(?:ts|md|sql|yaml))`/g)].map(([, path]) => path)
    expect(named.length).toBeGreaterThan(12)
    expect(named.filter((path) => !existsSync(join(ROOT, path ?? '')))).toEqual([])
  })

  it('ARCHITECTURE.md lists every room of src', () => {
    const { text } = page('ARCHITECTURE.md')
    const rooms = new Set(source.map(({ path }) => path.split('/')[0] ?? path))
    const listed = [...rooms].filter((room) =>
      new RegExp(`^  ${room.replace('.', '\\.')}(?:/| )`, 'm').test(text),
    )
    expect(listed).toEqual([...rooms])
  })

  it('the index of decisions lists each by its title', () => {
    const index = page('docs/decisions/README.md').text
    const rows = index.split('\n').filter((line) => /^\| \[\d+\]/.test(line))
    const titles = filesBelow('docs/decisions', '.md')
      .filter(({ path }) => path !== 'README.md')
      .sort((a, b) => a.path.localeCompare(b.path))
      .map(({ path, text }) => {
        const [, number, title] = /^# (\d+)\. (.*)/.exec(text) ?? []
        return `| [${number}](${path}) | ${title} |`
      })
    expect(rows).toEqual(titles)
  })
})

describe('a breach is caught:', () => {
  it.each([
    ['a camel-case file', () => badNames(file('http/sendBytes.ts', ''))],
    ['a vague file', () => badNames(file('http/utils.ts', ''))],
    ['401 lines', () => tooLong(file('a.ts', 'x\n'.repeat(401)))],
    ['a TODO without an issue', () => openEnds(file('a.ts', '// TODO later'))],
    ['an unfinished sentence', () => openEnds(file('a.ts', '// Simplified: one page'))],
    ['a test that runs alone', () => sleepingTests(file('a.test.ts', "it.only('x', f)"))],
    ['a wait without a limit', () => hastyWaits(file('a.ts', 'vi.waitFor(() => f(1, [2]))'))],
    ['a class without a docstring', () => undocumented(file('a.ts', 'export class Store {\n}'))],
    ['a get', () => vagueVerbs(file('a.ts', 'export function getBlob() {}'))],
    ['a dead path', () => brokenPaths(file('A.md', 'See `src/old.ts`.'), () => false)],
    [
      'a name of no code',
      () => unknownNames(file('A.md', 'See `Store.sweep`.'), file('a.ts', 'Store')),
    ],
    ['a dead link', () => brokenLinks(file('docs/a.md', '[b](b.md)'), () => false)],
  ])('%s', (_what, check) => {
    expect(check()).toHaveLength(1)
  })

  it('but not a TODO with its issue, or a link to the web', () => {
    expect(openEnds(file('a.ts', '// TODO(#12) later'))).toEqual([])
    expect(brokenLinks(file('a.md', '[b](https://example.org)'), () => false)).toEqual([])
  })
})

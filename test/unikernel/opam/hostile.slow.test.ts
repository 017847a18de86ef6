import { describe, expect, it } from 'vitest'
import { PROBLEMS_MAX } from '../../../src/unikernel/opam/fields.ts'
import { OPAM_BYTES_MAX, OPAM_TOKENS_MAX } from '../../../src/unikernel/opam/lexer.ts'
import { OPAM_PACKAGES_MAX } from '../../../src/unikernel/opam/package.ts'
import { OPAM_DEPTH_MAX, parseOpam } from '../../../src/unikernel/opam/parser.ts'
import { parseOpamSwitch } from '../../../src/unikernel/opam/switch.ts'

const MALFORMED = expect.objectContaining({ name: 'MalformedOpamError' })
const DEEP = 100_000
/** Text of the size limit of an opam file, minus a few bytes. */
const full = (text: string, width = Buffer.byteLength(text)) =>
  text.repeat(Math.floor((OPAM_BYTES_MAX - 100) / width))

describe('deep nesting is refused with a position:', () => {
  it.each([
    ['lists', 'a: [', '['],
    ['groups', 'a: (', '('],
    ['lists in options', 'a: b', ' {[b'],
    ['options of options', 'a: b', ' {}'],
    ['prefixes', 'a: !', '!'],
    ['sections', 'a {', 'a {'],
    ['sections with names', 'a "b" {', 'a "b" {'],
  ])('%s', (_what, begin, more) => {
    const problem = expect.objectContaining({
      line: 1,
      message: expect.stringContaining(`nested deeper than ${OPAM_DEPTH_MAX}`),
    })
    expect(() => parseOpam(begin + more.repeat(DEEP))).toThrow(problem)
    expect(() => parseOpamSwitch(begin + more.repeat(DEEP))).toThrow(problem)
  })

  it('nesting up to the limit is parsed', () => {
    const list = (depth: number) => `a: ${'['.repeat(depth)}${']'.repeat(depth)}`
    expect(parseOpam(list(OPAM_DEPTH_MAX))).toHaveLength(1)
    expect(() => parseOpam(list(OPAM_DEPTH_MAX + 1))).toThrow(MALFORMED)
    const sections = (depth: number) => `${'a {'.repeat(depth)}${'}'.repeat(depth)}`
    expect(parseOpam(sections(OPAM_DEPTH_MAX))).toHaveLength(1)
    expect(() => parseOpam(sections(OPAM_DEPTH_MAX + 1))).toThrow(MALFORMED)
  })

  it('long chains are not nesting', () => {
    const [field] = parseOpam(`a: a${' & a | a'.repeat(20_000)}`)
    expect(field).toMatchObject({ value: { kind: 'logical', operator: '|' } })
  })
})

describe('a token of megabytes is parsed or refused:', () => {
  it.each([
    ['a string', `a: "${full('x')}"`],
    ['a string of lines', `a: "${full('\n')}"`],
    ['a string of quotes', `a: """${full('"" ')}"""`],
    ['a string of escapes', `a: "${full('\\n')}"`],
    ['a string of bytes', `a: "${full('\\xff')}"`],
    ['a string of continued lines', `a: "${full('\\\n')}"`],
    ['an identifier', `a: ${full('x')}`],
    ['an identifier of many packages', `a: ${full('a+')}a`],
    ['a comment', `(*${full('x')}*) a: 1`],
    ['comments in comments', `${full('(*', 4)}${full('*)', 4)} a: 1`],
    ['a comment up to the end', `a: 1 #${full('x')}`],
    ['blanks', `${full(' ')} a: 1`],
    ['empty lines', `${full('\r\n')} a: 1`],
  ])('%s, parsed', (_what, text) => {
    expect(parseOpam(text)).toHaveLength(1)
    expect(parseOpam(Buffer.from(text))).toHaveLength(1)
  })

  it.each([
    ['a string without an end', `a: "${full('x')}`],
    ['a comment without an end', full('(*')],
    ['an integer', `a: ${full('1')}`],
    ['lines below letters', `a: ${full('_')}`],
    ['dashes', `a: ${full('-')}`],
    ['packages without letters', `a: b${full('+1')}`],
    ['NULs', full('\0')],
    ['other bytes', Buffer.alloc(OPAM_BYTES_MAX, 0xff)],
    ['integers without blanks', `a: [${full('1-')}`],
    ['identifiers', full('a ')],
    ['fields', full('a:1 ')],
  ])('%s, refused', (_what, text) => {
    expect(() => parseOpam(text)).toThrow(MALFORMED)
    expect(() => parseOpamSwitch(text)).toThrow(MALFORMED)
  })

  it('more bytes or tokens than the limits', () => {
    expect(() => parseOpam(Buffer.alloc(OPAM_BYTES_MAX + 1, 0x20))).toThrow(MALFORMED)
    expect(() => parseOpam('ä'.repeat(OPAM_BYTES_MAX / 2 + 1))).toThrow(
      expect.objectContaining({
        message: expect.stringContaining(`the limit is ${OPAM_BYTES_MAX}`),
      }),
    )
    const list = (tokens: number) => `a: [${'1 '.repeat(tokens - 4)}]`
    expect(parseOpam(list(OPAM_TOKENS_MAX))).toHaveLength(1)
    expect(() => parseOpam(list(OPAM_TOKENS_MAX + 1))).toThrow(MALFORMED)
  })

  it('the message shows few characters of it', () => {
    for (const text of [`"${full('x')}"`, full('1'), `a "b" "${full('\n')}"`]) {
      try {
        parseOpam(text)
        expect.unreachable()
      } catch (error) {
        expect(String(error).length).toBeLessThan(250)
        expect(String(error)).not.toContain('\n')
      }
    }
  })
})

describe('a switch with very many', () => {
  const MANY = 30_000
  const names = Array.from({ length: MANY }, (_, index) => `p${index}`)

  it('packages', () => {
    const list = (count: number) =>
      `installed: [${names
        .slice(0, count)
        .map((name) => `"${name}.1"`)
        .join(' ')}]`
    const { installed, problems } = parseOpamSwitch(list(OPAM_PACKAGES_MAX))
    expect(installed).toHaveLength(OPAM_PACKAGES_MAX)
    expect(problems).toHaveLength(1)
    expect(() => parseOpamSwitch(list(MANY))).toThrow(
      'installed has 30000 packages: at most 5000 are allowed',
    )
  })

  it('sections of packages is refused for too many tokens', () => {
    const sections = (count: number) =>
      names
        .slice(0, count)
        .map((name) => `package "${name}" { version: "1" }`)
        .join('\n')
    expect(() => parseOpamSwitch(sections(MANY))).toThrow(MALFORMED)
    const { problems } = parseOpamSwitch(sections(MANY / 4))
    expect(problems).toHaveLength(PROBLEMS_MAX + 1)
  })

  it.each([
    ['times the same package', `installed: [${'"a.1" '.repeat(OPAM_PACKAGES_MAX)}]`],
    ['times the same field', 'roots: []\n'.repeat(MANY / 2)],
    ['fields that nobody knows', 'zz: []\n'.repeat(MANY / 2)],
    ['words that are no packages', `installed: [${'"a" '.repeat(OPAM_PACKAGES_MAX)}]`],
    ['sections without a name', 'package {}\n'.repeat(MANY / 2)],
    ['sections of others', 'other {}\n'.repeat(MANY / 2)],
    [
      'fields of a package',
      `package "a" {${names.slice(0, MANY / 4).map((name) => `x-mirage-${name}: a {b}\n`)}}`.replaceAll(
        ',',
        '',
      ),
    ],
    ['URLs', `package "a" { ${'url {}\n'.repeat(MANY / 2)} }`],
  ])('%s has a limited number of problems', (_what, text) => {
    const { problems } = parseOpamSwitch(text)
    expect(problems).toHaveLength(PROBLEMS_MAX + 1)
    expect(problems.at(-1)?.problem).toMatch(/^there are [0-9]+ more problems$/)
  })
})

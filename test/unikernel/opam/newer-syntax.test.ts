import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseBuildHashes } from '../../../src/unikernel/host/build-hashes.ts'
import { MalformedOpamError, OPAM_TOKENS_MAX } from '../../../src/unikernel/opam/lexer.ts'
import { parseOpamLock } from '../../../src/unikernel/opam/lock.ts'
import { OPAM_DEPTH_MAX, parseOpam } from '../../../src/unikernel/opam/parser.ts'
import { parseOpamSwitch } from '../../../src/unikernel/opam/switch.ts'

/** A switch with a field, and a package with fields, of a version of opam. */
const switchFile = (version: string, field: string, inner = '') => `opam-version: "${version}"
${field}
roots: ["www.1"]
installed: ["lwt.5.9.0" "www.1"]
package "lwt" {
  opam-version: "2.0"
  ${inner}
  url {
    src: "https://example.org/lwt.tar.gz"
  }
}
package "www" {
  synopsis: "A site"
}
`

const NEWER = [
  ['an operator', 'flags: a %% b'],
  ['an operator at the end', 'flags: a %%'],
  ['a character', 'flags: @'],
  ['a list of pairs', 'flags: [a: "b" c: "d"]'],
  ['brackets of another kind', 'flags: <<a [b]> (c)>'],
  ['several lines', 'flags: [\n  a => b\n  c { d: }\n]'],
  ['a section with two titles', 'flags "a" "b" {\n  c: "d"\n}'],
  ['an item that is none', '["a"]'],
  ['a number', 'flags: 4611686018427387904'],
] as const

describe('a file for a newer opam, with syntax that is not known,', () => {
  it.each(NEWER)('is read without the field that has it: %s', (_, field) => {
    for (const version of ['2.2', '2.10', '2.3.0', '3.0', '2.5~alpha1']) {
      const found = parseOpamSwitch(switchFile(version, field))
      expect(found.installed.map(({ name, source }) => [name, source?.url])).toEqual([
        ['lwt', 'https://example.org/lwt.tar.gz'],
        ['www', undefined],
      ])
      expect(found.roots).toEqual([{ name: 'www', version: '1' }])
      expect(found.about).toEqual({ synopsis: 'A site' })
      const named = found.problems.map(({ problem }) => problem).join('\n')
      expect(named).toContain(`the file is for opam ${version}, and a part in newer syntax than`)
      expect(found.problems[0]?.line).toBeLessThan(6)
    }
  })

  it.each(NEWER)('is read without the field of a package that has it: %s', (_, field) => {
    const found = parseOpamSwitch(switchFile('2.2', '', field))
    expect(found.installed.map(({ name, source }) => [name, source?.url])).toEqual([
      ['lwt', 'https://example.org/lwt.tar.gz'],
      ['www', undefined],
    ])
    expect(found.problems.some(({ problem }) => problem.includes('opam 2.2'))).toBe(true)
  })

  it.each(NEWER)('is malformed when it is for opam 2.1: %s', (_, field) => {
    for (const version of ['2.0', '2.1', '2.1.9', '2', '1.2'])
      expect(() => parseOpamSwitch(switchFile(version, field))).toThrow(MalformedOpamError)
    expect(() => parseOpamSwitch(`${field}\ninstalled: ["a.1"]`)).toThrow(MalformedOpamError)
  })

  it('is read up to a string or a section that does not end', () => {
    for (const end of [
      'synopsis: "no end',
      'package "www" {\n  flags: [',
      '(* no end',
      'a: "\\q"',
    ]) {
      const found = parseOpamSwitch(
        `opam-version: "2.2"\ninstalled: ["lwt.5.9.0"]\n${end}\nb: "c"\n`,
      )
      expect(found.installed.map(({ name }) => name)).toEqual(['lwt'])
      expect(found.problems.some(({ problem }) => problem.includes('opam 2.2'))).toBe(true)
    }
  })

  it('is read as a lock file and as build hashes, too', () => {
    const lock = parseOpamLock(`opam-version: "2.2"
flags: @
depends: ["lwt" {= "5.9.0"}]
`)
    expect(lock.locked.map(({ name, version }) => [name, version])).toEqual([['lwt', '5.9.0']])
    expect(lock.problems[0]?.problem).toContain('opam 2.2')
    const hashes = parseBuildHashes(
      Buffer.from('opam-version: "2.2"\nflags: @\nadded: ["bin" {"D"}]\n'),
    )
    expect(hashes.files.map(({ path }) => path)).toEqual(['bin'])
    expect(hashes.problems[0]?.problem).toContain('opam 2.2')
  })

  it('has the same limits', () => {
    const head = 'opam-version: "2.2"\n'
    expect(() => parseOpam(`${head}a: ${'@ '.repeat(OPAM_TOKENS_MAX)}`)).toThrow(/tokens/)
    expect(() => parseOpam(`${head}a: ${'['.repeat(OPAM_DEPTH_MAX + 1)}`)).toThrow(/nested deeper/)
    expect(() => parseOpam(`${head}${'a {\n'.repeat(OPAM_DEPTH_MAX + 1)}`)).toThrow(/nested deeper/)
  })

  it('ends for any order of tokens', () => {
    const pieces = ['a', 'b', ':', '"c"', '[', ']', '(', ')', '{', '}', '\n', '@', '&', '=', '!']
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 40 }), (tokens) => {
        const text = `opam-version: "2.2"\nx: "y"\nz ${tokens.join(' ')}`
        expect(parseOpam(text)[1]).toMatchObject({ kind: 'field', name: 'x' })
      }),
      { numRuns: 3000 },
    )
  })
})

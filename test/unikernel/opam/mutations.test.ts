import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PROBLEMS_MAX } from '../../../src/unikernel/opam/fields.ts'
import { MalformedOpamError } from '../../../src/unikernel/opam/lexer.ts'
import { parseOpam } from '../../../src/unikernel/opam/parser.ts'
import { parseOpamSwitch } from '../../../src/unikernel/opam/switch.ts'

const FIXTURE = new URL('../../fixtures/opam/pinned-switch', import.meta.url)
const REAL = readFileSync(FIXTURE)

/** Parses, or refuses with a position and an error in one line. */
function expectReadOrRefused(source: Uint8Array | string): void {
  try {
    const found = parseOpamSwitch(source)
    expect(found.problems.length).toBeLessThanOrEqual(PROBLEMS_MAX + 1)
    // It is stored as JSON, which has neither NULs nor lone surrogates.
    JSON.stringify(found, (_key, value: unknown) => {
      if (typeof value === 'string') expect(value).not.toMatch(/[\0\p{Cs}]/u)
      return value
    })
  } catch (error) {
    if (!(error instanceof MalformedOpamError)) throw error
    expect(error.line).toBeGreaterThanOrEqual(1)
    expect(error.column).toBeGreaterThanOrEqual(1)
    expect(error.message).toMatch(/^malformed opam file: [^\n]{1,300}$/)
  }
}

describe('a switch is parsed or refused, and never breaks the parser,', () => {
  it('when truncated at any length', () => {
    for (let size = 0; size <= REAL.length; size += 1) expectReadOrRefused(REAL.subarray(0, size))
  })

  it('when bytes are changed', () => {
    const change = fc.tuple(fc.nat(REAL.length - 1), fc.nat(255))
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 5 }), (changes) => {
        const bytes = Uint8Array.from(REAL)
        for (const [at, byte] of changes) bytes[at] = byte
        expectReadOrRefused(bytes)
      }),
      { numRuns: 1000 },
    )
  })

  it('when composed of tokens of the format', () => {
    const pieces = [
      ...['a', 'package', 'url', 'x-mirage-b', 'installed', 'src', '"a.1"', '"x\\000"', '"""', '"'],
      ...[
        ':',
        '[',
        ']',
        '(',
        ')',
        '{',
        '}',
        '!',
        '?',
        '=',
        '>=',
        '+=',
        '&',
        '|',
        '-',
        '_',
        '1',
        ' ',
      ],
      ...['\n', '#', '(*', '*)', '\\', '\ud800', '\0', '🐫'],
    ]
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 40 }), (text) => {
        expectReadOrRefused(text.join(''))
        expectReadOrRefused(`package "a" { x-mirage-a: [${text.join('')}] }`)
      }),
      { numRuns: 2000 },
    )
  })

  it('when it has any bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), expectReadOrRefused))
  })
})

describe('an integer', () => {
  it.each(['0', '-1', '1_000', '9007199254740993', '-4611686018427387904'])(
    '%s is parsed',
    (text) => {
      expect(parseOpam(`a: ${text}`)).toMatchObject([
        { value: { kind: 'integer', value: Number(text.replace('_', '')) } },
      ])
    },
  )

  it('that cannot be represented exactly is a problem', () => {
    const text =
      'installed: "a.1" package "a" { x-mirage-a: 9007199254740991 x-mirage-b: 9007199254740993 }'
    const { mirage, problems } = parseOpamSwitch(text)
    expect(mirage).toEqual([{ package: 'a', name: 'x-mirage-a', value: 9007199254740991 }])
    expect(problems).toMatchObject([
      { column: 61, problem: expect.stringMatching(/simple values/) },
    ])
  })
})

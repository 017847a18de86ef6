import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  BUILD_ENVIRONMENT_BYTES_MAX,
  describeHost,
  parseBuildEnvironment,
} from '../../../src/unikernel/host/build-environment.ts'
import { parseBuildHashes } from '../../../src/unikernel/host/build-hashes.ts'
import { MalformedOpamError } from '../../../src/unikernel/opam/lexer.ts'

const file = (build: string, name: string) =>
  readFileSync(new URL(`../../fixtures/builds/${build}/${name}`, import.meta.url))
const environment = (text: string) => parseBuildEnvironment(Buffer.from(text))
const hashes = (text: string) => parseBuildHashes(Buffer.from(text))

const byKey = ([a]: [string, string], [b]: [string, string]) => (a < b ? -1 : 1)

describe('a build environment', () => {
  it.each([
    ['hello-key-1', 'linux', 'debian', 'debian', '12'],
    ['hello-key-2', 'linux', 'debian', 'debian', '12'],
    ['hello-key-3-freebsd-same-output', 'freebsd', 'bsd', 'freebsd', '1402000'],
    ['hello-key-4-same-input-different-output', 'linux', 'debian', 'debian', '12'],
    ['hello-key-5-failed', 'linux', 'debian', 'debian', '12'],
  ])('of %s is parsed', (build, os, family, distribution, version) => {
    const bytes = file(build, 'build-environment')
    const said = parseBuildEnvironment(bytes)
    expect(said.problems).toEqual([])
    expect(said.variables.length).toBe(16)
    expect(said.variables[0]).toEqual({ name: 'ARCH', value: 'x86_64' })
    expect(said.variables.map(({ name, value }) => `${name}=${value}`).sort()).toEqual(
      bytes.toString().split('\n').filter(Boolean).sort(),
    )
    expect(describeHost(said)).toEqual({
      os,
      family,
      distribution,
      version,
      architecture: 'x86_64',
      sourceDateEpoch: 1589138087,
      switchPath: '/tmp/myswitch',
      buildingPackage: 'hello-key',
    })
  })

  it('keeps values unchanged', () => {
    expect(environment('B=a=b \r\nA=\nC=ä "x"').variables).toEqual([
      { name: 'A', value: '' },
      { name: 'B', value: 'a=b ' },
      { name: 'C', value: 'ä "x"' },
    ])
  })

  it.each([
    ['A=1\nA=2', [{ name: 'A', value: '2' }], /a second value of A; the last one counts/],
    ['export A=1\nB=1', [{ name: 'B', value: '1' }], /"export A=1" is not NAME=value/],
    ['=1\nB=1', [{ name: 'B', value: '1' }], /"=1" is not NAME=value/],
    ['A\nB=1', [{ name: 'B', value: '1' }], /"A" is not NAME=value/],
    ['A=\0\nB=1', [{ name: 'B', value: '1' }], /the value of A has a NUL/],
    [`A=${'x'.repeat(70_000)}\nB=1`, [{ name: 'B', value: '1' }], /more than 65536 characters/],
  ])('%.20j has a problem', (text, variables, problem) => {
    const said = environment(text)
    expect(said.variables).toEqual(variables)
    expect(said.problems[0]?.problem).toMatch(problem)
  })

  it('describes no unknown properties of the host', () => {
    for (const epoch of ['', 'now', '-1', '1e9', '9'.repeat(12), '1.5']) {
      expect(describeHost(environment(`SOURCE_DATE_EPOCH=${epoch}\nOS=`))).toEqual({})
    }
    expect(describeHost(environment('SOURCE_DATE_EPOCH=0'))).toEqual({ sourceDateEpoch: 0 })
  })

  it('describes no unprintable properties of the host', () => {
    for (const value of ['\u001b[2J', 'a\u202eb', '\u0007', 'x'.repeat(1001)]) {
      expect(describeHost(environment(`OS=${value}\nARCH=x86_64`))).toEqual({
        architecture: 'x86_64',
      })
    }
  })

  it('leaves out what is not UTF-8, instead of changing it', () => {
    const said = parseBuildEnvironment(Buffer.from('A=\xff\nB=\xc3\xa4\n', 'latin1'))
    expect(said).toEqual({
      variables: [{ name: 'B', value: 'ä' }],
      problems: [{ line: 1, problem: 'the value of A is not UTF-8' }],
    })
  })

  it('is not parsed beyond its limit', () => {
    const most = `A=1\n${'\n'.repeat(BUILD_ENVIRONMENT_BYTES_MAX - 4)}`
    expect(environment(most)).toEqual({ variables: [{ name: 'A', value: '1' }], problems: [] })
    expect(environment(`${most}\n`)).toEqual({
      variables: [],
      problems: [{ line: 1, problem: 'the environment has 262145 bytes; the limit is 262144' }],
    })
  })

  it('has at most 10 000 variables', () => {
    const text = Array.from({ length: 10_001 }, (_, n) => `A${n}=1`).join('\n')
    const said = environment(text)
    expect(said.variables.length).toBe(10_000)
    expect(said.problems[0]?.problem).toMatch(/more than 10000 variables/)
  })

  it('that is written is parsed to the same variables', () => {
    const name = fc.stringMatching(/^[A-Z_][A-Z0-9_]{0,20}$/)
    const value = fc.string({ unit: fc.constantFrom('a', '=', ' ', '"', 'ä', '€', '\t') })
    fc.assert(
      fc.property(fc.dictionary(name, value), (written) => {
        const pairs = Object.entries(written)
        const said = environment(pairs.map(([key, of]) => `${key}=${of}`).join('\n'))
        expect(said.problems).toEqual([])
        expect(said.variables.map((one) => [one.name, one.value])).toEqual(pairs.sort(byKey))
      }),
    )
  })

  it('of any bytes never throws', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        describeHost(parseBuildEnvironment(bytes))
      }),
    )
  })
})

describe('build hashes', () => {
  it.each([
    ['hello-key-1', '9b2b9d51f8beda699235080e0ba0f8ca', 'fc0d7077d41cd82dc05cae3896d5d4fb'],
    ['hello-key-2', 'c486beed8b2b02c8d4ceb3b9f48a07cd', '08686fe582e552fe952dce1b694e66f5'],
    [
      'hello-key-3-freebsd-same-output',
      'c486beed8b2b02c8d4ceb3b9f48a07cd',
      '08686fe582e552fe952dce1b694e66f5',
    ],
    [
      'hello-key-4-same-input-different-output',
      '2ba35180fb2227b2c27f57d316fbb647',
      '506b2d7a9ba9df905928a510fd73d296',
    ],
  ])('of %s are parsed, and match the kernel', (build, kernel, debug) => {
    const digestOf = (name: string) => createHash('md5').update(file(build, name)).digest('hex')
    expect([digestOf('bin/hello-key.hvt'), digestOf('hello-key.hvt.debug')]).toEqual([
      kernel,
      debug,
    ])
    expect(parseBuildHashes(file(build, 'hello-key.build-hashes'))).toEqual({
      files: [
        {
          path: 'bin/hello-key.hvt',
          change: 'added',
          kind: 'file',
          digest: { algorithm: 'md5', hex: kernel },
        },
        {
          path: 'hello-key.hvt.debug',
          change: 'added',
          kind: 'file',
          digest: { algorithm: 'md5', hex: debug },
        },
      ],
      problems: [],
    })
  })

  it('may have folders, links, changes and other hashes', () => {
    const sha256 = 'A'.repeat(64)
    const said = hashes(`added: [ "b" {"D"} "a" {"F:sha256=${sha256}"} "l" {"L:b"} "x" ]
contents-changed: ["c" {"F:${'0'.repeat(32)}"}]
removed: ["r"]`)
    expect(said.problems).toEqual([])
    expect(said.files.map(({ path, change, kind }) => [path, change, kind])).toEqual([
      ['a', 'added', 'file'],
      ['b', 'added', 'directory'],
      ['c', 'contents-changed', 'file'],
      ['l', 'added', 'link'],
      ['x', 'added', 'other'],
    ])
    expect(said.files[0]?.digest).toEqual({ algorithm: 'sha256', hex: sha256.toLowerCase() })
  })

  it('may have files by size and time, and devices, without a hash', () => {
    for (const [said, kind] of [
      ['F:S1024T1589138087.', 'file'],
      ['F:S0T1.5e+09', 'file'],
      ['S:8:1', 'other'],
    ]) {
      expect(hashes(`added: ["a" {"${said}"}]`)).toEqual({
        files: [{ path: 'a', change: 'added', kind, digest: undefined }],
        problems: [],
      })
    }
  })

  it.each([
    ['added: ["a" {"F:123"}]', /F: and an MD5/],
    ['added: ["a" {"F:S12"}]', /F: and an MD5/],
    ['added: ["a" {"F:sha512=00"}]', /F: and an MD5/],
    ['added: ["a" "a"]', /a is listed twice/],
    ['added: [""]', /a path must not be empty/],
    ['added: [1]', /expected a string/],
    ['moved: ["a"]', /no such field/],
  ])('%s has a problem with a position', (text, problem) => {
    expect(hashes(text).problems[0]).toMatchObject({
      line: 1,
      problem: expect.stringMatching(problem),
    })
  })

  it('of any bytes are parsed or refused', () => {
    const pieces = [
      'added: [',
      ']',
      '"a"',
      '{"F:',
      'sha256=',
      'D"}',
      '"',
      ' ',
      '\n',
      '\0',
      'ä',
      '{',
    ]
    const written = fc.array(fc.constantFrom(...pieces)).map((some) => Buffer.from(some.join('')))
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 400 }), written), (bytes) => {
        try {
          parseBuildHashes(bytes)
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedOpamError)
        }
      }),
    )
  })

  it('that are not an opam file are refused', () => {
    for (const text of ['added: [', 'added', '}', '"x']) {
      expect(() => hashes(text)).toThrow(MalformedOpamError)
    }
  })
})

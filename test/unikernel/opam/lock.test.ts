import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { parseOpamLock } from '../../../src/unikernel/opam/lock.ts'
import { OPAM_PACKAGES_MAX } from '../../../src/unikernel/opam/package.ts'
import { parseOpamSwitch } from '../../../src/unikernel/opam/switch.ts'

const LOCK = readFileSync(
  new URL('../../fixtures/locks/hello-key-hvt.opam.locked', import.meta.url),
)

it('a lock file of opam-monorepo names vendored and installed packages with their versions', () => {
  const { kind, locked, roots, provided, duniverse, pins, mirage, problems, ...rest } =
    parseOpamLock(LOCK)
  expect(problems).toEqual([])
  expect(rest).toEqual({ opamVersion: '2.0', monorepoVersion: '0.3' })
  expect({ kind, roots, provided }).toEqual({
    kind: 'opam-monorepo',
    roots: ['hello-key-hvt'],
    provided: ['dune', 'ocaml-solo5'],
  })
  expect(locked).toHaveLength(27)
  expect(locked.find(({ name }) => name === 'metrics-lwt')).toEqual({
    name: 'metrics-lwt',
    version: '0.5.0',
    vendored: true,
  })
  expect(locked.filter(({ vendored }) => !vendored).map(({ name }) => name)).toEqual([
    'base-unix',
    'dune',
    'ocaml',
    'ocaml-solo5',
  ])
  expect(duniverse.map(({ directory }) => directory)).toEqual(['fork', 'mirage', 'ocaml-ipaddr'])
  expect(pins).toMatchObject([{ name: 'mirage-solo5', version: '0.10.0+fork' }])
  expect(mirage.map(({ name }) => name)).toEqual(['x-mirage-configure'])
})

it('a lock file of opam vendors nothing, and tests are no part of a build', () => {
  const { kind, locked, problems } = parseOpamLock(`opam-version: "2.0"
depends: [
  "a" {= "1"}
  "b" {= "2~rc1" & build}
  "c" {with-test & = "3"}
  "d" {(= "4") & with-doc}
  "e" {>= "5"}
  "f"
]`)
  expect({ kind, locked }).toEqual({
    kind: 'opam',
    locked: [
      { name: 'a', version: '1', vendored: false },
      { name: 'b', version: '2~rc1', vendored: false },
      { name: 'e', version: undefined, vendored: false },
      { name: 'f', version: undefined, vendored: false },
    ],
  })
  expect(problems.map(({ line, problem }) => [line, problem])).toEqual([
    [7, 'the version of e is not locked'],
    [8, 'the version of f is not locked'],
  ])
})

it('one pin or one source needs no outer brackets', () => {
  const { pins, duniverse } = parseOpamLock(`
pin-depends: [ "a.1" "https://example.org/a.tbz" ]
x-opam-monorepo-duniverse-dirs: [ "https://example.org/a.tbz" "a" [ "md5=00000000000000000000000000000000" ] ]`)
  expect(pins).toEqual([{ name: 'a', version: '1', url: 'https://example.org/a.tbz' }])
  expect(duniverse).toMatchObject([{ directory: 'a', checksums: [expect.stringMatching(/^md5=/)] }])
})

it('sources with labels name the packages in them', () => {
  const source = `[ url {"https://example.org/x.tbz"} dir {"x"} hashes {"md5=00000000000000000000000000000000"} dune-packages {"x" "x-lwt"} ]`
  for (const text of [source, `[${source}]`]) {
    const { duniverse, problems } = parseOpamLock(`x-opam-monorepo-duniverse-dirs: ${text}`)
    expect(problems).toEqual([])
    expect(duniverse).toMatchObject([
      { directory: 'x', url: 'https://example.org/x.tbz', packages: ['x', 'x-lwt'] },
    ])
  }
})

it.each([
  ['depends: [ 1 ]', 'expected a string'],
  ['depends: [ "1" {= "1"} ]', '"1" is not a valid package name'],
  ['depends: [ "a" {= "1"} "a" {= "2"} ]', 'a is locked twice'],
  ['depends: [ "a" {= "1" | = "2"} ]', 'the version of a is not locked'],
  ['pin-depends: [ ["a" "https://x"] ]', '"a" is not a valid name.version of a package'],
  ['pin-depends: [ ["a.1"] ]', 'expected a list of a package and a URL'],
  ['x-opam-monorepo-duniverse-dirs: [ ["https://x"] ]', /expected a list of a URL/],
  ['x-opam-monorepo-version: "a b"', 'not a version of opam-monorepo'],
  ['depends: []\ndepends: []', 'a second depends field'],
])('%s is a problem', (text, problem) => {
  const { problems } = parseOpamLock(text)
  expect(problems[0]?.problem).toEqual(
    typeof problem === 'string' ? problem : expect.stringMatching(problem),
  )
})

it('more packages or sources than the limits are refused', () => {
  const many = OPAM_PACKAGES_MAX + 1
  expect(() => parseOpamLock(`depends: [${'"a" '.repeat(many)}]`)).toThrow(/at most 5000/)
  const source = '["https://x" "x"] '
  expect(() => parseOpamLock(`x-opam-monorepo-duniverse-dirs: [${source.repeat(many)}]`)).toThrow(
    /5001 sources: at most 5000/,
  )
  expect(() => parseOpamLock('depends: [')).toThrow(/line 1, column 10/)
})

it('the largest integers of opam are read', () => {
  for (const integer of ['4611686018427387903', '-4611686018427387904', '0_0', '007', '-0']) {
    expect(parseOpamLock(`x-a: ${integer}`).problems).toEqual([])
  }
})

it.each([
  ['git: "https://example.org/x.git"', 'git+https://example.org/x.git'],
  ['git: "git://example.org/x"', 'git://example.org/x'],
  ['hg: "https://example.org/x"', 'hg+https://example.org/x'],
  ['darcs: "darcs+https://example.org/x"', 'darcs+https://example.org/x'],
  ['archive: "https://example.org/x.tbz"', 'https://example.org/x.tbz'],
  ['http: "https://example.org/x.tbz"', 'https://example.org/x.tbz'],
  ['local: "/home/x"', 'file:///home/x'],
])('the source of a package may be %s, as opam 1.2 wrote it', (field, url) => {
  const { installed, problems } = parseOpamSwitch(
    `installed: ["a.1"]\npackage "a" {\nurl {\n${field}\n}\n}`,
  )
  expect(problems).toEqual([])
  expect(installed).toMatchObject([{ source: { url } }])
})

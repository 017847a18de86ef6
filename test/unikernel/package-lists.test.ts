import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { listKnownPackages } from '../../src/unikernel/image-packages.ts'
import { parseOpamLock } from '../../src/unikernel/opam/lock.ts'
import { findRepository, sourceKeys } from '../../src/unikernel/opam/source-keys.ts'
import { parseOpamSwitch } from '../../src/unikernel/opam/switch.ts'

const fixture = (path: string) => readFileSync(new URL(`../fixtures/${path}`, import.meta.url))
const switchOf = (build: string) => parseOpamSwitch(fixture(`builds/${build}/opam-switch`))
const LOCK = parseOpamLock(fixture('locks/hello-key-hvt.opam.locked'))
const NOTHING = { opamSwitch: undefined, opamLock: undefined, systemPackages: undefined }

const packagesOf = (image: Partial<Parameters<typeof listKnownPackages>[0]>) => {
  const packages = listKnownPackages({ ...NOTHING, ...image })
  return (name: string) =>
    packages.flatMap((one) =>
      one.name === name ? [[one.version, one.basis, one.source?.directory ?? null]] : [],
    )
}

it('the packages of an archive are those that the graph of the build names', () => {
  const of = packagesOf({ opamSwitch: switchOf('hello-key-2') })
  expect(of('metrics')).toEqual([['0.5.0', 'inferred', 'metrics']])
  expect(of('metrics-lwt')).toEqual([['0.5.0', 'inferred', 'metrics']])
  expect(of('mirage-runtime')).toEqual([['4.11.2', 'inferred', 'mirage']])
  expect(of('lwt')).toEqual([['6.1.2', 'inferred', 'lwt']])
  // Installed, and in an archive of the same version.
  expect(of('fmt')).toEqual([['0.11.0', 'installed', 'fmt']])
  expect(of('cppo')).toEqual([[null, 'unknown', null]])
})

it('an archive of OCaml is not the package ocaml, and not the installed compiler', () => {
  const of = packagesOf({ opamSwitch: switchOf('hello-key-2') })
  expect(of('ocaml')).toEqual([['5.2.1', 'installed', null]])
  expect(of('ocaml-base-compiler')).toEqual([['5.2.1', 'installed', null]])
  expect(of('ocaml-compiler')).toEqual([['5.3.0', 'inferred', 'ocaml.git#5.3']])
})

it('a lock file names each package, and counts before the switch export', () => {
  const of = packagesOf({ opamLock: LOCK, opamSwitch: switchOf('hello-key-1') })
  // The switch export has 4.11.0 in the folder of the same name.
  expect(of('mirage-runtime')).toEqual([['4.11.2', 'lock', 'mirage']])
  expect(of('mirage-solo5')).toEqual([['0.10.0+fork', 'lock', 'fork']])
  expect(of('macaddr')).toEqual([['5.6.2', 'lock', null]])
  expect(of('ocaml')).toEqual([['5.2.1', 'lock', null]])
  // The installed package stays.
  expect(of('dune')).toEqual([
    ['3.23.1', 'installed', 'dune'],
    ['3.24.2', 'lock', null],
  ])
  expect(of('angstrom')).toEqual([['0.16.1', 'installed', null]])
  expect(of('cppo')).toEqual([[null, 'unknown', null]])
})

it('a source that no graph names is the package of its archive or folder', () => {
  const of = (source: string) => {
    const opamSwitch = parseOpamSwitch(
      `installed: ["a.1"]\npackage "a" {\nx-opam-monorepo-duniverse-dirs: [${source}]\n}`,
    )
    return listKnownPackages({ ...NOTHING, opamSwitch })
      .filter(({ name }) => name !== 'a')
      .map(({ name, version, basis }) => [name, version, basis])
  }
  expect(of('["https://example.org/b-2.0.tbz" "c"]')).toEqual([['b', '2.0', 'inferred']])
  expect(of('["git+https://example.org/b.git#main" "c"]')).toEqual([['c', null, 'unknown']])
  expect(of('["https://example.org/ocaml-5.3.0.tar.gz" "ocaml.git#5.3"]')).toEqual([])
  expect(of('["https://example.org/v1.2.tar.gz" "ocaml-d"]')).toEqual([
    ['ocaml-d', '1.2', 'inferred'],
  ])
})

it.each([
  ['git+https://github.com/Mirage/mirage.git#main', 'github.com/mirage/mirage'],
  [
    'https://github.com/mirage/mirage/releases/download/v1/mirage-1.tbz',
    'github.com/mirage/mirage',
  ],
  ['https://github.com/ocsigen/lwt/archive/refs/tags/6.1.2.tar.gz', 'github.com/ocsigen/lwt'],
  ['https://gitlab.com/a/b/-/archive/1/b-1.tar.gz', 'gitlab.com/a/b'],
  ['git+ssh://git@example.org/a/b/c.git', 'example.org/a/b/c'],
  ['git@github.com:mirage/mirage.git', 'github.com/mirage/mirage'],
  ['git://example.org/x', 'example.org/x'],
  ['https://erratique.ch/software/fmt/releases/fmt-0.11.0.tbz', 'erratique.ch/software/fmt'],
  ['https://example.org/fmt-0.11.0.tbz', undefined],
  ['file:///tmp/x', undefined],
  [`git+https://example.org/${'a'.repeat(300)}.git`, undefined],
])('the source repository of %s is %s', (url, repository) => {
  expect(findRepository(url)).toBe(repository)
})

it('a commit identifies a source, in an archive of it as well', () => {
  const commit = '0123456789abcdef0123456789abcdef01234567'
  const keys = (url: string) => sourceKeys({ url, checksums: [] })
  expect(keys(`git+https://example.org/x.git#${commit}`)[0]).toBe(`git=${commit}`)
  expect(keys(`https://github.com/a/b/archive/${commit}.tar.gz`)[0]).toBe(`git=${commit}`)
  expect(keys('git+https://example.org/x.git#main')).toEqual([expect.stringMatching(/^url=/)])
})

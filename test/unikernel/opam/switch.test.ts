import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { parseOpamSwitch } from '../../../src/unikernel/opam/switch.ts'
import { findVendoredPackage } from '../../../src/unikernel/opam/vendored.ts'

const FIXTURES = new URL('../../fixtures/', import.meta.url)
const textOf = (path: string) => readFileSync(new URL(path, FIXTURES), 'utf8')
const switchOf = (build: string) => parseOpamSwitch(textOf(`builds/${build}/opam-switch`))
const BUILDS = [
  'hello-key-1',
  'hello-key-2',
  'hello-key-3-freebsd-same-output',
  'hello-key-4-same-input-different-output',
  'hello-key-5-failed',
]

describe('an exported switch', () => {
  it.each(BUILDS)('%s is understood, all of it', (build) => {
    const text = textOf(`builds/${build}/opam-switch`)
    const found = switchOf(build)
    expect(found.problems).toEqual([])
    expect(found.opamVersion).toBe('2.0')
    const [, list = ''] = /^installed: \[([^\]]*)\]/m.exec(text) ?? []
    const installed = [...list.matchAll(/"([^"]+)"/g)].map(([, one]) => one)
    expect(found.installed.map(({ name, version }) => `${name}.${version}`)).toEqual(installed)
    expect(found.pinned).toEqual([])
  })

  it('has the root and its fields', () => {
    const found = switchOf('hello-key-2')
    expect(found.roots).toEqual([{ name: 'hello-key', version: '1.0.0' }])
    expect(found.mirage).toEqual([
      {
        package: 'hello-key',
        name: 'x-mirage-configure',
        value: ['sh', '-exc', 'mirage configure --target hvt --no-extra-repo'],
      },
      {
        package: 'hello-key',
        name: 'x-mirage-extra-repo',
        value: [['opam-overlays', 'https://github.com/dune-universe/opam-overlays.git']],
      },
      {
        package: 'hello-key',
        name: 'x-mirage-opam-lock-location',
        value: 'mirage/hello-key-hvt.opam.locked',
      },
      {
        package: 'hello-key',
        name: 'x-mirage-pre-build',
        value: ['make', 'lock', 'depext-lockfile', 'pull'],
      },
    ])
    expect(found.duniverse.length).toBe(22)
    expect(found.duniverse.find(({ directory }) => directory === 'fmt')).toEqual({
      package: 'hello-key',
      directory: 'fmt',
      url: 'https://erratique.ch/software/fmt/releases/fmt-0.11.0.tbz',
      checksums: [
        'sha512=3f40155fc6a7315202e410585964307d63416c8001fd243667ed9d8d1a02b67deecacb25e9c2feb409c537bbdfb7817d91168de4ddd643532ff51d6c1c696a4a',
      ],
    })
    const root = found.dependencies.find(({ name }) => name === 'hello-key')
    expect(root?.dependsOn).toContain('mirage-solo5')
    expect(found.dependencies.length).toBe(41)
  })

  it('has the source of each package, with all its checksums', () => {
    const found = switchOf('hello-key-1')
    const dune = found.installed.find(({ name }) => name === 'dune')
    expect(dune).toMatchObject({
      version: '3.23.1',
      pinned: false,
      source: { url: 'https://github.com/ocaml/dune/releases/download/3.23.1/dune-3.23.1.tbz' },
    })
    expect(dune?.source?.checksums.map((one) => one.split('=')[0])).toEqual(['sha256', 'sha512'])
    const without = found.installed.filter(({ source }) => source === undefined)
    expect(without.map(({ name }) => name)).toContain('conf-pkg-config')
  })

  it('of a failed build has no unikernel', () => {
    const found = switchOf('hello-key-5-failed')
    expect(found).toMatchObject({ roots: [], duniverse: [], mirage: [], dependencies: [] })
    expect(found.installed.length).toBe(42)
  })

  it('with pins has their sources', () => {
    const found = parseOpamSwitch(textOf('opam/pinned-switch'))
    expect(found.problems).toEqual([])
    expect(found.compiler).toEqual([{ name: 'comp', version: '4.0' }])
    expect(found.pinned).toEqual([{ name: 'bb', version: '3.2' }])
    expect(found.installed.find(({ name }) => name === 'bb')).toMatchObject({
      pinned: true,
      source: { url: 'git+https://example.org/bb.git#02d1de11', checksums: [] },
    })
    const byVersion = parseOpamSwitch(textOf('opam/version-pinned-switch'))
    expect(byVersion.pinned.map(({ name }) => name)).toEqual(['aa', 'bb'])
    expect(byVersion.problems).toMatchObject([
      { problem: expect.stringMatching(/1 installed packages are not described, such as aa/) },
    ])
  })
})

describe('a wrong field is a problem with a position', () => {
  it.each([
    ['installed: ["a"]', /"a" is not a valid name\.version/],
    ['installed: ["a.1" "a.2"]', /a second version of a/],
    ['roots: ["a.1"]', /a\.1 is not among the installed packages/],
    ['installed: ["a.1"] package "b" { version: "1" }', /b is described but not installed/],
    [
      'installed: ["a.1"] package "a" { version: "2" }',
      /version 2 is described, but 1 is installed/,
    ],
    ['installed: ["a.1"] package "a" { url { src: 1 } }', /expected a string/],
    ['installed: ["a.1"] package "a" { url { checksum: "md5=0" } }', /is no checksum|without src/],
    [
      'installed: ["a.1"] package "a" { x-opam-monorepo-duniverse-dirs: ["x"] }',
      /expected a list of a URL/,
    ],
    [
      'installed: ["a.1"] package "a" { x-orb-dependencies: [["a"]] }',
      /expected a list of a package/,
    ],
    [
      'installed: ["a.1"] package "a" { x-mirage-x: a {b} }',
      /may have only lists of simple values/,
    ],
    ['installed: 1', /expected a string/],
    ['flavour: "x"', /unknown (?:field|section) in a switch export/],
    ['opam-version: "3.0"', /opam-version other than 2/],
  ])('%s', (text, problem) => {
    const { problems } = parseOpamSwitch(text)
    expect(problems.map((one) => one.problem).join('; ')).toMatch(problem)
    expect(problems[0]).toMatchObject({ line: 1 })
  })
})

describe('a vendored source', () => {
  it('is a package by its archive, or by its folder', () => {
    const cases = switchOf('hello-key-2').duniverse.map((source) => {
      const found = findVendoredPackage(source)
      return `${source.directory}: ${found?.name} ${found?.version}`
    })
    expect(cases).toEqual([
      'bheap: bheap 2.0.0',
      'cmdliner: cmdliner 2.1.1',
      'csexp: csexp 1.5.2',
      'domain-name: domain-name 0.5.0',
      'dune: dune 3.24.2',
      'duration: duration 0.3.1',
      'fmt: fmt 0.11.0',
      'logs: logs 0.10.0',
      'lwt: lwt 6.1.2',
      'metrics: metrics 0.5.0',
      'mirage: mirage 4.11.2',
      'mirage-bootvar: mirage-bootvar 1.0.1',
      'mirage-logs: mirage-logs 3.0.0',
      'mirage-mtime: mirage-mtime 5.2.0',
      'mirage-ptime: mirage-ptime 5.2.0',
      'mirage-sleep: mirage-sleep 4.1.0',
      'mirage-solo5: mirage-solo5 0.10.0',
      'mtime: mtime 2.2.0',
      'ocaml-ipaddr: ipaddr 5.6.2',
      'ocaml.git#5.3: ocaml 5.3.0',
      'ocplib-endian: ocplib-endian 1.2',
      'ptime: ptime 1.2.0',
    ])
  })

  it.each([
    [
      'https://github.com/janestreet/base/archive/refs/tags/v0.16.3.tar.gz',
      'base',
      'base',
      'v0.16.3',
    ],
    ['https://github.com/mirage/x/archive/v1.2.tar.gz', 'x', 'x', '1.2'],
    ['https://e.org/solo5-v0.12.1.tar.gz?x=y#z', 's', 'solo5', '0.12.1'],
    ['https://e.org/conf-g++-1.0~rc1.zip', 'd', 'conf-g++', '1.0~rc1'],
    ['git+https://github.com/mirage/ocaml-dns.git#e4d5f6', 'ocaml-dns', 'ocaml-dns', undefined],
    ['https://e.org/latest.tbz', 'thing', 'thing', undefined],
    ['https://e.org/', 'ocaml.git#5.3', undefined, undefined],
    [`https://e.org/${'1-'.repeat(900)}.tbz`, 'long', 'long', undefined],
  ])('%.60s', (url, directory, name, version) => {
    const found = findVendoredPackage({ url, directory, checksums: [] })
    expect(found).toEqual(name === undefined ? undefined : { name, version })
  })
})

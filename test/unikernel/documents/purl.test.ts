import fc from 'fast-check'
import { PackageURL } from 'packageurl-js'
import { describe, expect, it } from 'vitest'
import {
  encoded,
  hostPurl,
  ociPurl,
  opamNamePurl,
  opamPurl,
  vendoredPurl,
} from '../../../src/unikernel/documents/purl.ts'
import { findOpamPackage } from '../../../src/unikernel/opam/package.ts'
import { CONTEXT } from './images.ts'

const SHA256 = `sha256=${'a'.repeat(64)}` as const
const MD5 = `md5=${'b'.repeat(32)}` as const
const COMMIT = '0123456789abcdef0123456789abcdef01234567'

function installed(word: string, more: { pinned?: boolean; url?: string } = {}) {
  const found = findOpamPackage(word)
  if (found === undefined) throw new Error(`${word} is no package of opam`)
  const { pinned = false, url } = more
  const source = url === undefined ? undefined : { url, checksums: [MD5, SHA256] }
  return { ...found, pinned, source, extraSources: [] }
}

const vendored = (url: string, directory = 'x') =>
  vendoredPurl({ url, directory, checksums: [SHA256] })

describe('the package URL', () => {
  it('of an opam package has its name and version', () => {
    const cases = {
      'dune.3.24.2': 'pkg:opam/dune@3.24.2',
      'conf-g++.1.0': 'pkg:opam/conf-g%2B%2B@1.0',
      'ocaml-src.5.2.1+options~rc1': 'pkg:opam/ocaml-src@5.2.1%2Boptions~rc1',
      'Zarith_x.v0.16': 'pkg:opam/Zarith_x@v0.16',
    }
    for (const [word, purl] of Object.entries(cases)) {
      expect(opamPurl(installed(word, { url: 'https://example.org/x' }))).toBe(purl)
    }
    expect(opamNamePurl('mirage-runtime')).toBe('pkg:opam/mirage-runtime')
  })

  it('of a pinned package has its source', () => {
    const checksum = `checksum=md5:${'b'.repeat(32)}%2Csha256:${'a'.repeat(64)}`
    const git = { pinned: true, url: 'git+https://example.org/x.git#main' }
    expect(opamPurl(installed('x.1', git))).toBe(
      `pkg:opam/x@1?${checksum}&vcs_url=git%2Bhttps:%2F%2Fexample.org%2Fx.git%40main`,
    )
    const archive = { pinned: true, url: 'https://example.org/x.tbz' }
    expect(opamPurl(installed('x.1', archive))).toBe(
      `pkg:opam/x@1?${checksum}&download_url=https:%2F%2Fexample.org%2Fx.tbz`,
    )
    expect(opamPurl(installed('x.1', { pinned: true }))).toBe('pkg:opam/x@1')
  })

  it('of a vendored source has the GitHub type when its URL has the tag or commit', () => {
    const cases = {
      'https://github.com/ocsigen/lwt/archive/refs/tags/6.1.2.tar.gz': 'ocsigen/lwt@6.1.2',
      'https://github.com/Mirage/Metrics/archive/v0.5.0.zip': 'mirage/metrics@v0.5.0',
      'https://github.com/ocaml/dune/releases/download/3.24.2/dune-3.24.2.tbz': 'ocaml/dune@3.24.2',
      [`git+https://github.com/o/r.git#${COMMIT}`]: `o/r@${COMMIT}`,
      [`https://github.com/o/r.git#${COMMIT}`]: `o/r@${COMMIT}`,
      'git+ssh://git@github.com/o/r.git#v1': 'o/r@v1',
      'git://github.com/o/r': 'o/r',
      'https://github.com/o/r/archive/refs/tags/rel/1+a.tar.gz': 'o/r@rel%2F1%2Ba',
    }
    for (const [url, path] of Object.entries(cases)) {
      expect(vendored(url), url).toBe(`pkg:github/${path}`)
    }
  })

  it('of any other vendored source has its URL', () => {
    const others = [
      'https://github.com/o/r/archive/refs/heads/main.tar.gz',
      'https://github.com/o/r/raw/main/x.tbz',
      'https://github.com/o',
      'https://github.com/../../archive/1.tar.gz',
      'https://github.com.example.org/o/r/archive/1.tar.gz',
      'https://example.org/github.com/o/r/archive/1.tar.gz',
      'https://github.com/o/r/releases/download/1',
      'hg+https://github.com/o/r#1',
      'git@github.com:o/r.git',
      '/home/x',
      '#',
    ]
    for (const url of others)
      expect(vendored(url), url).toMatch(/^pkg:generic\/x\?checksum=sha256:/)
    expect(vendored('https://erratique.ch/software/fmt/releases/fmt-0.11.0.tbz', 'fmt')).toBe(
      `pkg:generic/fmt@0.11.0?checksum=sha256:${'a'.repeat(64)}&download_url=https:%2F%2Ferratique.ch%2Fsoftware%2Ffmt%2Freleases%2Ffmt-0.11.0.tbz`,
    )
  })

  it('of a package of the host has its distribution, when the environment has it', () => {
    const bookworm = { distribution: 'debian', version: '12' }
    const one = { name: 'bash', version: '1:5.2.15-2+b8' }
    const bash = 'bash@1:5.2.15-2%2Bb8'
    expect(hostPurl('dpkg', one, bookworm)).toBe(`pkg:deb/debian/${bash}?distro=debian-12`)
    expect(hostPurl('dpkg', one, undefined)).toBe(`pkg:deb/debian/${bash}`)
    expect(hostPurl('dpkg', { ...one, architecture: 'i386' }, { distribution: 'Ubuntu' })).toBe(
      `pkg:deb/ubuntu/${bash}?arch=i386`,
    )
    const musl = { name: 'musl', version: '1.2.5-r0', architecture: 'x86_64' }
    expect(hostPurl('apk', musl, { distribution: 'alpine', version: '3.22' })).toBe(
      'pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.22',
    )
    const git = { name: 'git', version: '2.49.0_1,1' }
    expect(hostPurl('pkg', git, { distribution: 'freebsd', version: '14.2' })).toBe(
      'pkg:generic/freebsd/git@2.49.0_1%2C1?distro=freebsd-14.2',
    )
    for (const distribution of ['', '../x', 'a/b', 'a b', '?x=y', '-']) {
      expect(hostPurl('dpkg', one, { distribution, version: '1' })).toBe(`pkg:deb/debian/${bash}`)
    }
    for (const version of ['', '12%', '1 2', '../12', '12&x=y', 'zw\u00f6lf']) {
      expect(hostPurl('dpkg', one, { distribution: 'debian', version })).toBe(
        `pkg:deb/debian/${bash}`,
      )
    }
  })

  it('of an image has the repository and its name', () => {
    const at = `pkg:oci/key@${CONTEXT.digest}?repository_url=registry.example:5000%2Fhello%2Fkey`
    expect(ociPurl(CONTEXT)).toBe(at)
    expect(ociPurl(CONTEXT, 'v1.0')).toBe(`${at}&tag=v1.0`)
  })

  it('is parsed by other libraries to its parts', () => {
    const word = fc.stringMatching(/^[A-Za-z][A-Za-z0-9_+-]{0,20}\.[A-Za-z0-9_+.~-]{1,20}$/)
    // The other library decodes the values of qualifiers twice, so it cannot read a percent sign.
    const url = fc
      .string({ unit: 'grapheme', minLength: 1 })
      .map((text) => text.replace(/[\s%]/g, '_'))
    fc.assert(
      fc.property(word, url, (text, path) => {
        const one = installed(text, { pinned: true, url: `https://example.org/${path}.tbz` })
        const read = PackageURL.fromString(opamPurl(one))
        expect(read).toMatchObject({ type: 'opam', name: one.name, version: one.version })
        expect(read.qualifiers?.download_url).toMatch(/^https:\/\/example\.org\//)
        expect(read.qualifiers?.checksum).toBe(`${MD5},${SHA256}`.replaceAll('=', ':'))
      }),
    )
  })

  it('encodes everything except the characters of the specification', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(encoded(text)).toMatch(/^(?:[A-Za-z0-9.\-_~:]|%[0-9A-F]{2})*$/)
        expect(decodeURIComponent(encoded(text))).toBe(Buffer.from(text).toString())
      }),
    )
    expect(encoded("a b/@?=&#+%!'()*\ud800")).toBe(
      'a%20b%2F%40%3F%3D%26%23%2B%25%21%27%28%29%2A%EF%BF%BD',
    )
  })
})

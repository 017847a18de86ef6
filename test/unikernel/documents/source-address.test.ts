import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  findArchiveVersion,
  findCommit,
  findGithub,
  findLocation,
  isLink,
  parseSourceAddress,
  uriOf,
} from '../../../src/unikernel/documents/source-address.ts'

const COMMIT = '0123456789abcdef0123456789abcdef01234567'

describe('a source URL', () => {
  it('is parsed as by opam', () => {
    const cases = {
      'https://example.org/x.tbz': [undefined, 'https://example.org/x.tbz', undefined],
      'https://example.org/x.git#v1': ['git', 'https://example.org/x.git', 'v1'],
      'git+file:///srv/x#main': ['git', 'file:///srv/x', 'main'],
      'git://example.org/x': ['git', 'git://example.org/x', undefined],
      'hg+https://example.org/x#tip': ['hg', 'https://example.org/x', 'tip'],
      'darcs+https://example.org/x#': ['darcs', 'https://example.org/x', undefined],
      'https://example.org/x.tbz#part': [undefined, 'https://example.org/x.tbz#part', undefined],
      '/home/x': [undefined, '/home/x', undefined],
    } as const
    for (const [url, [vcs, address, reference]] of Object.entries(cases)) {
      expect(parseSourceAddress(url), url).toEqual({ vcs, address, reference })
    }
  })

  it('is an SPDX location only on a network', () => {
    const cases = {
      [`git+ssh://git@example.org/x#${COMMIT}`]: `git+ssh://git@example.org/x@${COMMIT}`,
      'git://example.org/x#a#b': 'git+git://example.org/x@a#b',
      'hg+https://example.org/x': 'hg+https://example.org/x',
      'darcs+https://example.org/x': undefined,
      'git+file:///srv/x': undefined,
      'file:///srv/x': undefined,
      'javascript:alert(1)': undefined,
      'https:///x': undefined,
      '/srv/x': undefined,
      '': undefined,
    }
    for (const [url, location] of Object.entries(cases)) {
      expect(findLocation(parseSourceAddress(url)), url).toBe(location)
    }
  })

  it('has a commit only with all digits, and only of git', () => {
    expect(findCommit(parseSourceAddress(`git+https://example.org/x#${COMMIT}`))).toBe(COMMIT)
    const sha256 = 'c'.repeat(64)
    expect(findCommit(parseSourceAddress(`git+https://example.org/x#${sha256}`))).toBe(sha256)
    for (const url of [
      `git+https://example.org/x#${COMMIT.slice(1)}`,
      `git+https://example.org/x#${COMMIT}0`,
      `hg+https://e/x#${COMMIT}`,
    ]) {
      expect(findCommit(parseSourceAddress(url)), url).toBeUndefined()
    }
  })

  it('is a link only with a scheme of sources', () => {
    for (const url of ['https://e/x', 'git+ssh://git@e/x', 'git+file:///srv/x', 'rsync://e/x']) {
      expect(isLink(parseSourceAddress(url)), url).toBe(true)
    }
    for (const url of [
      'javascript:alert(1)',
      'data:text/html,x',
      '/srv/x',
      '../x',
      'https:',
      '#',
    ]) {
      expect(isLink(parseSourceAddress(url)), url).toBe(false)
    }
  })

  it("has the version of its archive's name", () => {
    const cases = {
      'https://e/cmdliner-2.1.1.tbz': '2.1.1',
      'https://e/ocaml-ipaddr-v5.6.2.tar.gz': '5.6.2',
      'https://e/x-1.0~rc1+2.zip': '1.0~rc1+2',
      'https://e/v1.tar.gz': undefined,
      'https://e/x-main.tbz': undefined,
      'https://e/x-1.exe': undefined,
      'git+https://e/x-1.tbz': undefined,
      [`https://e/${'a-'.repeat(50_000)}.tbz`]: undefined,
    }
    for (const [url, version] of Object.entries(cases)) {
      expect(findArchiveVersion(parseSourceAddress(url)), url.slice(0, 50)).toBe(version)
    }
  })

  it('becomes a valid URI, for any text', () => {
    const uri =
      /^(?:[A-Za-z0-9\-._~:/?@!$&'()*+,;=[\]]|%[0-9A-Fa-f]{2})*(?:#(?:[A-Za-z0-9\-._~:/?@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)?$/
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(uriOf(text)).toMatch(uri)
        expect(uriOf(uriOf(text))).toBe(uriOf(text))
        expect(() => [parseSourceAddress(text), findGithub(parseSourceAddress(text))]).not.toThrow()
      }),
    )
    const cases = {
      'https://[::1]:8080/[x]': 'https://[::1]:8080/%5Bx%5D',
      'https://e/%41%zz%': 'https://e/%41%25zz%25',
      'https://e/ü#ä#b': 'https://e/%C3%BC#%C3%A4%23b',
    }
    for (const [text, result] of Object.entries(cases)) expect(uriOf(text)).toBe(result)
  })
})

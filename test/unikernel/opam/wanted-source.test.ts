import { describe, expect, it } from 'vitest'
import {
  findWantedChecksum,
  findWantedRepository,
  hasReference,
} from '../../../src/unikernel/opam/wanted-source.ts'

const MIRAGE = 'github.com/mirage/mirage-crypto'
const COMMIT = '0f1e2d3c4b5a69788796a5b4c3d2e1f001234567'

describe('a source repository', () => {
  it.each([
    'https://github.com/mirage/mirage-crypto',
    'https://github.com/mirage/mirage-crypto/',
    'http://www.github.com/Mirage/mirage-crypto.git',
    'git+https://github.com/mirage/mirage-crypto.git',
    'git+ssh://git@github.com/mirage/mirage-crypto.git/',
    'ssh://git@github.com/mirage/mirage-crypto',
    'git://github.com/mirage/mirage-crypto',
    'git@github.com:mirage/mirage-crypto.git',
    'git@github.com:mirage/mirage-crypto',
    'https://somebody:secret@github.com/mirage/mirage-crypto',
    'github.com/mirage/mirage-crypto',
    'https://github.com/mirage/mirage-crypto/tree/main/src',
    'https://github.com/mirage/mirage-crypto/releases',
    'https://github.com/mirage/mirage-crypto?tab=readme',
    'https://github.com/mirage/mirage-crypto/releases/download/v1.2.0/mirage-crypto-1.2.0.tbz',
    'https://github.com/mirage/mirage-crypto/archive/refs/tags/v1.2.0.tar.gz',
    'https://codeload.github.com/mirage/mirage-crypto/tar.gz/v1',
    `https://raw.githubusercontent.com/mirage/mirage-crypto/${COMMIT}/a.ml`,
  ])('is found by %s', (text) => {
    expect(findWantedRepository(text)).toEqual({ repository: MIRAGE, reference: undefined })
  })

  it.each([
    [
      'https://gitlab.com/group/part/name/-/archive/v1/name-v1.tar.gz',
      'gitlab.com/group/part/name',
    ],
    ['https://gitlab.com/group/part/name/-/tree/main', 'gitlab.com/group/part/name'],
    ['https://git.robur.coop/robur/dns-primary', 'git.robur.coop/robur/dns-primary'],
    ['git+https://erratique.ch/repos/fmt.git', 'erratique.ch/repos/fmt'],
  ])('of another host is found: %s', (text, repository) => {
    expect(findWantedRepository(text)).toMatchObject({ repository })
  })

  it('has a reference', () => {
    expect(findWantedRepository(`git@github.com:mirage/mirage-crypto.git#${COMMIT}`)).toEqual({
      repository: MIRAGE,
      reference: COMMIT,
    })
  })

  it.each([
    '',
    '#main',
    'mirage-crypto',
    'mirage/mirage-crypto',
    'https://github.com',
    'https://download.example/mirage-crypto-1.2.0.tbz',
    'https://github.com/mirage/a b',
    `https://github.com/mirage/${'a'.repeat(300)}`,
    `https://${'a.'.repeat(4_000)}`,
  ])('is not in %j', (text) => {
    expect(findWantedRepository(text)).toBeUndefined()
  })

  it.each([
    [`git+https://a.example/b.git#${COMMIT}`, COMMIT, true],
    [`git+https://a.example/b.git#${COMMIT}`, COMMIT.slice(0, 7), true],
    [`git+https://a.example/b.git#${COMMIT}`, COMMIT.slice(0, 6), false],
    ['git+https://a.example/b.git#main', 'main', true],
    ['git+https://a.example/b.git#main', 'mai', false],
    ['git+https://a.example/b.git', 'main', false],
    ['https://a.example/b/c/archive/v1.tar.gz', 'v1', true],
    ['https://a.example/b/c/archive/v1.2.tar.gz', 'v1', false],
    ['https://a.example/b/c/archive/refs/tags/v1.2.tar.gz', 'v1.2', true],
    [`https://a.example/b/c/archive/${COMMIT}.tar.gz`, COMMIT.slice(0, 12), true],
    ['https://a.example/b/c/releases/download/v1.2/c-1.2.tbz', 'v1.2', true],
    ['https://a.example/b/c/-/archive/v1/c-v1.zip', 'v1', true],
  ])('of %s is at %s: %s', (url, reference, is) => {
    expect(hasReference(url, reference)).toBe(is)
  })
})

describe('a checksum', () => {
  const digits = 'AB'.repeat(32)
  it.each([`sha256=${digits}`, `sha256:${digits}`, `SHA256:${digits}`, digits, ` ${digits}\n`])(
    'is read: %j',
    (text) => {
      expect(findWantedChecksum(text)).toBe(`sha256=${digits.toLowerCase()}`)
    },
  )

  it.each([
    ['0'.repeat(32), 'md5'],
    ['0'.repeat(128), 'sha512'],
  ])('of other lengths is read: %s', (text, kind) => {
    expect(findWantedChecksum(text)).toBe(`${kind}=${text}`)
  })

  it.each(['', 'x', COMMIT, 'sha256=12', `sha1=${COMMIT}`, `md5=${digits}`, `sha256==${digits}`])(
    'is not in %j',
    (text) => {
      expect(findWantedChecksum(text)).toBeUndefined()
    },
  )
})

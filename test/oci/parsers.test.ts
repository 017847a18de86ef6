import { describe, expect, it } from 'vitest'
import { digestOf, parseAlgorithm, parseDigest } from '../../src/oci/digest.ts'
import { ERRORS, RegistryError } from '../../src/oci/errors.ts'
import { IMAGE_MANIFEST, isMediaType, parseContentType } from '../../src/oci/media-type.ts'
import { parseReference, parseRepository, parseTag } from '../../src/oci/reference.ts'

const hex = (length: number) => 'a1'.repeat(length / 2)

describe('digests', () => {
  it.each([`sha256:${hex(64)}`, `sha512:${hex(128)}`])('%s is a digest', (text) => {
    expect(parseDigest(text)).toBe(text)
  })

  it.each([
    '',
    'sha256',
    'sha256:',
    `sha256:${hex(62)}`,
    `sha256:${hex(66)}`,
    `sha256:${hex(64).toUpperCase()}`,
    `SHA256:${hex(64)}`,
    `sha256:${hex(64)}\n`,
    ` sha256:${hex(64)}`,
    `sha512:${hex(64)}`,
    `md5:${hex(32)}`,
    `sha256:../${hex(60)}`,
    'x'.repeat(1_000_000),
  ])('%.40j is not a digest', (text) => {
    expect(() => parseDigest(text)).toThrow(expect.objectContaining({ code: 'DIGEST_INVALID' }))
  })

  it('of the empty content are the published ones', () => {
    expect(digestOf(Buffer.alloc(0))).toBe(
      'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    )
    expect(parseAlgorithm('sha512')).toBe('sha512')
    for (const name of ['md5', 'SHA256', '', 'toString', '__proto__']) {
      expect(() => parseAlgorithm(name)).toThrow(RegistryError)
    }
  })
})

describe('references', () => {
  it.each(['a', '0', 'a/b', 'a.b_c-d/e__f', 'a---b', `${'a'.repeat(255)}`])(
    '%.40s is a repository',
    (text) => expect(parseRepository(text)).toBe(text),
  )

  it.each([
    '',
    'A',
    '/a',
    'a/',
    'a//b',
    '.a',
    'a.',
    'a..b',
    'a___b',
    'a b',
    'a\n',
    '..',
    'a/../b',
    'ä',
    'a'.repeat(256),
    'a/'.repeat(100_000),
  ])('%.40j is not a repository', (text) => {
    expect(() => parseRepository(text)).toThrow(expect.objectContaining({ code: 'NAME_INVALID' }))
  })

  it.each(['a', '_', '1.2.3', 'A-b_c.D', 'a'.repeat(128)])('%.40s is a tag', (text) => {
    expect(parseReference(text)).toEqual({ kind: 'tag', tag: text })
  })

  it.each(['', '-a', '.a', 'a b', 'a/b', 'a\0', 'é', 'a'.repeat(129)])(
    '%.40j is no tag',
    (text) => {
      expect(() => parseTag(text)).toThrow(expect.objectContaining({ code: 'TAG_INVALID' }))
    },
  )

  it('with a colon are digests', () => {
    expect(parseReference(`sha256:${hex(64)}`)).toMatchObject({ kind: 'digest' })
    expect(() => parseReference('latest:x')).toThrow(
      expect.objectContaining({ code: 'DIGEST_INVALID' }),
    )
  })
})

describe('media types', () => {
  it('lose their parameters', () => {
    expect(parseContentType(`${IMAGE_MANIFEST} ; charset=utf-8`)).toBe(IMAGE_MANIFEST)
  })

  it.each(['', 'text', '/', 'a/', 'a/b/c', 'a b/c', 'a/\0', `a/${'b'.repeat(255)}`])(
    '%.20j is none',
    (text) => expect(isMediaType(text)).toBe(false),
  )
})

it('every error code has upper case, a status and a message', () => {
  for (const [code, [status, message]] of Object.entries(ERRORS)) {
    expect(code).toMatch(/^[A-Z_]+$/)
    expect(status).toBeGreaterThanOrEqual(400)
    expect(message.length).toBeGreaterThan(5)
  }
})

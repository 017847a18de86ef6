import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  formatReference,
  isLoopback,
  MalformedReferenceError,
  parseImageReference,
} from '../../src/client/image-reference.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`

describe('an image reference', () => {
  it('has a host, repository, tag and digest', () => {
    expect(parseImageReference(`registry.example.org:5000/builds/www:v1@${DIGEST}`)).toEqual({
      host: 'registry.example.org:5000',
      plainHttp: false,
      repository: 'builds/www',
      tag: 'v1',
      digest: DIGEST,
    })
  })

  it('may omit tag and digest', () => {
    const found = parseImageReference('registry.example.org/www')
    expect(found).toMatchObject({ tag: undefined, digest: undefined, repository: 'www' })
  })

  it('uses TLS, except for this machine', () => {
    const plain = (text: string) => parseImageReference(text).plainHttp
    for (const host of ['localhost', 'localhost:5000', '127.0.0.1', '127.9.9.9:80', '[::1]:5000']) {
      expect(isLoopback(host), host).toBe(true)
      expect(plain(`${host}/www:v1`), host).toBe(true)
    }
    for (const host of ['example.org', '127.0.0.1.example.org', 'localhost.example.org', '[::2]']) {
      expect(plain(`${host}/www:v1`), host).toBe(false)
    }
  })

  it('may have a scheme, and then any name is a host', () => {
    expect(parseImageReference('https://localhost/www:v1').plainHttp).toBe(false)
    expect(parseImageReference('http://builder/www:v1')).toMatchObject({
      host: 'builder',
      plainHttp: true,
    })
  })

  it('is refused in one line when it is malformed', () => {
    const wrong = [
      '',
      'www:v1',
      'hello/key:v1',
      '/hello/key:v1',
      'example.org/',
      'example.org/Www:v1',
      'example.org/www:',
      'example.org/www:a/b',
      'example.org/www@sha256:12',
      'example.org/../www:v1',
      'example.org/www:v1?x',
      'example.org:99999/www:v1',
      'ftp://example.org/www:v1',
      'user:secret@example.org/www:v1',
      'exa mple.org/www:v1',
      'example.org\n/www:v1',
      `example.org/${'a'.repeat(5000)}:v1`,
    ]
    for (const text of wrong) {
      const parse = () => parseImageReference(text)
      expect(parse, text.slice(0, 40)).toThrow(MalformedReferenceError)
      expect(parse).toThrow(/^not an image reference: [^\n]+$/)
      expect(parse).not.toThrow(/secret/)
    }
  })

  it('is formatted as it was parsed', () => {
    const word = fc.stringMatching(/^[a-z0-9]{1,8}$/)
    fc.assert(
      fc.property(
        word,
        fc.array(word, { minLength: 1, maxLength: 4 }),
        word,
        (host, names, tag) => {
          const text = `${host}.example:5000/${names.join('/')}:${tag}`
          expect(formatReference(parseImageReference(text))).toBe(text)
        },
      ),
    )
  })

  it('of any text is parsed or refused', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (text) => {
        try {
          parseImageReference(text)
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedReferenceError)
        }
      }),
    )
  })
})

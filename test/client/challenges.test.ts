import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseChallenges } from '../../src/client/challenges.ts'

const plain = (header: string) =>
  parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)])

describe('a WWW-Authenticate header', () => {
  it('names a token endpoint', () => {
    const header =
      'Bearer realm="https://a.example/token",service="a",scope="repository:x:pull,push"'
    expect(plain(header)).toEqual([
      [
        'bearer',
        { realm: 'https://a.example/token', service: 'a', scope: 'repository:x:pull,push' },
      ],
    ])
  })

  it('may have several challenges, in any case, with spaces and escapes', () => {
    expect(plain('BASIC realm = "a \\"b\\"" , charset=UTF-8,  Bearer Realm=x')).toEqual([
      ['basic', { realm: 'a "b"', charset: 'UTF-8' }],
      ['bearer', { realm: 'x' }],
    ])
    expect(plain('Negotiate, Basic realm="x"')).toEqual([
      ['negotiate', {}],
      ['basic', { realm: 'x' }],
    ])
    expect(plain('Negotiate YII+/=, Basic realm="x"').at(-1)).toEqual(['basic', { realm: 'x' }])
  })

  it('that is empty or malformed has only the well-formed challenges', () => {
    for (const header of ['', ',', ', ,', '"', '="', '=,=']) expect(plain(header)).toEqual([])
    expect(plain('Basic realm="never ends')[0]?.[0]).toBe('basic')
    expect(plain('x'.repeat(10_000))).toEqual([])
  })

  it('of any text is parsed to its end', () => {
    fc.assert(fc.property(fc.string({ maxLength: 500 }), (text) => void parseChallenges(text)))
    const hostile = [`B ${'a,'.repeat(4000)}`, `B a="${'\\"'.repeat(4000)}`, '=,'.repeat(4000)]
    for (const text of hostile) expect(() => parseChallenges(text)).not.toThrow()
  })
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ECOSYSTEMS, versionOrder } from '../../../src/unikernel/versions/orders.ts'

const PIECES = [
  ...[
    '0',
    '1',
    '9',
    '00',
    '01',
    '10',
    '99999999999999999999',
    '.',
    '-',
    '-r',
    '_',
    '~',
    '+',
    ',',
    ':',
  ],
  ...[
    '*',
    'a',
    'b',
    'Z',
    'rc',
    '_rc',
    '_pre',
    'pre',
    'alpha',
    'pl',
    '_p',
    '~0f',
    ' ',
    '\0',
    'ä',
    '🐫',
  ],
]
/** Often equal or nearly equal: only there an order can contradict itself. */
const near = fc.array(fc.constantFrom(...PIECES), { maxLength: 6 }).map((pieces) => pieces.join(''))
const hostile = fc.string({ unit: 'binary', maxLength: 1000 })
const version = fc.oneof({ weight: 4, arbitrary: near }, { weight: 1, arbitrary: hostile })

describe.each(ECOSYSTEMS)('the order of versions of %s', (ecosystem) => {
  const order = versionOrder(ecosystem)
  const sign = (a: string, b: string) => Math.sign(order(a, b))

  it('is antisymmetric', () => {
    fc.assert(
      fc.property(version, version, (a, b) => {
        expect(order(a, a)).toBe(0)
        expect(sign(a, b) + sign(b, a)).toBe(0)
      }),
      { numRuns: 2000 },
    )
  })

  it('is transitive', () => {
    fc.assert(
      fc.property(fc.array(version, { minLength: 3, maxLength: 6 }), (versions) => {
        for (const a of versions) {
          for (const b of versions) {
            for (const c of versions) {
              if (sign(a, b) <= 0 && sign(b, c) <= 0) expect(sign(a, c)).not.toBe(1)
              // Equal versions have the same place.
              if (sign(a, b) === 0) expect(sign(a, c)).toBe(sign(b, c))
            }
          }
        }
      }),
      { numRuns: 500 },
    )
  })

  it('takes linear time for long versions', () => {
    const start = process.cpuUsage()
    for (const piece of PIECES) {
      const long = `1${piece.repeat(50_000)}`
      expect(order(`${long}0`, `0${long}`)).not.toBeNaN()
      expect(sign(`${long}1`, `${long}2`) + sign(`${long}2`, `${long}1`)).toBe(0)
    }
    expect(process.cpuUsage(start).user / 1e6).toBeLessThan(8)
  })
})

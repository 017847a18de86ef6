import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseRetryAfter } from '../../src/async/retry-after.ts'

const NOW = new Date('2026-03-01T12:00:00Z')

describe('Retry-After', () => {
  it.each([
    ['0', 0],
    ['120', 120],
    [' 7 ', 7],
    ['999999999', 999_999_999],
    ['Sun, 01 Mar 2026 12:01:30 GMT', 90],
    ['Sun, 01 Mar 2026 11:00:00 GMT', 0],
    ['Sunday, 01-Mar-26 12:01:30 GMT', 90],
    ['Sun Mar  1 12:01:30 2026', 90],
    [['30', '60'], 30],
  ])('%s is whole seconds or a date', (header, seconds) => {
    expect(parseRetryAfter(header, NOW)).toBe(seconds)
  })

  it.each([
    undefined,
    '',
    '-1',
    '-5',
    '+5',
    '1.5',
    '1e3',
    '0x10',
    '9999999999',
    'soon',
    '2026-03-01T12:01:30Z',
    'Sun, 1.5',
    'Sun, 01 Mar 2026',
    'Sun, 01 Mar 2026 12:01:30',
    'Sun, 01 Mar 2026 12:01:30 +0100',
    'Mon, 99 Zzz 2026 12:01:30 GMT',
    'NaN',
    'Infinity',
    [],
  ])('%s is ignored', (header) => {
    expect(parseRetryAfter(header, NOW)).toBeUndefined()
  })

  it('of any text is ignored, or a finite wait that is not negative', () => {
    fc.assert(
      fc.property(fc.string(), (header) => {
        const seconds = parseRetryAfter(header, NOW)
        return seconds === undefined || (seconds >= 0 && Number.isFinite(seconds))
      }),
    )
  })

  it('rounds a date up to whole seconds', () => {
    const now = new Date(NOW.getTime() + 400)
    expect(parseRetryAfter('Sun, 01 Mar 2026 12:00:01 GMT', now)).toBe(1)
  })
})

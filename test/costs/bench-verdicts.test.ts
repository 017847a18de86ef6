import { describe, expect, it } from 'vitest'
import { compareRounds } from '../../bench/verdicts.ts'

const BEFORE = [1, 1.1, 0.9, 1]
const times = (factors: readonly number[]) =>
  factors.map((factor, round) => factor * (BEFORE[round] ?? 0))

describe('the verdict on two builds', () => {
  it.each([
    ['better', [0.8, 0.9, 0.7, 0.96]],
    ['worse', [1.2, 1.1, 1.3, 1.04]],
    ['equal', [0.8, 0.9, 0.7, 0.98]],
    ['equal', [1.2, 1.1, 1.3, 0.9]],
    ['equal', [1, 1, 1, 1]],
  ])('is %s for the ratios %j', (verdict, ratios) => {
    expect(compareRounds(times(ratios), BEFORE)?.verdict).toBe(verdict)
  })

  it('has the median and the bounds of the ratios', () => {
    const compared = compareRounds(times([0.5, 2, 1, 4]), BEFORE)
    expect(compared?.ratio).toBeCloseTo(1.5)
    expect([compared?.lowest, compared?.highest]).toEqual([0.5, 4])
  })

  it('is missing when too few rounds were measured on both', () => {
    expect(compareRounds(times([0.5, 0.5, 0.5]), BEFORE)).toBeUndefined()
    expect(compareRounds(times([0.5, 0.5, 0.5, 0.5]), [1, 1, 0, 1])).toBeUndefined()
  })
})

import fc from 'fast-check'
import { expect, it } from 'vitest'
import { RETRY_SECONDS, secondsUntilRetry } from '../../src/webhooks/delivery/retry-schedule.ts'

const DAY = 86_400

/** The failed attempt of a delivery that is older than the schedule. */
const after = (attempts: number, retryAfterSeconds?: number) => ({
  attempts,
  ageSeconds: 4 * DAY,
  retryAfterSeconds,
})

it('the first attempt is immediate, the last one three days and three hours later', () => {
  expect(RETRY_SECONDS[0]).toBe(0)
  expect(RETRY_SECONDS).toHaveLength(13)
  const all = RETRY_SECONDS.reduce((sum, seconds) => sum + seconds, 0)
  expect(all / 3600).toBeCloseTo(75.6, 1)
})

it('each wait is within a fifth of the schedule, and none follows the last attempt', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (attempts, random) => {
        const planned = RETRY_SECONDS[attempts]
        const seconds = secondsUntilRetry(after(attempts), RETRY_SECONDS, () => random)
        if (planned === undefined) return seconds === undefined
        return seconds !== undefined && Math.abs(seconds - planned) <= planned * 0.2 + 1e-9
      },
    ),
  )
})

it('Retry-After extends a wait to at most a day, and never shortens it', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 12 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      fc.oneof(fc.integer({ min: 0, max: 10 * DAY }), fc.double({ min: 0, noNaN: true })),
      (attempts, random, requested) => {
        const plain = secondsUntilRetry(after(attempts), RETRY_SECONDS, () => random) ?? 0
        const seconds =
          secondsUntilRetry(after(attempts, requested), RETRY_SECONDS, () => random) ?? 0
        return (
          seconds >= plain && seconds >= Math.min(requested, DAY) && seconds <= Math.max(plain, DAY)
        )
      },
    ),
  )
  expect(secondsUntilRetry(after(13, 60))).toBeUndefined()
})

it('attempts that came early do not end a delivery before its time', () => {
  const early = { attempts: 40, retryAfterSeconds: undefined }
  for (const ageSeconds of [0, DAY, 2.5 * DAY]) {
    expect(secondsUntilRetry({ ...early, ageSeconds }, RETRY_SECONDS, () => 0.5)).toBe(DAY)
  }
  expect(secondsUntilRetry({ ...early, ageSeconds: 2.6 * DAY })).toBeUndefined()
})

const MINUTE = 60
const HOUR = 60 * MINUTE

/** Seconds before each attempt, counted from the failure of the one before: three days and three hours in total. */
export const RETRY_SECONDS: readonly number[] = [
  0,
  2,
  5,
  15,
  MINUTE,
  5 * MINUTE,
  30 * MINUTE,
  2 * HOUR,
  5 * HOUR,
  10 * HOUR,
  14 * HOUR,
  20 * HOUR,
  24 * HOUR,
]
/** The fraction by which a retry is earlier or later, so that deliveries that failed together are spread. */
const JITTER = 0.2
/** The longest wait that a receiver can request. */
const RETRY_AFTER_SECONDS_MAX = 24 * HOUR

/** The last attempt of a delivery, which failed. */
export type FailedAttempt = {
  /** Attempts so far. */
  readonly attempts: number
  /** Seconds since the event, or since its redelivery. */
  readonly ageSeconds: number
  readonly retryAfterSeconds: number | undefined
}

/**
 * Computes the seconds until the next attempt; undefined when no attempt is left. The next attempt is never before the
 * time that the receiver requests. Attempts may come early, when the receiver accepts other deliveries: those beyond the
 * schedule continue with its longest wait until a delivery is as old as the schedule is long.
 */
export function secondsUntilRetry(
  { attempts, ageSeconds, retryAfterSeconds }: FailedAttempt,
  schedule: readonly number[] = RETRY_SECONDS,
  random: () => number = Math.random,
): number | undefined {
  const seconds =
    schedule[attempts] ?? (ageSeconds < shortest(schedule) ? schedule.at(-1) : undefined)
  if (seconds === undefined) return undefined
  const spread = seconds * (1 + JITTER * (2 * random() - 1))
  return Math.max(spread, waitOf(retryAfterSeconds))
}

/** Returns the seconds that all attempts take when each is as early as the jitter allows. */
function shortest(schedule: readonly number[]): number {
  return (1 - JITTER) * schedule.reduce((sum, seconds) => sum + seconds, 0)
}

/** Returns the seconds that a receiver requests, at most a day. */
export function waitOf(retryAfterSeconds: number | undefined): number {
  return Math.min(retryAfterSeconds ?? 0, RETRY_AFTER_SECONDS_MAX)
}

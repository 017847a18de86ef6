const MINUTE = 60
const HOUR = 60 * MINUTE

/** Seconds before each try, after the one before it failed: three days together, and three hours. */
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
/** So much earlier or later, so that what failed together does not come back together. */
const JITTER = 0.2
/** As long as a receiver may ask us to wait. */
const RETRY_AFTER_SECONDS_MAX = 24 * HOUR

/**
 * Seconds until the next try, after `tries` have failed; undefined when that was the last. A receiver
 * that names a time gets none before it.
 */
export function secondsUntilRetry(
  tries: number,
  retryAfterSeconds: number | undefined,
  schedule: readonly number[] = RETRY_SECONDS,
  random: () => number = Math.random,
): number | undefined {
  const seconds = schedule[tries]
  if (seconds === undefined) return undefined
  const spread = seconds * (1 + JITTER * (2 * random() - 1))
  return Math.max(spread, Math.min(retryAfterSeconds ?? 0, RETRY_AFTER_SECONDS_MAX))
}

/**
 * Seconds that a Retry-After header asks for: a number, or a date (RFC 9110, section 10.2.3). Undefined
 * for anything else.
 */
export function parseRetryAfter(
  header: string | readonly string[] | undefined,
  now: Date,
): number | undefined {
  const text = (typeof header === 'string' ? header : header?.[0])?.trim()
  if (text === undefined) return undefined
  if (/^\d{1,9}$/.test(text)) return Number(text)
  const at = /^[A-Z][a-z]{2},/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(at) ? undefined : Math.max(0, (at - now.getTime()) / 1000)
}

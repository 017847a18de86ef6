import type { S3ClientConfig } from '@aws-sdk/client-s3'

type Strategy = Extract<
  NonNullable<S3ClientConfig['retryStrategy']>,
  { acquireInitialRetryToken: unknown }
>
type Token = Awaited<ReturnType<Strategy['acquireInitialRetryToken']>>
type Failure = Parameters<Strategy['refreshRetryTokenForRetry']>[1]

/** Attempts of one call. */
export const ATTEMPTS_MAX = 4
/** Retries of all calls since the last one that succeeded. Further calls of an outage fail at their first attempt. */
const RETRIES_WITHOUT_SUCCESS_MAX = 40
const DELAY_MILLISECONDS = 100
const THROTTLED_DELAY_MILLISECONDS = 500
const DELAY_MILLISECONDS_MAX = 20_000
/** The store may ask for this much more than the delay. */
const HINT_MILLISECONDS_MAX = 5_000

/**
 * Retries calls that failed temporarily, with growing random delays. The SDK's own strategy counts its retries, too, but
 * each call that succeeds gives back a fourteenth of one: after an outage of seconds, the next stale connection would fail
 * the push that meets it.
 */
export class Retries implements Strategy {
  #left = RETRIES_WITHOUT_SUCCESS_MAX

  async acquireInitialRetryToken(): Promise<Token> {
    return tokenOf(0, 0)
  }

  /** Throws when the call must not be repeated. */
  async refreshRetryTokenForRetry(token: Token, failure: Failure): Promise<Token> {
    const retries = token.getRetryCount() + 1
    const isTemporary = failure.errorType === 'TRANSIENT' || failure.errorType === 'THROTTLING'
    if (!isTemporary || retries >= ATTEMPTS_MAX || this.#left === 0) {
      throw new Error('the call is not repeated')
    }
    this.#left -= 1
    return tokenOf(retries, delayOf(retries, failure))
  }

  recordSuccess(): void {
    this.#left = RETRIES_WITHOUT_SUCCESS_MAX
  }
}

function tokenOf(retries: number, delay: number): Token {
  return { getRetryCount: () => retries, getRetryDelay: () => delay }
}

function delayOf(retries: number, { errorType, retryAfterHint }: Failure): number {
  const base = errorType === 'THROTTLING' ? THROTTLED_DELAY_MILLISECONDS : DELAY_MILLISECONDS
  const delay = Math.random() * Math.min(base * 2 ** (retries - 1), DELAY_MILLISECONDS_MAX)
  const asked = retryAfterHint === undefined ? 0 : retryAfterHint.getTime() - Date.now()
  return Math.max(delay, Math.min(asked, delay + HINT_MILLISECONDS_MAX))
}

import { setTimeout as wait } from 'node:timers/promises'
import { RegistryResponseError, RegistryUnreachableError } from './errors.ts'

export const ATTEMPTS_MAX = 5
/** What a registry may ask to wait for; beyond that, whoever pushes should hear it. */
export const RETRY_AFTER_SECONDS_MAX = 120
const FIRST_WAIT_MILLISECONDS = 500
const WAIT_MILLISECONDS_MAX = 8_000

/** Statuses after which the same request may succeed. */
const PASSING: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504])
/** The upload was forgotten, such as by a registry that was restarted: a new one may succeed. */
const PASSING_CODE = 'BLOB_UPLOAD_UNKNOWN'

/** Hears why the next attempt waits, and for how long. */
export type OnWait = (milliseconds: number, reason: string) => void

/**
 * Does the work again while it fails in a passing way, ATTEMPTS_MAX times together, and waits in between
 * as long as the registry asked, or longer each time. Throws what the last attempt threw.
 */
export async function withRetries<T>(
  work: () => Promise<T>,
  onWait: OnWait = () => {},
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work()
    } catch (error) {
      const milliseconds = attempt < ATTEMPTS_MAX ? findWait(error, attempt) : undefined
      if (milliseconds === undefined) throw error
      onWait(milliseconds, error instanceof Error ? error.message : String(error))
      await wait(milliseconds)
    }
  }
}

/** Milliseconds until it is worth trying again; undefined when it is not. */
function findWait(error: unknown, attempt: number): number | undefined {
  // Many builders that were refused together should not come back together.
  const grown = FIRST_WAIT_MILLISECONDS * 2 ** (attempt - 1) * (0.75 + Math.random() / 2)
  const usual = Math.min(grown, WAIT_MILLISECONDS_MAX)
  if (error instanceof RegistryUnreachableError) return error.transient ? usual : undefined
  if (!(error instanceof RegistryResponseError)) return undefined
  if (!PASSING.has(error.status) && error.code !== PASSING_CODE) return undefined
  const { retryAfterSeconds } = error
  if (retryAfterSeconds === undefined) return usual
  return retryAfterSeconds > RETRY_AFTER_SECONDS_MAX ? undefined : retryAfterSeconds * 1000
}

/** Seconds of a Retry-After header, which is a number or a date (RFC 9110, section 10.2.3). */
export function findRetryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined
  if (/^\d{1,9}$/.test(header)) return Number(header)
  const at = Date.parse(header)
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - now) / 1000))
}

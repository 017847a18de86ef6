import { setTimeout as delay } from 'node:timers/promises'
import { RegistryResponseError, RegistryUnreachableError } from './errors.ts'

export const ATTEMPTS_MAX = 5
/** The longest wait that a registry may ask for. After a longer one the operation fails and says so. */
export const RETRY_AFTER_SECONDS_MAX = 120
const FIRST_WAIT_MILLISECONDS = 500
const WAIT_MILLISECONDS_MAX = 8_000

/** Statuses after which the same request may succeed. */
const TRANSIENT: ReadonlySet<number> = new Set([408, 429, 500, 502, 503, 504])
/** The registry lost the upload, for example by a restart: a new upload may succeed. */
const TRANSIENT_CODE = 'BLOB_UPLOAD_UNKNOWN'

/** Called before the next attempt, with the wait and its reason. */
export type OnWait = (milliseconds: number, reason: string) => void

/**
 * Repeats the work after transient failures, at most ATTEMPTS_MAX attempts in total. Waits in between
 * as long as the registry asks, else longer each time. Throws the error of the last attempt.
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
      await delay(milliseconds)
    }
  }
}

/** Milliseconds until the next attempt; undefined when the failure is not transient. */
function findWait(error: unknown, attempt: number): number | undefined {
  // Jitter: many builders that were refused together should not return together.
  const backoff = FIRST_WAIT_MILLISECONDS * 2 ** (attempt - 1) * (0.75 + Math.random() / 2)
  const wait = Math.min(backoff, WAIT_MILLISECONDS_MAX)
  if (error instanceof RegistryUnreachableError) return error.transient ? wait : undefined
  if (!(error instanceof RegistryResponseError)) return undefined
  if (!TRANSIENT.has(error.status) && error.code !== TRANSIENT_CODE) return undefined
  const { retryAfterSeconds } = error
  if (retryAfterSeconds === undefined) return wait
  return retryAfterSeconds > RETRY_AFTER_SECONDS_MAX ? undefined : retryAfterSeconds * 1000
}

import { RegistryError, unavailable } from '../oci/errors.ts'
import { READS } from './observation.ts'
import type { Route } from './route.ts'

// A host repeats a report; the state of the registry lasts for minutes.
const HOST_RETRY_SECONDS = 60

/**
 * Throws for a write while the registry is read-only: UNAVAILABLE for a host, which repeats it later, and UNSUPPORTED for
 * others, with the methods of the path that continue to work.
 */
export function assertRead(route: Route, methodsOfPath: () => readonly string[]): void {
  if (READS.has(route.method) || route.inReadOnlyMode) return
  const message = 'the registry is read-only at the moment: it accepts no changes'
  if (route.access === 'host') {
    throw unavailable(message, { retryAfterSeconds: HOST_RETRY_SECONDS, isFault: false })
  }
  const allowedMethods = methodsOfPath().filter((method) => READS.has(method))
  throw new RegistryError('UNSUPPORTED', undefined, { message, allowedMethods })
}

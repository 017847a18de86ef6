import type { AttemptRow } from '../db/webhooks/deliveries.ts'

type Outcome = Pick<AttemptRow, 'status' | 'error' | 'isInternal'>

const HIDDEN_ERROR = 'the receiver did not answer; administrators can read the reason'

/**
 * Returns the error of an attempt for users who are not administrators. Without a response, it could contain the address
 * of an internal server or the text of its certificate, or say which of its ports are open.
 */
export function errorForOwner({ status, error, isInternal }: Outcome): string | null {
  return isInternal && status === null && error !== null ? HIDDEN_ERROR : error
}

import { type Challenge, type ErrorData, RegistryError } from '../oci/errors.ts'
import { receivedRange } from './ranges.ts'
import type { RouteContext } from './route.ts'
import { ClientDisconnectedError } from './send-bytes.ts'

/** What the operator's log is told about an error that is not the client's. */
export type ReportError = (error: unknown, requestId: string) => void

/**
 * The only place that makes a response out of an error: the spec's JSON. What is not a `RegistryError`
 * is reported, and the client reads a bare 500 with the id to ask the operator about.
 */
export function answerError(
  ctx: RouteContext,
  error: unknown,
  requestId: string,
  report: ReportError,
): void {
  if (error instanceof ClientDisconnectedError) return
  const known = error instanceof RegistryError
  if (!known || (known && error.status >= 500)) report(error, requestId)
  const answer = known
    ? error
    : new RegistryError('UNKNOWN', { request: requestId }, { cause: error })
  if (ctx.res.headersSent) {
    // Half an answer went out: the client must see that it is not whole.
    ctx.res.destroy()
    return
  }
  for (const name of ctx.res.getHeaderNames()) {
    if (!KEPT_HEADERS.has(name)) ctx.res.removeHeader(name)
  }
  ctx.respond = true
  ctx.status = answer.status
  ctx.set(headersOf(answer.data))
  ctx.body = answer.toJSON()
}

const KEPT_HEADERS: ReadonlySet<string> = new Set([
  'x-request-id',
  'docker-distribution-api-version',
])

function headersOf({
  retryAfterSeconds,
  received,
  blobSize,
  allowedMethods,
  challenge,
}: ErrorData): Record<string, string> {
  return {
    ...(retryAfterSeconds === undefined ? {} : { 'Retry-After': String(retryAfterSeconds) }),
    ...(received === undefined ? {} : { Range: receivedRange(received) }),
    ...(blobSize === undefined ? {} : { 'Content-Range': `bytes */${blobSize}` }),
    ...(allowedMethods === undefined ? {} : { Allow: allowedMethods.join(', ') }),
    ...(challenge === undefined ? {} : { 'WWW-Authenticate': challengeHeader(challenge) }),
  }
}

function challengeHeader(challenge: Challenge): string {
  // RFC 7617, section 2.1.
  if (challenge.scheme === 'Basic') return `Basic realm="${challenge.realm}", charset="UTF-8"`
  const { realm, service, scope, error } = challenge
  const parameters = [
    `realm="${realm}"`,
    `service="${service}"`,
    ...(scope === undefined ? [] : [`scope="${scope}"`]),
    ...(error === undefined ? [] : [`error="${error}"`]),
  ]
  return `Bearer ${parameters.join(',')}`
}

import { type Challenge, type ErrorData, RegistryError } from '../oci/errors.ts'
import { HotContext } from './hot-context.ts'
import { receivedRange } from './ranges.ts'
import { INERT_HEADER_NAMES } from './response-headers.ts'
import type { RouteContext } from './route.ts'
import { ClientDisconnectedError } from './send-bytes.ts'
import { findTemporaryFailure } from './temporary-failures.ts'

/** The status in log and metrics when the client left before it had an answer. nginx writes the same. */
const CLIENT_CLOSED_REQUEST = 499

/** Proxies accept headers of 4 KiB in total, and names are long. */
const DESCRIPTION_CHARACTERS_MAX = 500

/** Logs an error that the client did not cause. */
export type ReportError = (error: unknown) => void

/**
 * Answers with the spec's JSON for an error; no other code makes a response out of an error. An error
 * that is neither a `RegistryError` nor a temporary failure is reported, and the client gets a bare 500 with the
 * request id.
 */
export function answerError(
  ctx: RouteContext,
  error: unknown,
  requestId: string,
  report: ReportError,
): void {
  if (error instanceof ClientDisconnectedError) {
    if (!ctx.res.headersSent) ctx.status = CLIENT_CLOSED_REQUEST
    return
  }
  const answer =
    error instanceof RegistryError
      ? error
      : (findTemporaryFailure(error) ??
        new RegistryError('UNKNOWN', { request: requestId }, { cause: error }))
  if (answer.isFault) report(error)
  if (ctx.res.headersSent) {
    // Part of the response is sent: the client detects by the closed connection that the rest is missing.
    ctx.res.destroy()
    return
  }
  keepHeaders(ctx)
  ctx.respond = true
  ctx.status = answer.status
  ctx.set(headersOf(answer.data))
  ctx.body = answer.toJSON()
}

const KEPT_HEADERS: ReadonlySet<string> = new Set([
  'x-request-id',
  'traceresponse',
  'docker-distribution-api-version',
  ...INERT_HEADER_NAMES,
])

/** Removes what the handler has set. */
function keepHeaders(ctx: RouteContext | HotContext): void {
  if (ctx instanceof HotContext) ctx.keepOnly(KEPT_HEADERS)
  for (const name of ctx.res.getHeaderNames()) {
    if (!KEPT_HEADERS.has(name)) ctx.res.removeHeader(name)
  }
}

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
  const { realm, service, scope, error, description } = challenge
  const parameters = [
    `realm="${realm}"`,
    `service="${service}"`,
    ...(scope === undefined ? [] : [`scope="${scope}"`]),
    ...(error === undefined ? [] : [`error="${error}"`]),
    ...(description === undefined ? [] : [`error_description="${describable(description)}"`]),
  ]
  return `Bearer ${parameters.join(',')}`
}

/** Returns the text in the characters that RFC 6750, section 3, permits in `error_description`. */
function describable(text: string): string {
  const permitted = text.replaceAll('"', "'").replace(/[^ -[\]-~]/gu, '?')
  return permitted.length > DESCRIPTION_CHARACTERS_MAX
    ? `${permitted.slice(0, DESCRIPTION_CHARACTERS_MAX)}...`
    : permitted
}

import { RegistryError } from '../oci/errors.ts'
import type { RouteContext } from './route.ts'
import { ClientDisconnectedError } from './send-bytes.ts'

/** What the operator's log is told about an error that is not the client's. */
export type ReportError = (error: unknown, requestId: string) => void

/**
 * The only place that makes a response out of an error: the spec's JSON. What is not an `OciError`
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
  ctx.set(answer.headers)
  ctx.body = answer.toJSON()
}

const KEPT_HEADERS: ReadonlySet<string> = new Set([
  'x-request-id',
  'docker-distribution-api-version',
])

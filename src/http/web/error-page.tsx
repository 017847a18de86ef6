import { ErrorPage, headingOf } from '../../web/error.tsx'
import type { RouteContext } from '../route.ts'
import { sendPage } from './send-page.tsx'

const PRIVATE = 'If it is private, log in with a credential that may pull from it.'
const FOREIGN_PATHS = /^\/(v2|api|token|upload)(\/|$)/

/** True for a path that a person may have typed, and no client of a protocol. */
export function isForPeople(path: string): boolean {
  return !FOREIGN_PATHS.test(path)
}

/**
 * Replaces the JSON of an error by a page. The headers of the error stay, such as Retry-After. An anonymous caller who needs a
 * login is sent to the form, and comes back from there.
 */
export function sendErrorPage(ctx: RouteContext, requestId: string): void {
  const { status, caller } = { status: ctx.status, caller: ctx.state.caller }
  if (status === 401 && ctx.headers.authorization === undefined) {
    ctx.remove('WWW-Authenticate')
    ctx.set('Cache-Control', 'private, no-store')
    ctx.status = 303
    ctx.redirect(`/login?next=${encodeURIComponent(ctx.method === 'GET' ? ctx.url : '/')}`)
    return
  }
  const body = ctx.body as { errors?: readonly { message?: unknown }[] } | undefined
  const message = String(body?.errors?.[0]?.message ?? 'unknown error')
  const isAnonymous = caller === undefined || caller.kind === 'anonymous'
  const advice = status === 404 && isAnonymous ? PRIVATE : undefined
  const page = <ErrorPage status={status} message={message} request={requestId} advice={advice} />
  sendPage(ctx, { title: headingOf(status), status, content: page })
}

import { randomUUID } from 'node:crypto'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import Koa from 'koa'
import { clientNetwork, unmapAddress } from '../networks/networks.ts'
import { badRequest } from '../oci/errors.ts'
import { visibleJson } from '../oci/hidden-characters.ts'
import { findActiveSpan, nameSpan } from './active-span.ts'
import { type AuthorizationDeps, runAuthorized } from './authorize.ts'
import { answerError } from './errors.ts'
import { HotContext } from './hot-context.ts'
import { awaitPipelineTurn, closeAfterUnconsumedBody } from './http-server.ts'
import type { InFlightRequests } from './in-flight.ts'
import { type Matched, Matcher } from './matcher.ts'
import { type Observation, observationOf, READS, type RequestIds } from './observation.ts'
import { assertNotFromAnotherSite, isBrowser } from './other-sites.ts'
import { assertRead } from './read-only.ts'
import { assertUnambiguous } from './request-line.ts'
import type { HotRouteContext, Route, RouteContext } from './route.ts'
import { traceOf } from './trace-context.ts'
import { isForPeople, sendErrorPage } from './web/error-page.tsx'

export type AppOptions = {
  routes: readonly Route[]
  authorization: AuthorizationDeps
  /** True: writes are refused. */
  readOnly: boolean
  observe(observation: Observation): void
  reportError(error: unknown, ids: RequestIds): void
  /** The headers of every response. */
  readonly headers: Readonly<Record<string, string>>
  /** Counts the requests that are being answered, also by client behind a proxy. */
  inFlight: InFlightRequests
  /** Returns the client's address, behind trusted proxies. */
  addressOf(ctx: RouteContext): string
}

/**
 * Returns what answers the requests: Koa with one middleware, because each middleware costs time in every request; and for the
 * hot routes the same without Koa, which takes more than half of the CPU of such a request.
 */
export function createApp(options: AppOptions): RequestListener {
  const matcher = new Matcher(options.routes)
  const app = new Koa()
  // `answerError` reports errors; Koa itself would only report closed sockets.
  app.silent = true
  app.use(async (koaContext) => {
    const ctx = koaContext as RouteContext
    if (!(await awaitPipelineTurn(ctx.req, ctx.res))) {
      ctx.respond = false
      return
    }
    await answer(ctx, matcher, options)
  })
  const answerOther = app.callback()
  return (req, res) => {
    const hot = findHot(req, res, matcher)
    if (hot === undefined) answerOther(req, res)
    else void answerHot(new HotContext(req, res), hot, matcher, options)
  }
}

// Other characters, and other forms of a request target, are left to Koa.
const HOT_TARGET = /^\/v2\/[\w.:/-]*(?:\?[!"$-~]*)?$/

/** Finds the route of a request for a hot route that has no body and whose turn it is. */
function findHot(req: IncomingMessage, res: ServerResponse, matcher: Matcher): Matched | undefined {
  const { method = '', url = '', headers } = req
  if (res.socket === null || !READS.has(method) || !HOT_TARGET.test(url)) return undefined
  if (headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined) {
    return undefined
  }
  const queryAt = url.indexOf('?')
  const found = matcher.findHot(method, queryAt < 0 ? url : url.slice(0, queryAt))
  return found?.route.isHot ? found : undefined
}

async function answerHot(
  hot: HotContext,
  matched: Matched,
  matcher: Matcher,
  options: AppOptions,
): Promise<void> {
  // `hotRoute` takes only a handler that uses nothing else of the context.
  const ctx = hot as HotRouteContext as RouteContext
  try {
    await answer(ctx, matcher, options, matched)
    hot.send()
  } catch {
    // An error outside of the handler, such as a full disk of the log.
    hot.res.destroy()
  }
}

async function answer(
  ctx: RouteContext,
  matcher: Matcher,
  options: AppOptions,
  found?: Matched,
): Promise<void> {
  options.inFlight.begin()
  try {
    await answerCounted(ctx, matcher, options, found)
  } finally {
    options.inFlight.end()
  }
}

/** `found`: the route, when it is known. */
async function answerCounted(
  ctx: RouteContext,
  matcher: Matcher,
  options: AppOptions,
  found: Matched | undefined,
): Promise<void> {
  const startedAt = performance.now()
  const requestId = randomUUID()
  const span = findActiveSpan()
  const traceparent = traceparentOf(ctx)
  const ids = () => ({ requestId, ...traceOf(traceparent, requestId, span) })
  const address = options.addressOf(ctx)
  let route = 'unmatched'
  let isPage = false
  ctx.set(options.headers)
  ctx.set('X-Request-Id', requestId)
  const response = traceparent === undefined ? undefined : ids().response
  if (response !== undefined) ctx.set('traceresponse', response)
  let path = ''
  try {
    assertUnambiguous(ctx.req)
    path = pathOf(ctx)
    if (path.startsWith('/v2')) {
      ctx.set('Docker-Distribution-API-Version', 'registry/2.0')
    }
    if (isForwarded(ctx, address)) options.inFlight.beginOf(clientNetwork(address), ctx.req)
    const matched = found ?? matcher.match(ctx.method, path)
    route = matched.route.path
    if (span !== undefined) nameSpan(span, ctx.method, route)
    isPage = matched.route.page === true
    if (options.readOnly) assertRead(matched.route, () => matcher.methodsOf(path))
    if (!READS.has(ctx.method) || matched.route.hasEffect) {
      assertNotFromAnotherSite(ctx.headers, () => options.authorization.publicBaseUrl(ctx))
    }
    await runAuthorized(ctx, matched, options.authorization, { requestId, address })
  } catch (error) {
    answerError(ctx, error, requestId, (failure) => options.reportError(failure, ids()))
    const isWrongPage = route === 'unmatched' && isForPeople(path) && isBrowser(ctx.headers)
    if ((isPage || isWrongPage) && !ctx.res.headersSent) sendErrorPage(ctx, requestId)
  }
  formatJson(ctx)
  options.inFlight.endOf(ctx.req)
  closeAfterUnconsumedBody(ctx.req, ctx.res)
  options.observe(observationOf(ctx, { ids, route, path, address, startedAt }))
}

function traceparentOf({ headers }: RouteContext): string | undefined {
  const { traceparent } = headers
  return Array.isArray(traceparent) ? traceparent.join() : traceparent
}

/** Formats a plain object, which Koa would format without escapes for hidden characters. */
function formatJson(ctx: RouteContext): void {
  const { body } = ctx
  const isObject = typeof body === 'object' && body !== null
  if (isObject && Object.getPrototypeOf(body) === Object.prototype) ctx.body = visibleJson(body)
}

/** True when a trusted proxy sent the request for a client. */
function isForwarded({ req }: RouteContext, address: string): boolean {
  const { 'x-forwarded-for': chain, forwarded = chain } = req.headers
  return forwarded !== undefined && address !== unmapAddress(req.socket.remoteAddress ?? '')
}

/** Throws REQUEST_INVALID for a request target that is neither a path nor a URL. */
function pathOf(ctx: RouteContext): string {
  let path: string | null = null
  let cause: unknown
  try {
    path = ctx.path
  } catch (error) {
    cause = error
  }
  if (path !== null) return path
  throw badRequest('the request target must be a path', { cause })
}

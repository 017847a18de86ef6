import { randomUUID } from 'node:crypto'
import Koa from 'koa'
import { badRequest } from '../oci/errors.ts'
import { type AuthorizationDeps, runAuthorized } from './authorize.ts'
import { awaitPipelineTurn, closeAfterUnreadBody } from './connections.ts'
import { answerError } from './errors.ts'
import { Matcher } from './matcher.ts'
import type { Route, RouteContext } from './route.ts'

/** One answered request, as the log and the metrics want it. */
export type Observation = {
  readonly requestId: string
  readonly method: string
  /** The row's path, so that metrics stay few whatever is asked for. */
  readonly route: string
  readonly path: string
  readonly status: number
  readonly seconds: number
  readonly address: string
  readonly actor: string | undefined
  /** True for what changes something. */
  readonly isWrite: boolean
}

export type AppOptions = {
  routes: readonly Route[]
  authorization: AuthorizationDeps
  observe(observation: Observation): void
  reportError(error: unknown, requestId: string): void
  /** Told about each request's begin and end. */
  inFlight: { begin(): void; end(): void }
  /** The client's address, seen through trusted proxies. */
  addressOf(ctx: RouteContext): string
}

const READS: ReadonlySet<string> = new Set(['GET', 'HEAD'])

/** One middleware, because each one costs every request. */
export function createApp(options: AppOptions): Koa {
  const matcher = new Matcher(options.routes)
  const app = new Koa()
  // Errors are answered and reported below; Koa's own reports are of sockets that closed.
  app.silent = true
  app.use(async (koaContext) => {
    const ctx = koaContext as RouteContext
    if (!(await awaitPipelineTurn(ctx.req, ctx.res))) {
      ctx.respond = false
      return
    }
    options.inFlight.begin()
    const startedAt = performance.now()
    const requestId = randomUUID()
    const address = options.addressOf(ctx)
    let route = 'unmatched'
    ctx.res.setHeader('X-Request-Id', requestId)
    let path = ''
    try {
      path = pathOf(ctx)
      if (path.startsWith('/v2')) {
        ctx.res.setHeader('Docker-Distribution-API-Version', 'registry/2.0')
      }
      const matched = matcher.match(ctx.method, path)
      route = matched.route.path
      await runAuthorized(ctx, matched, options.authorization, { requestId, address })
    } catch (error) {
      answerError(ctx, error, requestId, options.reportError)
    }
    options.inFlight.end()
    closeAfterUnreadBody(ctx.req, ctx.res)
    const { caller } = ctx.state
    options.observe({
      requestId,
      method: ctx.method,
      route,
      path: redactPath(path),
      status: ctx.status,
      seconds: (performance.now() - startedAt) / 1000,
      address,
      actor: caller === undefined || caller.kind === 'anonymous' ? undefined : caller.actor,
      isWrite: !READS.has(ctx.method),
    })
  })
  return app
}

/** Throws REQUEST_INVALID for a target that is no path and no URL either. */
function pathOf(ctx: RouteContext): string {
  let path: string | null = null
  let cause: unknown
  try {
    path = ctx.path
  } catch (error) {
    cause = error
  }
  if (path !== null) return path
  throw badRequest('the request target is no path', { cause })
}

const SECRETS = /^\/+upload\/.*|rk[a-z]_[\w-]+/gi

const ENCODED_ASCII = /%([2-7][0-9a-f])/gi

/** A path as it may stand in a log: some hold a secret, also where it is percent-encoded. */
function redactPath(path: string): string {
  if (!path.includes('%')) return path.replace(SECRETS, '…')
  const plain = path.replace(ENCODED_ASCII, (_, hex) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  )
  const spoken = plain.replace(SECRETS, '…')
  return spoken === plain ? path : spoken
}

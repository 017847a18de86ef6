import type { RouteContext } from './route.ts'

/** Returns a controller that the end of the connection aborts. */
export function abortedOnClose(ctx: RouteContext): AbortController {
  const stopping = new AbortController()
  if (ctx.res.destroyed) stopping.abort()
  else ctx.res.once('close', () => stopping.abort())
  return stopping
}

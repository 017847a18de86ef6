import type { Authenticator } from '../auth/authenticator.ts'
import type { RouteContext } from './route.ts'

/** Returns a controller that the end of the connection aborts. */
export function abortedOnClose(ctx: RouteContext): AbortController {
  const stopping = new AbortController()
  if (ctx.res.destroyed) stopping.abort()
  else ctx.res.once('close', () => stopping.abort())
  return stopping
}

/** Resolves to false when the client's credential or token is no longer valid. */
export async function isAuthenticated(
  ctx: RouteContext,
  authenticator: Authenticator,
): Promise<boolean> {
  const { authorization } = ctx.headers
  if (authorization === undefined) return true
  const { caller } = await authenticator.authenticate(authorization, ctx.state.address)
  return caller.kind !== 'holder' || caller.expiredAt === undefined
}

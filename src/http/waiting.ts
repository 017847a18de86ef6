import type { RouteContext } from './route.ts'
import { ClientDisconnectedError } from './send-bytes.ts'

/** Returns a controller that the end of the connection aborts. */
export function abortedOnClose(ctx: RouteContext): AbortController {
  const stopping = new AbortController()
  const leave = () => stopping.abort(new ClientDisconnectedError())
  if (ctx.res.destroyed) leave()
  else ctx.res.once('close', leave)
  return stopping
}

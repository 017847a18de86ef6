import { decide } from '../auth/access.ts'
import type { Authenticator } from '../auth/authenticator.ts'
import { OciError } from '../oci/errors.ts'
import { parseRepository } from '../oci/reference.ts'
import { RequestBody } from './body.ts'
import type { Matched } from './matcher.ts'
import type { RouteContext } from './route.ts'

/**
 * The one place where it is decided who may do what: finds out who asks, lets the row's handler run
 * or refuses, and tells a stranger who saw nothing how to come back as somebody.
 */
export async function runAuthorized(
  ctx: RouteContext,
  { route, params }: Matched,
  authenticator: Authenticator,
): Promise<void> {
  try {
    const caller = authenticator.authenticate(ctx.headers.authorization)
    const name = params.repository
    const repository = name === undefined ? undefined : parseRepository(name)
    const decision = decide(route.access, caller, repository)
    if (decision === 'authenticate') throw new OciError('UNAUTHORIZED')
    const publicOnly = decision === 'public-only'
    ctx.state = {
      caller,
      params,
      repository,
      publicOnly,
      body: new RequestBody(ctx.req, ctx.res),
    }
    await route.handle(ctx)
  } catch (error) {
    // A private repository and none at all are the same to a stranger.
    const hidden =
      error instanceof OciError && error.code === 'NAME_UNKNOWN' && ctx.state.publicOnly === true
    const refusal = hidden ? new OciError('UNAUTHORIZED', undefined, { cause: error }) : error
    if (refusal instanceof OciError && refusal.code === 'UNAUTHORIZED') {
      throw new OciError('UNAUTHORIZED', refusal.detail, {
        message: refusal.message,
        headers: { 'WWW-Authenticate': authenticator.challenge() },
        cause: refusal,
      })
    }
    throw refusal
  }
}

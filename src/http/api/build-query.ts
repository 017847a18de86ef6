import { maySeeActors } from '../../auth/access.ts'
import { badRequest, denied, unauthorized } from '../../oci/errors.ts'
import { queryOnce, type RouteContext, repositoryOf } from '../route.ts'

const INPUT_ID = /^[0-9a-f]{64}$/

/** Reads the parameter `builder`. Throws UNAUTHORIZED or DENIED when the caller may not see who works in the repository. */
export function builderOf(ctx: RouteContext): string | undefined {
  const { caller } = ctx.state
  const builder = queryOnce(ctx, 'builder') || undefined
  if (builder === undefined || maySeeActors(caller, repositoryOf(ctx))) return builder
  const rule = 'builder= needs a right to the repository: only its members see who pushed'
  throw caller.kind === 'anonymous' ? unauthorized(rule) : denied(rule)
}

/** Throws REQUEST_INVALID for a text that is no input id. */
export function parseInputId(text: string): string {
  if (INPUT_ID.test(text)) return text
  throw badRequest('an input id must have 64 hexadecimal digits')
}

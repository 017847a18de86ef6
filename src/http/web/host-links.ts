import { mayManageHost } from '../../auth/hosts/host-rights.ts'
import { hostPath } from '../../web/paths.ts'
import { hostRequesterOf } from '../api/enrolments.ts'
import type { RouteContext } from '../route.ts'

/**
 * Returns the path of the page of a host for a caller who may manage it, and undefined for others. `repositories`: the patterns of
 * what the host may follow; undefined for one that has no page.
 */
export function hostPathFor(
  ctx: RouteContext,
  name: string,
  repositories: readonly string[] | undefined,
): string | undefined {
  if (repositories === undefined) return undefined
  return mayManageHost(hostRequesterOf(ctx).grants, repositories) ? hostPath(name) : undefined
}

import { allows, type Caller, maySeeHosts } from '../../auth/access.ts'
import type { DeploymentRow, DeploymentWatch, WatchedDeployment } from '../../deployments/watch.ts'
import { badRequest, notFound } from '../../oci/errors.ts'
import { isUuidInAnyCase } from '../../oci/uuid.ts'
import type { PageCursors } from '../pages.ts'
import { param, type RouteContext } from '../route.ts'
import type { StreamLimit } from '../stream-limit.ts'

export type DeploymentRouteDeps = {
  readonly watch: DeploymentWatch
  readonly connections: StreamLimit
  readonly cursors: PageCursors
}

/** Reads the id of a deployment from the path. Throws REQUEST_INVALID. */
export function deploymentIdOf(ctx: RouteContext): string {
  const id = param(ctx, 'deployment')
  if (!isUuidInAnyCase(id)) throw badRequest('the id of a deployment must be a UUID')
  return id.toLowerCase()
}

/** Reads a deployment that the caller may see. Throws NOT_FOUND: a hidden one looks like one that does not exist. */
export async function requireDeployment(
  { watch }: Pick<DeploymentRouteDeps, 'watch'>,
  id: string,
  caller: Caller,
): Promise<WatchedDeployment> {
  return requireVisible(id, await watch.read(id), caller)
}

/** Returns a deployment that was found for a caller who may see it. Throws NOT_FOUND. */
export function requireVisible(
  id: string,
  found: WatchedDeployment | undefined,
  caller: Caller,
): WatchedDeployment {
  if (found === undefined || !maySee(caller, found)) {
    throw notFound(`there is no deployment ${id}, or this credential may not pull its repository`)
  }
  return found
}

/** True for a caller who may see the deployment. */
export function maySee(caller: Caller, { repository, visibility }: DeploymentRow): boolean {
  if (visibility === 'public' || maySeeHosts(caller, repository)) return true
  return allows(caller, 'pull', repository)
}

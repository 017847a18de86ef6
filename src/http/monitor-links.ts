import type { CreatedDeployment } from '../deployments/creation.ts'
import type { RouteContext } from './route.ts'

/**
 * Links to the deployments that a push has made, where its sender learns how they go (RFC 5989, section 4: `monitor`). Without
 * one no unit follows the tags.
 */
export function setMonitorLinks(
  ctx: RouteContext,
  deployments: readonly Pick<CreatedDeployment, 'id'>[],
): void {
  if (deployments.length === 0) return
  ctx.set(
    'Link',
    deployments.map(({ id }) => `</api/v1/deployments/${id}>; rel="monitor"`).join(', '),
  )
}

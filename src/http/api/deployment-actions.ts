import type { DeploymentActions } from '../../deployments/actions.ts'
import { requireRight } from '../authorize.ts'
import { actorOf, queryOnce, type Route, type RouteContext } from '../route.ts'
import { deploymentJson } from './deployment-json.ts'
import { DEPLOYMENT } from './deployments.ts'
import {
  type DeploymentRouteDeps,
  deploymentIdOf,
  requireDeployment,
} from './visible-deployment.ts'

type Deps = Pick<DeploymentRouteDeps, 'watch'> & { readonly actions: DeploymentActions }

/** The changes of an open deployment. */
export const DEPLOYMENT_CHANGES = ['pause', 'resume', 'cancel'] as const

/** Pauses, resumes and cancels deployments, and retries them: for those who may push the tag, who could do worse. */
export function deploymentActionRoutes(deps: Deps): Route[] {
  const changes = DEPLOYMENT_CHANGES.map(
    (change): Route => ({
      method: 'POST',
      path: `${DEPLOYMENT}/${change}`,
      access: 'authenticated',
      async handle(ctx) {
        const id = await permittedDeployment(ctx, deps)
        await deps.actions[change](id, actorOf(ctx))
        await answerWith(ctx, deps, id)
      },
    }),
  )
  return [
    ...changes,
    {
      method: 'POST',
      path: `${DEPLOYMENT}/retry`,
      access: 'authenticated',
      query: { host: 'once' },
      async handle(ctx) {
        const host = queryOnce(ctx, 'host') || undefined
        const id = await permittedDeployment(ctx, deps)
        const made = await deps.actions.retry(id, host, actorOf(ctx))
        ctx.set('Location', `/api/v1/deployments/${made}`)
        ctx.status = 201
        await answerWith(ctx, deps, made)
      },
    },
  ]
}

/** Returns the id of the path. Throws NOT_FOUND, and DENIED for a caller that may not push the tag. */
export async function permittedDeployment(ctx: RouteContext, deps: Deps): Promise<string> {
  const id = deploymentIdOf(ctx)
  const { repository, tag } = await requireDeployment(deps, id, ctx.state.caller)
  requireRight(ctx, 'push', repository, [tag])
  return id
}

async function answerWith(ctx: RouteContext, deps: Deps, id: string): Promise<void> {
  const { caller } = ctx.state
  ctx.body = deploymentJson(await requireDeployment(deps, id, caller), caller)
}

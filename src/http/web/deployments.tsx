import { allowsTag } from '../../auth/access.ts'
import { FAILURES } from '../../deployments/states.ts'
import { DeploymentPage } from '../../web/deployment.tsx'
import { DeploymentsPage } from '../../web/deployments.tsx'
import { deploymentPath } from '../../web/paths.ts'
import { TARGETS_SHOWN } from '../../web/targets.tsx'
import { DEPLOYMENT_CHANGES, permittedDeployment } from '../api/deployment-actions.ts'
import { deploymentJson } from '../api/deployment-json.ts'
import { streamDeployment } from '../api/deployment-stream.ts'
import { listVisible } from '../api/deployments.ts'
import { deploymentIdOf, requireDeployment } from '../api/visible-deployment.ts'
import { actorOf, queryOnce, type Route, type RouteContext } from '../route.ts'
import type { PageDeps } from './deps.ts'
import { hostPathFor } from './host-links.ts'
import { nextPath } from './next-path.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const DEPLOYMENTS_A_PAGE = 25
const DEPLOYMENT = '/deployments/:deployment'

/** The pages of deployments, and the forms that change them. */
export function deploymentPages({
  deployments,
  ask,
}: Pick<PageDeps, 'deployments' | 'ask'>): Route[] {
  return [
    {
      method: 'GET',
      path: '/deployments',
      ...PAGE_ROUTE,
      access: 'authenticated',
      reads: 'question',
      async handle(ctx) {
        const state = queryOnce(ctx, 'state') || undefined
        const { caller } = ctx.state
        const limit = DEPLOYMENTS_A_PAGE
        const found = await listVisible(ctx, deployments, ask, limit)
        const next = nextPath(ctx, found.next, ['state'])
        sendPage(ctx, {
          title: 'Deployments',
          json: '/api/v1/deployments',
          next,
          content: (
            <DeploymentsPage
              deployments={found.deployments.map((one) => deploymentJson(one, caller))}
              state={state}
              next={next}
            />
          ),
        })
      },
    },
    {
      method: 'GET',
      path: DEPLOYMENT,
      ...PAGE_ROUTE,
      access: 'authenticated',
      reads: 'rows',
      async handle(ctx) {
        const { caller } = ctx.state
        const deployment = await requireDeployment(deployments, deploymentIdOf(ctx), caller)
        const { repository, tag, number, targets: rows } = deployment
        const { targets, ...shown } = deploymentJson(deployment, caller)
        const items = targets?.map((target, index) => ({
          ...target,
          hostPath:
            index < TARGETS_SHOWN
              ? hostPathFor(ctx, target.host, rows[index]?.hostRepositories ?? undefined)
              : undefined,
          isFailure: FAILURES.includes(target.state),
        }))
        sendPage(ctx, {
          title: `Deployment ${number} of ${repository}:${tag}`,
          json: `/api/v1/deployments/${deployment.id}`,
          content: (
            <DeploymentPage
              deployment={{ ...shown, ...(items === undefined ? {} : { targets: items }) }}
              mayChange={allowsTag(caller, 'push', repository, tag)}
            />
          ),
        })
      },
    },
    {
      // The cookie of a session counts on pages only, so that the page has a stream of its own.
      method: 'GET',
      path: `${DEPLOYMENT}/stream`,
      ...PAGE_ROUTE,
      access: 'authenticated',
      reads: 'rows',
      async handle(ctx) {
        const id = deploymentIdOf(ctx)
        if (ctx.headers.accept?.includes('text/event-stream'))
          await streamDeployment(ctx, deployments, id)
        else showDeployment(ctx, id)
      },
    },
    ...DEPLOYMENT_CHANGES.map(
      (change): Route => ({
        method: 'POST',
        path: `${DEPLOYMENT}/${change}`,
        ...PAGE_ROUTE,
        access: 'authenticated',
        async handle(ctx) {
          const id = await permittedDeployment(ctx, deployments)
          await deployments.actions[change](id, actorOf(ctx))
          showDeployment(ctx, id)
        },
      }),
    ),
    {
      method: 'POST',
      path: `${DEPLOYMENT}/retry`,
      ...PAGE_ROUTE,
      access: 'authenticated',
      async handle(ctx) {
        const id = await permittedDeployment(ctx, deployments)
        showDeployment(ctx, await deployments.actions.retry(id, undefined, actorOf(ctx)))
      },
    },
  ]
}

function showDeployment(ctx: RouteContext, id: string): void {
  ctx.status = 303
  ctx.redirect(deploymentPath(id))
}

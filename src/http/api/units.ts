import { allows, pullablePatterns } from '../../auth/access.ts'
import type { ReportingHost, Reports } from '../../deployments/reports.ts'
import { denied, notFound } from '../../oci/errors.ts'
import type { Repository } from '../../oci/reference.ts'
import { actorOf, hostOf, param, type Route, type RouteContext } from '../route.ts'
import { desiredJson } from './desired.ts'
import { parseUnitName, readReport } from './report-fields.ts'

const UNIT = '/api/v1/hosts/:host/units/:unit'

/** The reports of hosts about their units. */
export function unitRoutes(
  reports: Reports,
  publicBaseUrl: (ctx: RouteContext) => string,
): Route[] {
  return [
    {
      method: 'PUT',
      path: UNIT,
      access: 'host',
      async handle(ctx) {
        const name = parseUnitName(param(ctx, 'unit'))
        const report = await readReport(ctx)
        assertMayFollow(ctx, report.repository)
        const { stale, desired } = await reports.store(reporting(ctx), name, report)
        ctx.body = { stale, desired: desiredJson(desired, publicBaseUrl(ctx)) }
      },
    },
    {
      method: 'DELETE',
      path: UNIT,
      access: 'host',
      async handle(ctx) {
        const name = parseUnitName(param(ctx, 'unit'))
        if (!(await reports.remove(reporting(ctx), name))) {
          throw notFound(`the host has no unit ${name}`)
        }
        ctx.status = 204
      },
    },
  ]
}

function reporting(ctx: RouteContext): ReportingHost {
  return { ...hostOf(ctx), author: actorOf(ctx) }
}

/** A unit may follow what its host may pull by its own patterns. Throws DENIED. */
function assertMayFollow(ctx: RouteContext, repository: Repository): void {
  const { caller } = ctx.state
  if (allows(caller, 'pull', repository)) return
  const patterns = pullablePatterns(caller).join(', ')
  throw denied(`the host may follow ${patterns}, and not ${repository}`)
}

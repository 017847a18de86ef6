import type { HostEnrolments } from '../../auth/hosts/enrolments.ts'
import type { HostRequester } from '../../auth/hosts/host-rights.ts'
import { actorOf, type Route, type RouteContext } from '../route.ts'
import { readFormOrJson } from './form-fields.ts'
import { readFields } from './json-fields.ts'

/** Codes for hosts, and the enrolment of a host by its own key. Only the response to a POST has the code. */
export function enrolmentRoutes(
  enrolments: HostEnrolments,
  publicBaseUrl: (ctx: RouteContext) => string,
): Route[] {
  return [
    {
      method: 'POST',
      path: '/api/v1/enrolments',
      access: 'authenticated',
      async handle(ctx) {
        const created = await enrolments.createCode(await readRequest(ctx), hostRequesterOf(ctx))
        const { name, code } = created
        const command = `rookery-agent enrol ${publicBaseUrl(ctx)} ${code} --name ${name}`
        ctx.status = 201
        ctx.set('Cache-Control', 'no-store')
        ctx.body = { ...created, command }
      },
    },
    {
      method: 'POST',
      path: '/api/v1/hosts/enrol',
      access: 'none',
      async handle(ctx) {
        const { address, requestId } = ctx.state
        const enrolled = await enrolments.enrol(await readEnrolment(ctx), { address, requestId })
        ctx.status = enrolled.state === 'active' ? 201 : 202
        ctx.body = enrolled
      },
    },
  ]
}

/** Returns the caller of a route that manages hosts, with its rights. */
export function hostRequesterOf(ctx: RouteContext): HostRequester {
  const { caller, networks } = ctx.state
  const grants = caller.kind === 'holder' ? caller.grants : []
  return { actor: actorOf(ctx), grants: caller.kind === 'admin' ? null : grants, networks }
}

function readRequest(ctx: RouteContext) {
  return readFields(ctx, (fields) => ({
    name: fields.text('name'),
    repositories: fields.optionalTexts('repositories') ?? [],
    networks: fields.optionalTexts('networks'),
    labels: fields.optionalNamedTexts('labels'),
    seconds: fields.optionalNumber('ttlSeconds'),
  }))
}

function readEnrolment(ctx: RouteContext) {
  return readFormOrJson(ctx, (fields) => ({
    code: fields.optionalText('code') || undefined,
    name: fields.optionalText('name') || undefined,
    jwk: fields.raw('jwk'),
    proof: fields.text('proof'),
  }))
}

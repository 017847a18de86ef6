import type { TrustPolicies } from '../../auth/trust/policies.ts'
import { pageByName } from '../pages.ts'
import { PAGE } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import { actorOf, param, type Route, type RouteContext } from '../route.ts'
import { readFields } from './json-fields.ts'

const PATH = '/api/v1/policies'

/** Creates, lists, removes and tests trust policies. */
export function policyRoutes(policies: TrustPolicies, ask: AskQuestion): Route[] {
  return [
    {
      method: 'POST',
      path: PATH,
      access: 'admin',
      async handle(ctx) {
        const policy = await policies.create(await readRequest(ctx), actorOf(ctx))
        ctx.status = 201
        ctx.set('Location', `${PATH}/${policy.name}`)
        ctx.body = policy
      },
    },
    {
      method: 'GET',
      path: PATH,
      access: 'admin',
      query: PAGE,
      reads: 'question',
      async handle(ctx) {
        const list = (last: string, limit: number) => policies.list(last, limit, ask(ctx))
        ctx.body = { policies: await pageByName(ctx, list) }
      },
    },
    {
      method: 'POST',
      path: `${PATH}/test`,
      inReadOnlyMode: true,
      access: 'admin',
      async handle(ctx) {
        const token = await readFields(ctx, (fields) => fields.text('token'))
        ctx.body = await policies.explain(token)
      },
    },
    {
      method: 'GET',
      path: `${PATH}/:name`,
      access: 'admin',
      reads: 'rows',
      async handle(ctx) {
        ctx.body = await policies.requireByName(param(ctx, 'name'))
      },
    },
    {
      method: 'DELETE',
      path: `${PATH}/:name`,
      access: 'admin',
      async handle(ctx) {
        await policies.remove(param(ctx, 'name'), actorOf(ctx))
        ctx.status = 204
      },
    },
  ]
}

function readRequest(ctx: RouteContext) {
  return readFields(ctx, (fields) => ({
    name: fields.text('name'),
    issuer: fields.text('issuer'),
    audience: fields.text('audience'),
    conditions: fields.raw('conditions'),
    repositories: fields.optionalTexts('repositories') ?? [],
    actions: fields.optionalTexts('actions') ?? [],
    tags: fields.optionalTexts('tags'),
    tokenSeconds: fields.optionalNumber('tokenSeconds'),
    allowAdmin: fields.optionalFlag('allowAdmin'),
  }))
}

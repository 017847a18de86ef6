import type { Sessions } from '../../auth/sessions.ts'
import type { AskQuestion } from '../question-budget.ts'
import { actorOf, param, queryOnce, type Route } from '../route.ts'

const PATH = '/api/v1/sessions'
const OF_NAME = { actor: 'once' } as const

/** Lists and ends the sessions of people: the caller's own, and those of other logins for administrators. */
export function sessionRoutes(sessions: Sessions, ask: AskQuestion): Route[] {
  return [
    {
      method: 'GET',
      path: PATH,
      access: 'authenticated',
      query: OF_NAME,
      reads: 'question',
      async handle(ctx) {
        const actor = queryOnce(ctx, 'actor') || undefined
        const found = await sessions.list(ask(ctx), ctx.state.caller, { actor })
        ctx.body = { sessions: found.map(({ isCurrent: _, ...session }) => session) }
      },
    },
    {
      method: 'DELETE',
      path: PATH,
      inReadOnlyMode: true,
      access: 'authenticated',
      query: OF_NAME,
      async handle(ctx) {
        const name = queryOnce(ctx, 'actor') || undefined
        const ended = await sessions.revokeAll({ name }, ctx.state.caller, actorOf(ctx))
        ctx.body = { ended }
      },
    },
    {
      method: 'DELETE',
      path: `${PATH}/:session`,
      inReadOnlyMode: true,
      access: 'authenticated',
      async handle(ctx) {
        await sessions.revoke(param(ctx, 'session'), ctx.state.caller, actorOf(ctx))
        ctx.status = 204
      },
    },
  ]
}

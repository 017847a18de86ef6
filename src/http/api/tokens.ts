import type { TokenRevocations } from '../../auth/revocations.ts'
import { actorOf, param, type Route } from '../route.ts'

/** Tokens that were given out can be taken back one by one, by their `jti`. */
export function tokenRevocationRoutes(revoked: TokenRevocations): Route[] {
  return [
    {
      method: 'DELETE',
      path: '/api/v1/tokens/:id',
      access: 'admin',
      async handle(ctx) {
        await revoked.revoke(param(ctx, 'id'), actorOf(ctx))
        ctx.status = 204
      },
    },
  ]
}

import type { TokenRevocations } from '../../auth/revocations.ts'
import { actorOf, param, type Route } from '../route.ts'

/** Revokes single tokens by their `jti`. */
export function tokenRevocationRoutes(revoked: TokenRevocations): Route[] {
  return [
    {
      method: 'DELETE',
      path: '/api/v1/tokens/:id',
      inReadOnlyMode: true,
      access: 'admin',
      async handle(ctx) {
        await revoked.revoke(param(ctx, 'id'), actorOf(ctx))
        ctx.status = 204
      },
    },
  ]
}

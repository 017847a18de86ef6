import type { Hosts } from '../../auth/hosts/hosts.ts'
import { actorOf, hostOf, type Route, type RouteContext } from '../route.ts'
import { readFormOrJson } from './form-fields.ts'

const HOST = '/api/v1/hosts/:host'

/** Routes of hosts. */
export function hostRoutes(hosts: Hosts): Route[] {
  return [
    {
      method: 'POST',
      path: `${HOST}/keys`,
      access: 'host',
      async handle(ctx) {
        ctx.body = await hosts.rotateKey(hostOf(ctx), await readRotation(ctx), actorOf(ctx))
      },
    },
  ]
}

function readRotation(ctx: RouteContext) {
  return readFormOrJson(ctx, (fields) => ({
    jwk: fields.raw('jwk'),
    proof: fields.text('proof'),
    assertion: fields.text('assertion'),
  }))
}

import { invalidQuery } from '../../oci/errors.ts'
import type { WebhookDeliveries } from '../../webhooks/management/deliveries.ts'
import {
  DELIVERY_STATES,
  type DeliveryState,
  type Requester,
} from '../../webhooks/management/types.ts'
import type { Webhooks } from '../../webhooks/management/webhooks.ts'
import { pageByName, pageCursor, pageLimit, setNextLink } from '../pages.ts'
import { actorOf, param, queryOnce, type Route, type RouteContext } from '../route.ts'
import { readFields, readOptionalFields } from './json-fields.ts'
import { readWebhookChange, readWebhookRequest } from './webhook-fields.ts'

const PATH = '/api/v1/webhooks'
const ONE = `${PATH}/:name`
const DELIVERIES = 100

/** Webhooks: made, listed, changed, removed, tried. A secret is in the answer that makes it, and in no other. */
export function webhookRoutes(webhooks: Webhooks): Route[] {
  return [
    {
      method: 'POST',
      path: PATH,
      access: 'authenticated',
      async handle(ctx) {
        const made = await webhooks.create(await readWebhookRequest(ctx), managerOf(ctx))
        ctx.status = 201
        ctx.set({ 'Cache-Control': 'no-store', Location: `${PATH}/${made.name}` })
        ctx.body = made
      },
    },
    {
      method: 'GET',
      path: PATH,
      access: 'authenticated',
      async handle(ctx) {
        const manager = managerOf(ctx)
        const list = (last: string, limit: number) => webhooks.list(last, limit, manager)
        ctx.body = { webhooks: await pageByName(ctx, list) }
      },
    },
    {
      method: 'GET',
      path: ONE,
      access: 'authenticated',
      async handle(ctx) {
        ctx.body = await webhooks.read(param(ctx, 'name'), managerOf(ctx))
      },
    },
    {
      method: 'PATCH',
      path: ONE,
      access: 'authenticated',
      async handle(ctx) {
        const change = await readWebhookChange(ctx)
        ctx.body = await webhooks.change(param(ctx, 'name'), change, managerOf(ctx))
      },
    },
    {
      method: 'DELETE',
      path: ONE,
      access: 'authenticated',
      async handle(ctx) {
        await webhooks.remove(param(ctx, 'name'), managerOf(ctx))
        ctx.status = 204
      },
    },
    {
      method: 'POST',
      path: `${ONE}/rotate-secret`,
      access: 'authenticated',
      async handle(ctx) {
        const { secret, overlapSeconds } = await readRotation(ctx)
        const name = param(ctx, 'name')
        ctx.set('Cache-Control', 'no-store')
        ctx.body = await webhooks.rotateSecret(name, secret, overlapSeconds, managerOf(ctx))
      },
    },
    {
      method: 'POST',
      path: `${ONE}/test`,
      access: 'authenticated',
      async handle(ctx) {
        const event = await webhooks.test(param(ctx, 'name'), managerOf(ctx))
        ctx.status = 202
        ctx.body = { event }
      },
    },
  ]
}

/** What became of events for a webhook, and sending them again. */
export function webhookDeliveryRoutes(deliveries: WebhookDeliveries): Route[] {
  return [
    {
      method: 'GET',
      path: `${ONE}/deliveries`,
      access: 'authenticated',
      async handle(ctx) {
        const limit = pageLimit(ctx, DELIVERIES)
        const question = { state: stateOf(ctx), before: pageCursor(ctx), limit }
        const page = await deliveries.list(param(ctx, 'name'), question, managerOf(ctx))
        if (page.next !== null && limit > 0) {
          const state = question.state
          setNextLink(ctx, { state, last: String(page.next), n: String(limit) })
        }
        ctx.body = { deliveries: page.deliveries }
      },
    },
    {
      method: 'GET',
      path: `${ONE}/deliveries/:event`,
      access: 'authenticated',
      async handle(ctx) {
        const [name, event] = [param(ctx, 'name'), param(ctx, 'event')]
        ctx.body = await deliveries.read(name, event, managerOf(ctx))
      },
    },
    {
      method: 'POST',
      path: `${ONE}/deliveries/:event/redeliver`,
      access: 'authenticated',
      async handle(ctx) {
        const [name, event] = [param(ctx, 'name'), param(ctx, 'event')]
        await deliveries.redeliver(name, event, managerOf(ctx))
        ctx.status = 202
        ctx.body = { event }
      },
    },
    {
      method: 'POST',
      path: `${ONE}/redeliver`,
      access: 'authenticated',
      async handle(ctx) {
        const range = await readRange(ctx)
        const name = param(ctx, 'name')
        ctx.body = await deliveries.redeliverRange(name, range, managerOf(ctx))
        ctx.status = 202
      },
    },
  ]
}

function managerOf(ctx: RouteContext): Requester {
  const { caller } = ctx.state
  const grants = caller.kind === 'holder' ? caller.grants : []
  return { actor: actorOf(ctx), grants: caller.kind === 'admin' ? null : grants }
}

/** The body is optional. */
async function readRotation(ctx: RouteContext) {
  const rotation = await readOptionalFields(ctx, (fields) => ({
    secret: fields.optionalText('secret'),
    overlapSeconds: fields.optionalNumber('overlapSeconds'),
  }))
  return rotation ?? { secret: undefined, overlapSeconds: undefined }
}

function readRange(ctx: RouteContext) {
  return readFields(ctx, (fields) => ({
    after: fields.text('after'),
    until: fields.optionalText('until'),
    states: fields.optionalTexts('states'),
  }))
}

function stateOf(ctx: RouteContext): DeliveryState | undefined {
  const text = queryOnce(ctx, 'state')
  const state = DELIVERY_STATES.find((one) => one === text)
  if (text === undefined || state !== undefined) return state
  throw invalidQuery(`state is ${DELIVERY_STATES.join(', ')}, not "${text.slice(0, 32)}"`)
}

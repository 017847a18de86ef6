import { invalidQuery } from '../../oci/errors.ts'
import type { WebhookDeliveries } from '../../webhooks/management/deliveries.ts'
import {
  DELIVERY_STATES,
  type DeliveryState,
  type Requester,
} from '../../webhooks/management/types.ts'
import type { Webhooks } from '../../webhooks/management/webhooks.ts'
import { type PageCursors, pageByName, pageLimit, setNextLink } from '../pages.ts'
import { PAGE } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import { actorOf, param, queryOnce, type Route, type RouteContext } from '../route.ts'
import { readFields, readOptionalFields } from './json-fields.ts'
import { readWebhookChange, readWebhookRequest } from './webhook-fields.ts'

const WEBHOOKS = '/api/v1/webhooks'
const WEBHOOK = `${WEBHOOKS}/:name`
const DELIVERIES_PER_PAGE = 100

/** Routes that manage webhooks. Only the responses to creation and rotation contain a secret. */
export function webhookRoutes(webhooks: Webhooks, ask: AskQuestion): Route[] {
  return [
    {
      method: 'POST',
      path: WEBHOOKS,
      access: 'authenticated',
      async handle(ctx) {
        const created = await webhooks.create(await readWebhookRequest(ctx), requesterOf(ctx))
        ctx.status = 201
        ctx.set({ 'Cache-Control': 'no-store', Location: `${WEBHOOKS}/${created.name}` })
        ctx.body = created
      },
    },
    {
      method: 'GET',
      path: WEBHOOKS,
      access: 'authenticated',
      query: PAGE,
      reads: 'question',
      async handle(ctx) {
        const requester = requesterOf(ctx)
        const list = (last: string, limit: number) =>
          webhooks.list(ask(ctx), last, limit, requester)
        ctx.body = { webhooks: await pageByName(ctx, list) }
      },
    },
    {
      method: 'GET',
      path: WEBHOOK,
      access: 'authenticated',
      reads: 'rows',
      async handle(ctx) {
        ctx.body = await webhooks.read(param(ctx, 'name'), requesterOf(ctx))
      },
    },
    {
      method: 'PATCH',
      path: WEBHOOK,
      access: 'authenticated',
      async handle(ctx) {
        const change = await readWebhookChange(ctx)
        ctx.body = await webhooks.change(param(ctx, 'name'), change, requesterOf(ctx))
      },
    },
    {
      method: 'DELETE',
      path: WEBHOOK,
      access: 'authenticated',
      async handle(ctx) {
        await webhooks.remove(param(ctx, 'name'), requesterOf(ctx))
        ctx.status = 204
      },
    },
    {
      method: 'POST',
      path: `${WEBHOOK}/rotate-secret`,
      access: 'authenticated',
      async handle(ctx) {
        const { secret, overlapSeconds } = await readRotation(ctx)
        const name = param(ctx, 'name')
        ctx.set('Cache-Control', 'no-store')
        ctx.body = await webhooks.rotateSecret(name, secret, overlapSeconds, requesterOf(ctx))
      },
    },
    {
      method: 'POST',
      path: `${WEBHOOK}/test`,
      access: 'authenticated',
      async handle(ctx) {
        const event = await webhooks.test(param(ctx, 'name'), requesterOf(ctx))
        ctx.status = 202
        ctx.body = { event }
      },
    },
  ]
}

/** Routes that list deliveries and send events again. */
export function webhookDeliveryRoutes(
  deliveries: WebhookDeliveries,
  ask: AskQuestion,
  cursors: PageCursors,
): Route[] {
  return [
    {
      method: 'GET',
      path: `${WEBHOOK}/deliveries`,
      access: 'authenticated',
      query: { ...PAGE, state: 'once' },
      reads: 'question',
      async handle(ctx) {
        const limit = pageLimit(ctx, DELIVERIES_PER_PAGE)
        const query = { state: parseState(ctx), before: cursors.read(ctx), limit }
        const page = await deliveries.list(ask(ctx), param(ctx, 'name'), query, requesterOf(ctx))
        if (page.next !== null && limit > 0) {
          setNextLink(ctx, {
            state: query.state,
            last: cursors.format(page.next),
            n: String(limit),
          })
        }
        ctx.body = { deliveries: page.deliveries }
      },
    },
    {
      method: 'GET',
      path: `${WEBHOOK}/deliveries/:event`,
      access: 'authenticated',
      reads: 'question',
      async handle(ctx) {
        const [name, event] = [param(ctx, 'name'), param(ctx, 'event')]
        ctx.body = await deliveries.read(ask(ctx), name, event, requesterOf(ctx))
      },
    },
    {
      method: 'POST',
      path: `${WEBHOOK}/deliveries/:event/redeliver`,
      access: 'authenticated',
      async handle(ctx) {
        const [name, event] = [param(ctx, 'name'), param(ctx, 'event')]
        await deliveries.redeliver(name, event, requesterOf(ctx))
        ctx.status = 202
        ctx.body = { event }
      },
    },
    {
      method: 'POST',
      path: `${WEBHOOK}/redeliver`,
      access: 'authenticated',
      async handle(ctx) {
        const range = await readRange(ctx)
        const name = param(ctx, 'name')
        ctx.body = await deliveries.redeliverRange(name, range, requesterOf(ctx))
        ctx.status = 202
      },
    },
  ]
}

/** Returns the caller as the management of webhooks sees it. */
export function requesterOf(ctx: RouteContext): Requester {
  const { caller } = ctx.state
  const grants = caller.kind === 'holder' ? caller.grants : []
  return { actor: actorOf(ctx), grants: caller.kind === 'admin' ? null : grants }
}

/** Reads the optional body of a rotation. */
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

/** Reads the parameter `state` of a list of deliveries. Throws QUERY_INVALID. */
export function parseState(ctx: RouteContext): DeliveryState | undefined {
  const text = queryOnce(ctx, 'state')
  const state = DELIVERY_STATES.find((one) => one === text)
  if (text === undefined || state !== undefined) return state
  throw invalidQuery(
    `state must be one of ${DELIVERY_STATES.join(', ')}, not "${text.slice(0, 32)}"`,
  )
}

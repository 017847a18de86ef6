import { DeliveryPage } from '../../web/delivery.tsx'
import { deliveryPath, webhookPath } from '../../web/paths.ts'
import { type Redelivered, WebhookPage } from '../../web/webhook.tsx'
import { WebhooksPage } from '../../web/webhooks.tsx'
import { canWrite } from '../../webhooks/management/authorization.ts'
import type { WebhookDeliveries } from '../../webhooks/management/deliveries.ts'
import {
  DELIVERY_STATES,
  type RedeliveryRange,
  type RedeliveryResult,
} from '../../webhooks/management/types.ts'
import type { Webhooks } from '../../webhooks/management/webhooks.ts'
import { readForm } from '../api/form-fields.ts'
import { parseState, requesterOf } from '../api/webhooks.ts'
import type { PageCursors } from '../pages.ts'
import type { AskQuestion } from '../question-budget.ts'
import { param, queryOnce, type Route, type RouteContext } from '../route.ts'
import { nextPath } from './next-path.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const WEBHOOKS_A_PAGE = 30
const DELIVERIES_A_PAGE = 20
const WEBHOOK = '/webhooks/:name'
const DELIVERY = `${WEBHOOK}/deliveries/:event`

/** The objects that the pages of webhooks call. */
export type WebhookPageDeps = {
  readonly webhooks: Webhooks
  readonly webhookDeliveries: WebhookDeliveries
  readonly ask: AskQuestion
  readonly pageCursors: PageCursors
}

/** The pages of webhooks and of their deliveries. */
export function webhookPages(deps: WebhookPageDeps): Route[] {
  const { webhooks, webhookDeliveries, ask, pageCursors } = deps
  return [
    {
      method: 'GET',
      path: '/webhooks',
      ...PAGE_ROUTE,
      access: 'authenticated',
      reads: 'question',
      async handle(ctx) {
        const last = queryOnce(ctx, 'last') ?? ''
        const found = await webhooks.list(ask(ctx), last, WEBHOOKS_A_PAGE + 1, requesterOf(ctx))
        const shown = found.slice(0, WEBHOOKS_A_PAGE)
        const next = found.length > shown.length ? nextPath(ctx, shown.at(-1)?.name) : undefined
        sendPage(ctx, {
          title: 'Webhooks',
          json: '/api/v1/webhooks',
          next,
          content: (
            <WebhooksPage
              webhooks={shown}
              isWhole={last === '' && next === undefined}
              next={next}
            />
          ),
        })
      },
    },
    {
      method: 'GET',
      path: WEBHOOK,
      ...PAGE_ROUTE,
      access: 'authenticated',
      reads: 'question',
      async handle(ctx) {
        const [name, requester] = [param(ctx, 'name'), requesterOf(ctx)]
        const state = parseState(ctx)
        const query = { state, before: pageCursors.read(ctx), limit: DELIVERIES_A_PAGE }
        const page = await webhookDeliveries.list(ask(ctx), name, query, requester)
        const cursor = page.next === null ? undefined : pageCursors.format(page.next)
        const next = nextPath(ctx, cursor, ['state'])
        sendPage(ctx, {
          title: `Webhook ${name}`,
          json: `/api/v1${webhookPath(name)}/deliveries`,
          next,
          content: (
            <WebhookPage
              webhook={await webhooks.view(page.webhook)}
              mayChange={canWrite(requester, page.webhook)}
              deliveries={page.deliveries}
              states={DELIVERY_STATES}
              state={state}
              redelivered={redeliveredOf(ctx)}
              next={next}
            />
          ),
        })
      },
    },
    {
      method: 'GET',
      path: DELIVERY,
      ...PAGE_ROUTE,
      access: 'authenticated',
      reads: 'question',
      async handle(ctx) {
        const [name, event] = [param(ctx, 'name'), param(ctx, 'event')]
        const delivery = await webhookDeliveries.read(ask(ctx), name, event, requesterOf(ctx))
        sendPage(ctx, {
          title: `${delivery.type} to ${name}`,
          json: `/api/v1${deliveryPath(name, event)}`,
          content: <DeliveryPage webhook={name} delivery={delivery} />,
        })
      },
    },
    ...webhookForms(deps),
  ]
}

/** The forms that change webhooks, and send events again. */
function webhookForms({ webhooks, webhookDeliveries }: WebhookPageDeps): Route[] {
  const pausing = (change: 'pause' | 'resume'): Route => ({
    method: 'POST',
    path: `${WEBHOOK}/${change}`,
    ...PAGE_ROUTE,
    access: 'authenticated',
    async handle(ctx) {
      const name = param(ctx, 'name')
      await webhooks.setPaused(name, change === 'pause', requesterOf(ctx))
      goTo(ctx, webhookPath(name))
    },
  })
  return [
    pausing('pause'),
    pausing('resume'),
    {
      method: 'POST',
      path: `${WEBHOOK}/test`,
      ...PAGE_ROUTE,
      access: 'authenticated',
      async handle(ctx) {
        const name = param(ctx, 'name')
        await webhooks.test(name, requesterOf(ctx))
        goTo(ctx, webhookPath(name))
      },
    },
    {
      method: 'POST',
      path: `${WEBHOOK}/redeliver`,
      ...PAGE_ROUTE,
      access: 'authenticated',
      async handle(ctx) {
        const name = param(ctx, 'name')
        const range = await readRange(ctx)
        const result = await webhookDeliveries.redeliverRange(name, range, requesterOf(ctx))
        goTo(ctx, `${webhookPath(name)}?${outcomeQuery(range, result)}#again`)
      },
    },
    {
      method: 'POST',
      path: `${DELIVERY}/redeliver`,
      ...PAGE_ROUTE,
      access: 'authenticated',
      async handle(ctx) {
        const [name, event] = [param(ctx, 'name'), param(ctx, 'event')]
        await webhookDeliveries.redeliver(name, event, requesterOf(ctx))
        goTo(ctx, deliveryPath(name, event))
      },
    },
  ]
}

function readRange(ctx: RouteContext): Promise<RedeliveryRange> {
  return readForm(ctx, (fields) => {
    const states = fields.optionalText('states') || undefined
    const until = fields.optionalText('until') || undefined
    return {
      after: inUtc(fields.text('after')),
      until: until === undefined ? undefined : inUtc(until),
      states: states?.split(','),
    }
  })
}

const WITHOUT_ZONE = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?$/

/** A browser sends a time without its zone. */
function inUtc(text: string): string {
  return WITHOUT_ZONE.test(text) ? `${text}Z` : text
}

/** Returns the query with which the page of the webhook shows an outcome. */
function outcomeQuery(
  { until, states }: RedeliveryRange,
  { deliveries, next }: RedeliveryResult,
): URLSearchParams {
  const query = new URLSearchParams({ again: String(deliveries) })
  if (next === null) return query
  query.set('after', next)
  if (until !== undefined) query.set('until', until)
  if (states !== undefined) query.set('states', states.join())
  return query
}

const COUNT = /^\d{1,6}$/

function redeliveredOf(ctx: RouteContext): Redelivered | undefined {
  const count = queryOnce(ctx, 'again') ?? ''
  if (!COUNT.test(count)) return undefined
  const fields = ['after', 'until', 'states'].flatMap((name) => {
    const value = queryOnce(ctx, name)
    return value === undefined ? [] : [[name, value] as const]
  })
  const continuation = fields.length === 0 ? undefined : Object.fromEntries(fields)
  return { deliveries: Number(count), continuation }
}

function goTo(ctx: RouteContext, path: string): void {
  ctx.status = 303
  ctx.redirect(path)
}

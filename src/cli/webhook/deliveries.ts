import { setTimeout as wait } from 'node:timers/promises'
import {
  DELIVERY_STATES,
  type DeliveryDetail,
  type DeliveryState,
  type RedeliveryRange,
} from '../../webhooks/management/types.ts'
import type { WebhookState } from '../../webhooks/webhook.ts'
import {
  argument,
  choice,
  command,
  flag,
  JSON_OPTION,
  optionalArgument,
  parsed,
} from '../command.ts'
import { parseSince } from '../durations.ts'
import { CommandError, STATUS, UsageError } from '../errors.ts'
import { LIMIT_OPTION } from '../numbers.ts'
import { printJson, printResult, utcText, visible } from '../printing.ts'
import type { WebhookAdmin } from './webhook-admin.ts'
import { answerText, deliveryLines, printDeliveries } from './webhook-text.ts'
import { WEBHOOK_ADMIN_OPTIONS, withWebhookAdmin } from './with-webhook-admin.ts'

const OUTCOME_MILLISECONDS_MAX = 30_000
const POLL_MILLISECONDS = 250
const CURSOR = /^[0-9a-f]{8}-\d{1,15}$/
/** The states that `--failed` selects: not delivered, and no more attempts. */
const FAILED: readonly DeliveryState[] = ['failed', 'expired', 'refused']
const ROUNDS_MAX = 100_000

const NAME = argument('NAME', 'name of the webhook')
const OPTIONS = { ...JSON_OPTION, ...WEBHOOK_ADMIN_OPTIONS }

/** `rookery webhook test`: a ping and its answer. */
export const testCommand = command({
  arguments: { name: NAME },
  options: OPTIONS,
  notes: 'It waits up to 30 s. The exit status is 1 when the ping was not delivered.',
  examples: [['rookery webhook test deploy', 'send a ping']],
  run(values, environment) {
    const { name, json } = values
    return withWebhookAdmin(values, environment, async (admin) => {
      const delivery = await firstOutcome(admin, name, await admin.test(name))
      printResult(json, delivery, outcomeLines(name, delivery))
      return delivery.state === 'delivered' ? STATUS.ok : STATUS.found
    })
  },
})

/** `rookery webhook deliveries`: the deliveries of a webhook, or one of them with all attempts. */
export const deliveriesCommand = command({
  arguments: {
    name: NAME,
    event: optionalArgument('EVENT', 'id of an event: show all its attempts and its body'),
  },
  options: {
    state: choice('STATE', DELIVERY_STATES, 'only deliveries in this state'),
    ...LIMIT_OPTION,
    ...OPTIONS,
  },
  examples: [
    ['rookery webhook deliveries deploy --state failed', 'list failed deliveries'],
    [
      'rookery webhook deliveries deploy 01JD2V6Q8J --json',
      'show one with its requests and answers',
    ],
  ],
  run(values, environment) {
    const { name, event, state, limit, json } = values
    return withWebhookAdmin(values, environment, async (admin) => {
      if (event !== undefined) return showDelivery(admin, name, event, json)
      const deliveries = await admin.deliveries(name, state, limit)
      if (json) printJson({ deliveries })
      else printDeliveries(deliveries)
      return STATUS.ok
    })
  },
})

/** `rookery webhook redeliver`: one event again, or all events of a period. */
export const redeliverCommand = command({
  arguments: { name: NAME, event: optionalArgument('EVENT', 'id of the event to send again') },
  options: {
    since: parsed('TIME', 'events since a time, a duration ago, or a cursor', parsePosition),
    until: parsed('TIME', 'events until a time, a duration ago, or a cursor', parsePosition),
    failed: flag('only events that were not delivered and have no more attempts'),
    ...OPTIONS,
  },
  notes: 'Give either EVENT or --since.',
  examples: [
    ['rookery webhook redeliver deploy --since 12h --failed', 'send again what failed today'],
    ['rookery webhook redeliver deploy 01JD2V6Q8J', 'send one event again'],
  ],
  run(values, environment) {
    const { name, event, since, until, failed, json } = values
    if ((event === undefined) === (since === undefined)) {
      throw new UsageError('give either EVENT or --since')
    }
    if (since === undefined && (until !== undefined || failed)) {
      throw new UsageError('--until and --failed need --since')
    }
    const range = { until, states: failed ? FAILED : undefined }
    return withWebhookAdmin(values, environment, async (admin) => {
      if (event !== undefined) await admin.redeliver(name, event)
      const deliveries =
        since === undefined ? 1 : await redeliverAll(admin, name, { ...range, after: since })
      const { state } = await admin.find(name)
      const line = visible(redeliveredText(name, deliveries, state))
      printResult(json, { deliveries, state }, [line])
      return STATUS.ok
    })
  },
})

/** Waits for the first attempt of a delivery. Throws CommandError when that takes too long. */
async function firstOutcome(
  admin: WebhookAdmin,
  name: string,
  event: string,
): Promise<DeliveryDetail> {
  const end = Date.now() + OUTCOME_MILLISECONDS_MAX
  for (;;) {
    const delivery = await admin.delivery(name, event)
    if (delivery !== undefined && (delivery.attempts > 0 || delivery.state !== 'pending')) {
      return delivery
    }
    if (Date.now() > end) throw new CommandError(await lateText(admin, name))
    await wait(POLL_MILLISECONDS)
  }
}

async function lateText(admin: WebhookAdmin, name: string): Promise<string> {
  const seconds = OUTCOME_MILLISECONDS_MAX / 1000
  const { failures, retryingAt } = (await admin.find(name)).health
  const reason =
    failures > 0 && retryingAt !== null
      ? `it failed ${failures} times; the next attempt is at ${utcText(retryingAt)}`
      : 'check that the registry is running, and its log'
  return `no attempt of ${visible(name)} within ${seconds} s: ${reason}`
}

function outcomeLines(
  name: string,
  { state, status, error, dueAt, attemptLog }: DeliveryDetail,
): string[] {
  const [last] = attemptLog
  const outcome = dueAt === null ? state : `next attempt at ${utcText(dueAt)}`
  const after = last === undefined ? '' : `, after ${last.milliseconds} ms`
  const body = last?.response?.body ?? ''
  return [
    `${name} ${answerText(status, error)}${after}: ${outcome}`,
    ...(body === '' ? [] : body.split('\n').map((line) => `  ${line}`)),
  ].map(visible)
}

async function showDelivery(
  admin: WebhookAdmin,
  name: string,
  event: string,
  json: boolean,
): Promise<number> {
  // Fails with a better message when the webhook itself is missing.
  await admin.find(name)
  const delivery = await admin.delivery(name, event)
  if (delivery === undefined) {
    throw new CommandError(`${visible(name)} has no delivery of event ${visible(event)}`)
  }
  printResult(json, delivery, deliveryLines(delivery))
  return STATUS.ok
}

async function redeliverAll(
  admin: WebhookAdmin,
  name: string,
  range: RedeliveryRange,
): Promise<number> {
  let total = 0
  let after: string | null = range.after
  for (let round = 0; after !== null && round < ROUNDS_MAX; round += 1) {
    const { deliveries, next } = await admin.redeliverRange(name, { ...range, after })
    total += deliveries
    after = next
  }
  return total
}

function redeliveredText(name: string, deliveries: number, state: WebhookState): string {
  const count = deliveries === 1 ? '1 event is' : `${deliveries} events are`
  if (state === 'active' || deliveries === 0) return `${count} sent again.`
  return `${name} is ${state}: ${count} sent again after rookery webhook update ${name} --resume.`
}

/** Parses a position in the deliveries: a cursor, or a time. Throws UsageError. */
function parsePosition(flag: string, text: string): string {
  if (CURSOR.test(text)) return text
  return parseSince(flag, text).toISOString()
}

import { setTimeout as wait } from 'node:timers/promises'
import {
  DELIVERY_STATES,
  type DeliveryDetail,
  type DeliveryState,
  type RedeliveryRange,
} from '../../webhooks/management/types.ts'
import type { WebhookState } from '../../webhooks/webhook.ts'
import { type Command, CommandError, parseArguments, STATUS, UsageError } from '../command.ts'
import { parseSince } from '../durations.ts'
import { printJson, printLines, visible } from '../printing.ts'
import { parseLimit } from '../registry/registry-api.ts'
import { parseWords } from '../registry/registry-commands.ts'
import type { WebhookAdmin } from './webhook-admin.ts'
import { answerText, deliveryLines, deliveryTable, secondText } from './webhook-text.ts'
import { DESK_OPTIONS, DESK_USAGE, withWebhookAdmin } from './with-webhook-admin.ts'

const JSON_OPTION = { json: { type: 'boolean', default: false } } as const
const OUTCOME_MILLISECONDS_MAX = 30_000
const LOOK_EVERY_MILLISECONDS = 250
const CURSOR = /^[0-9a-f]{8}-\d{1,15}$/
/** What `--failed` means: whatever did not arrive and is not tried any more. */
const FAILED: readonly DeliveryState[] = ['failed', 'expired', 'refused']
const ROUNDS_MAX = 100_000

const testCommand: Command = {
  words: ['webhook', 'test'],
  usage: `NAME ${DESK_USAGE} [--json]`,
  summary: 'Send webhook.ping to a webhook, wait up to 30 s, and say what it answered',
  run(args, environment) {
    const { values, positionals } = parseArguments(args, { ...DESK_OPTIONS, ...JSON_OPTION }, [
      'NAME',
    ])
    const name = positionals[0] ?? ''
    return withWebhookAdmin(values, environment, async (desk) => {
      const delivery = await outcomeOf(desk, name, await desk.test(name))
      if (values.json) printJson(delivery)
      else printLines(outcomeLines(name, delivery).map(visible))
      return delivery.state === 'delivered' ? STATUS.ok : STATUS.found
    })
  },
}

const deliveriesCommand: Command = {
  words: ['webhook', 'deliveries'],
  usage: `NAME [EVENT] [--state ${DELIVERY_STATES.join('|')}] [--limit N] ${DESK_USAGE} [--json]`,
  summary: 'List what was sent to a webhook, the newest first, or show all tries of one event',
  run(args, environment) {
    const { values, positionals } = parseWords(
      args,
      { state: { type: 'string' }, limit: { type: 'string' }, ...DESK_OPTIONS, ...JSON_OPTION },
      { least: 1, most: 2, expected: 'NAME, or NAME and EVENT' },
    )
    const [name = '', event] = positionals
    const state = parseState(values.state)
    const limit = parseLimit(values.limit)
    return withWebhookAdmin(values, environment, async (desk) => {
      if (event !== undefined) return showDelivery(desk, name, event, values.json)
      const deliveries = await desk.deliveries(name, state, limit)
      if (values.json) printJson({ deliveries })
      else printLines(deliveries.length === 0 ? ['There are none.'] : deliveryTable(deliveries))
      return STATUS.ok
    })
  },
}

const redeliverCommand: Command = {
  words: ['webhook', 'redeliver'],
  usage: `NAME EVENT | NAME --since CURSOR|TIME|12h [--until CURSOR|TIME] [--failed] ${DESK_USAGE} [--json]`,
  summary: 'Send one event again, or all since then; with --failed those that did not arrive',
  run(args, environment) {
    const { values, positionals } = parseWords(
      args,
      {
        since: { type: 'string' },
        until: { type: 'string' },
        failed: { type: 'boolean', default: false },
        ...DESK_OPTIONS,
        ...JSON_OPTION,
      },
      { least: 1, most: 2, expected: 'NAME and EVENT, or NAME and --since' },
    )
    const [name = '', event] = positionals
    const { since, until, failed } = values
    if ((event === undefined) === (since === undefined)) {
      throw new UsageError('say either an EVENT or --since')
    }
    if (since === undefined && (until !== undefined || failed)) {
      throw new UsageError('--until and --failed belong to --since')
    }
    const after = since === undefined ? undefined : placeOf('since', since)
    const range = {
      until: until === undefined ? undefined : placeOf('until', until),
      states: failed ? FAILED : undefined,
    }
    return withWebhookAdmin(values, environment, async (desk) => {
      if (event !== undefined) await desk.redeliver(name, event)
      const deliveries =
        after === undefined ? 1 : await redeliverAll(desk, name, { ...range, after })
      const { state } = await desk.find(name)
      if (values.json) printJson({ deliveries, state })
      else printLines([redeliveredText(name, deliveries, state)].map(visible))
      return STATUS.ok
    })
  },
}

/** What was sent to webhooks, and sending it again. */
export const webhookDeliveryCommands: readonly Command[] = [
  testCommand,
  deliveriesCommand,
  redeliverCommand,
]

/** The delivery once it was tried. Throws CommandError when that takes too long. */
async function outcomeOf(desk: WebhookAdmin, name: string, event: string): Promise<DeliveryDetail> {
  const end = Date.now() + OUTCOME_MILLISECONDS_MAX
  for (;;) {
    const delivery = await desk.delivery(name, event)
    if (delivery !== undefined && (delivery.attempts > 0 || delivery.state !== 'pending')) {
      return delivery
    }
    if (Date.now() > end) throw new CommandError(await lateText(desk, name))
    await wait(LOOK_EVERY_MILLISECONDS)
  }
}

async function lateText(desk: WebhookAdmin, name: string): Promise<string> {
  const seconds = OUTCOME_MILLISECONDS_MAX / 1000
  const { failures, retryingAt } = (await desk.find(name)).health
  const why =
    failures > 0 && retryingAt !== null
      ? `it failed ${failures} times and is left alone until ${retryingAt}`
      : 'is the registry running, and what does its log say?'
  return `${visible(name)} was not tried within ${seconds} s: ${why}`
}

function outcomeLines(
  name: string,
  { state, status, error, dueAt, attemptLog }: DeliveryDetail,
): string[] {
  const [last] = attemptLog
  const outcome = dueAt === null ? state : `it is tried again at ${secondText(dueAt)}`
  const after = last === undefined ? '' : `, after ${last.milliseconds} ms`
  const body = last?.response?.body ?? ''
  return [
    `${name} ${answerText(status, error)}${after}: ${outcome}`,
    ...(body === '' ? [] : body.split('\n').map((line) => `  ${line}`)),
  ]
}

async function showDelivery(
  desk: WebhookAdmin,
  name: string,
  event: string,
  json: boolean,
): Promise<number> {
  // Else a webhook that is not there would be told as an event that is not.
  await desk.find(name)
  const delivery = await desk.delivery(name, event)
  if (delivery === undefined) {
    throw new CommandError(`${visible(name)} has no delivery of event ${visible(event)}`)
  }
  if (json) printJson(delivery)
  else printLines(deliveryLines(delivery).map(visible))
  return STATUS.ok
}

async function redeliverAll(
  desk: WebhookAdmin,
  name: string,
  range: RedeliveryRange,
): Promise<number> {
  let total = 0
  let after: string | null = range.after
  for (let round = 0; after !== null && round < ROUNDS_MAX; round += 1) {
    const { deliveries, next } = await desk.redeliverRange(name, { ...range, after })
    total += deliveries
    after = next
  }
  return total
}

function redeliveredText(name: string, deliveries: number, state: WebhookState): string {
  const are = deliveries === 1 ? 'is' : 'are'
  if (state === 'active' || deliveries === 0) return `${deliveries} ${are} sent again.`
  return `${name} is ${state}: ${deliveries} ${are} sent again after rookery webhook update ${name} --resume.`
}

function placeOf(name: 'since' | 'until', text: string): string {
  if (CURSOR.test(text)) return text
  return parseSince(name, text).toISOString()
}

function parseState(text: string | undefined): DeliveryState | undefined {
  const state = DELIVERY_STATES.find((one) => one === text)
  if (text === undefined || state !== undefined) return state
  throw new UsageError(`--state must be ${DELIVERY_STATES.join(', ')}, not "${text}"`)
}

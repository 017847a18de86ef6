import { PENDING_COUNTED_MAX } from '../../db/webhooks/webhooks.ts'
import type {
  Delivery,
  DeliveryAttempt,
  DeliveryDetail,
  WebhookView,
} from '../../webhooks/management/types.ts'
import { durationText } from '../durations.ts'
import { columns } from '../printing.ts'

/** A time of the API, to the second. */
export function secondText(time: string): string {
  return `${time.slice(0, 19)}Z`
}

/** Whom a webhook tells what, and how that goes, line by line. */
export function webhookLines(webhook: WebhookView): string[] {
  const rows: readonly (readonly [label: string, text: string])[] = [
    ['webhook', webhook.name],
    ['tells', webhook.url],
    ['of', `${webhook.types.join(', ')} in ${webhook.repositories.join(', ')}${tagText(webhook)}`],
    ['sends', sentText(webhook)],
    ['signed by', signedText(webhook)],
    ...keyRows(webhook),
    ['owner', `${webhook.owner}, whose right to pull decides what is sent`],
    ...(webhook.description === null
      ? []
      : [['description', oneLine(webhook.description)] as const]),
    ['state', stateText(webhook)],
    ['health', healthText(webhook)],
  ]
  return rows.map(([label, text]) => `${label.padEnd(LABEL_WIDTH)}  ${text}`)
}

const LABEL_WIDTH = 11

function keyRows({ authentication: { publicKey } }: WebhookView): (readonly [string, string])[] {
  return publicKey === null ? [] : [['public key', publicKey]]
}

function tagText({ tags }: WebhookView): string {
  return tags === null ? '' : `, of tags ${tags.join(', ')} alone`
}

function sentText({
  format,
  headers,
  maxAgeSeconds,
  coalesceTags,
  authentication,
}: WebhookView): string {
  const { authorization, webhookSecret, oidcAudience } = authentication
  const named = [
    ...(authorization ? ['Authorization'] : []),
    ...(oidcAudience === null ? [] : [`a token for ${oidcAudience}`]),
    ...(webhookSecret ? ['X-Webhook-Secret'] : []),
    ...Object.keys(headers),
  ]
  return [
    format === 'docker' ? 'notifications as Docker registries do' : 'CloudEvents',
    ...(named.length === 0 ? [] : [`with ${named.join(', ')}`]),
    ...(maxAgeSeconds === null ? [] : [`nothing older than ${durationText(maxAgeSeconds)}`]),
    ...(coalesceTags ? ['of updates of one tag that wait, only the last'] : []),
  ].join('; ')
}

function signedText({
  authentication: { signatures, earlierUntil, readable },
}: WebhookView): string {
  if (!readable) {
    return 'nothing: its secrets were encrypted with another master key; rookery webhook rotate-secret makes another'
  }
  const names = ['v1', ...signatures].join(', ')
  if (earlierUntil.length === 0) return names
  return `${names}; also by earlier secrets, until ${earlierUntil.map(secondText).join(', ')}`
}

const REASONS: Readonly<Record<string, string>> = {
  gone: 'it answered 410 Gone',
  failing: 'it failed for days without one success',
  owner: 'the credential or trust policy that made it is no more',
}

function stateText({ name, state, disabledReason }: WebhookView): string {
  const again = `rookery webhook update ${name} --resume`
  if (state === 'paused') return `paused: what happens is kept, and sent after ${again}`
  if (state === 'active') return 'active'
  const why = disabledReason === null ? '' : `, because ${reasonText(disabledReason)}`
  return `disabled${why}: ${again} brings it back`
}

/** Of `gone: …` and the like, what the word means and what was said. */
function reasonText(reason: string): string {
  const [, word = reason, detail = ''] = /^(\w+): (.+)$/s.exec(reason) ?? []
  const meaning = REASONS[word]
  if (meaning === undefined) return oneLine(reason)
  return detail === '' ? meaning : `${meaning} (${oneLine(detail)})`
}

function healthText({ health }: WebhookView): string {
  const { failures, failingSince, retryingAt, succeededAt, waiting } = health
  const last = succeededAt === null ? 'it never took one' : `took one at ${secondText(succeededAt)}`
  return [
    failures === 0 ? last : `failed ${failures} times, since ${secondText(failingSince ?? '')}`,
    ...(failures === 0 ? [] : [last]),
    ...(retryingAt === null || failures === 0
      ? []
      : [`left alone until ${secondText(retryingAt)}`]),
    waitingText(waiting),
  ].join('; ')
}

function waitingText(waiting: number): string {
  if (waiting >= PENDING_COUNTED_MAX) return `${PENDING_COUNTED_MAX} or more wait`
  return waiting === 0 ? 'nothing waits' : `${waiting} wait`
}

const WEBHOOK_HEADINGS = ['NAME', 'STATE', 'HEALTH', 'URL', 'REPOSITORIES', 'TAGS', 'OWNER']

/** Webhooks, one a line. */
export function webhookTable(webhooks: readonly WebhookView[]): string[] {
  const rows = webhooks.map((one) => [
    one.name,
    one.state,
    one.health.failures > 0 ? 'fails' : one.health.succeededAt === null ? 'new' : 'works',
    one.url,
    one.repositories.join(','),
    one.tags?.join(',') ?? 'any',
    one.owner,
  ])
  return columns(WEBHOOK_HEADINGS, rows)
}

const DELIVERY_HEADINGS = ['TIME', 'EVENT', 'TYPE', 'SUBJECT', 'STATE', 'TRIES', 'LAST']

/** Deliveries, one a line. */
export function deliveryTable(deliveries: readonly Delivery[]): string[] {
  const rows = deliveries.map((one) => [
    secondText(one.time),
    one.event,
    one.type,
    one.subject,
    one.state,
    String(one.attempts),
    lastText(one),
  ])
  return columns(DELIVERY_HEADINGS, rows)
}

/** One delivery with all its tries. */
export function deliveryLines(delivery: DeliveryDetail): string[] {
  const { event, type, subject, time, state, dueAt, attemptLog } = delivery
  const next = dueAt === null ? '' : `; next try at ${secondText(dueAt)}`
  return [
    `${event}  ${type} of ${subject} at ${secondText(time)}`,
    `${state}${next}`,
    ...attemptLog.flatMap((one) => ['', ...attemptLines(one)]),
    '',
    delivery.body,
  ]
}

function attemptLines({
  at,
  milliseconds,
  status,
  error,
  request,
  response,
}: DeliveryAttempt): string[] {
  return [
    `${secondText(at)}  ${answerText(status, error)}, after ${milliseconds} ms`,
    ...headerLines('>', request.headers),
    ...(response === null ? [] : headerLines('<', response.headers)),
    ...(response === null || response.body === ''
      ? []
      : response.body.split('\n').map((line) => `< ${line}`)),
  ]
}

function headerLines(mark: string, headers: Readonly<Record<string, string>>): string[] {
  return Object.entries(headers).map(([name, value]) => `${mark} ${name}: ${value}`)
}

/** What came of a try, in words. */
export function answerText(status: number | null, error: string | null): string {
  if (status !== null && error === null) return `answered ${status}`
  if (status !== null) return `answered ${status}: ${error}`
  return error ?? 'no answer'
}

function lastText({ status, error }: Delivery): string {
  if (status !== null) return String(status)
  return error ?? '-'
}

function oneLine(text: string): string {
  return text.replaceAll('\n', ' ')
}

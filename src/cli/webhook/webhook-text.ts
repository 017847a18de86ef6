import { PENDING_COUNTED_MAX } from '../../db/webhooks/webhooks.ts'
import { visibleJson } from '../../oci/hidden-characters.ts'
import type {
  CreatedWebhook,
  Delivery,
  DeliveryAttempt,
  DeliveryDetail,
  WebhookView,
} from '../../webhooks/management/types.ts'
import { durationText } from '../durations.ts'
import { printTable, utcText, visible } from '../printing.ts'

/** The settings, health and state of a webhook as lines of text. */
export function webhookLines(webhook: WebhookView): string[] {
  const rows: readonly (readonly [label: string, text: string])[] = [
    ['webhook', webhook.name],
    ['URL', webhook.url],
    [
      'events',
      `${webhook.types.join(', ')} in ${webhook.repositories.join(', ')}${tagText(webhook)}`,
    ],
    ['requests', requestText(webhook)],
    ['signatures', signatureText(webhook)],
    ...keyRows(webhook),
    ['owner', `${webhook.owner}; events of repositories that it may pull are sent`],
    ...(webhook.description === null
      ? []
      : [['description', oneLine(webhook.description)] as const]),
    ['state', stateText(webhook)],
    ['health', healthText(webhook)],
  ]
  return rows.map(([label, text]) => visible(`${label.padEnd(LABEL_WIDTH)}  ${text}`))
}

const LABEL_WIDTH = 11

function keyRows({ authentication: { publicKey } }: WebhookView): (readonly [string, string])[] {
  return publicKey === null ? [] : [['public key', publicKey]]
}

function tagText({ tags }: WebhookView): string {
  return tags === null ? '' : `, tags ${tags.join(', ')}`
}

function requestText({
  format,
  body,
  headers,
  maxAgeSeconds,
  coalesceTags,
  authentication,
}: WebhookView): string {
  const { authorization, webhookSecret, oidcAudience, oidcSubject } = authentication
  const named = [
    ...(authorization ? ['Authorization'] : []),
    ...(oidcAudience === null ? [] : [`a token of ${oidcSubject} for ${oidcAudience}`]),
    ...(webhookSecret ? ['X-Webhook-Secret'] : []),
    ...Object.keys(headers),
  ]
  return [
    contentText(format, body),
    ...(named.length === 0 ? [] : [`with ${named.join(', ')}`]),
    ...(maxAgeSeconds === null ? [] : [`no events older than ${durationText(maxAgeSeconds)}`]),
    ...(coalesceTags ? ['only the last of several pending updates of a tag'] : []),
  ].join('; ')
}

function contentText(format: WebhookView['format'], body: unknown): string {
  if (body !== null) return visibleJson(body)
  const texts: Readonly<Record<WebhookView['format'], string>> = {
    cloudevents: 'CloudEvents',
    docker: 'notifications of Docker registries',
    cdevents: 'CDEvents 0.4',
    'cdevents-0.5': 'CDEvents 0.5',
  }
  return texts[format]
}

function signatureText({
  authentication: { signatures, earlierUntil, readable },
}: WebhookView): string {
  if (!readable) {
    return 'none: the secret was encrypted with another master key; create a new one with rookery webhook rotate-secret'
  }
  const names = ['v1', ...signatures].join(', ')
  if (earlierUntil.length === 0) return names
  return `${names}; also with earlier secrets until ${earlierUntil.map(utcText).join(', ')}`
}

const REASONS: Readonly<Record<string, string>> = {
  gone: 'it answered 410 Gone',
  failing: 'every attempt failed for days',
  owner: 'the credential or trust policy that created it is revoked, expired or removed',
}

function stateText({ name, state, disabledReason }: WebhookView): string {
  const resume = `rookery webhook update ${name} --resume`
  if (state === 'paused') return `paused: events are stored, and sent after ${resume}`
  if (state === 'active') return 'active'
  const reason = disabledReason === null ? '' : `, because ${reasonText(disabledReason)}`
  return `disabled${reason}: ${resume} enables it again`
}

/** Explains a reason such as `gone: …`, with its detail. */
function reasonText(reason: string): string {
  const [, word = reason, detail = ''] = /^(\w+): (.+)$/s.exec(reason) ?? []
  const meaning = REASONS[word]
  if (meaning === undefined) return oneLine(reason)
  return detail === '' ? meaning : `${meaning} (${oneLine(detail)})`
}

function healthText({ health }: WebhookView): string {
  const { failures, failingSince, retryingAt, succeededAt, waiting } = health
  const last = succeededAt === null ? 'no delivery yet' : `last delivery at ${utcText(succeededAt)}`
  return [
    failures === 0 ? last : `failed ${failures} times since ${utcText(failingSince ?? '')}`,
    ...(failures === 0 ? [] : [last]),
    ...(retryingAt === null || failures === 0 ? [] : [`next attempt at ${utcText(retryingAt)}`]),
    waitingText(waiting),
  ].join('; ')
}

function waitingText(waiting: number): string {
  if (waiting >= PENDING_COUNTED_MAX) return `${PENDING_COUNTED_MAX} or more pending`
  return `${waiting} pending`
}

const WEBHOOK_HEADINGS = ['NAME', 'STATE', 'HEALTH', 'URL', 'REPOSITORIES', 'TAGS', 'OWNER']

/** Prints a table of webhooks. */
export function printWebhooks(webhooks: readonly WebhookView[]): void {
  const rows = webhooks.map((one) => [
    one.name,
    one.state,
    one.health.failures > 0 ? 'failing' : one.health.succeededAt === null ? 'new' : 'ok',
    one.url,
    one.repositories.join(','),
    one.tags?.join(',') ?? 'any',
    one.owner,
  ])
  printTable(WEBHOOK_HEADINGS, rows)
}

const DELIVERY_HEADINGS = ['TIME', 'EVENT', 'TYPE', 'SUBJECT', 'STATE', 'ATTEMPTS', 'ANSWER']

/** Prints a table of deliveries. */
export function printDeliveries(deliveries: readonly Delivery[]): void {
  const rows = deliveries.map((one) => [
    utcText(one.time),
    one.event,
    one.type,
    one.subject,
    one.state,
    String(one.attempts),
    lastText(one),
  ])
  printTable(DELIVERY_HEADINGS, rows)
}

/** A delivery with all its attempts as lines of text. */
export function deliveryLines(delivery: DeliveryDetail): string[] {
  const { event, type, subject, time, state, dueAt, attemptLog } = delivery
  const next = dueAt === null ? '' : `; next attempt at ${utcText(dueAt)}`
  return [
    `${event}  ${type} of ${subject} at ${utcText(time)}`,
    `${state}${next}`,
    ...attemptLog.flatMap((one) => ['', ...attemptLines(one)]),
    '',
    delivery.body,
  ].map(visible)
}

function attemptLines({
  at,
  milliseconds,
  status,
  error,
  request,
  response,
  hidden,
}: DeliveryAttempt): string[] {
  return [
    `${utcText(at)}  ${answerText(status, error)}, after ${milliseconds} ms`,
    ...headerLines('>', request.headers),
    ...(hidden && status !== null ? ['only administrators see responses of internal servers'] : []),
    ...(response === null ? [] : headerLines('<', response.headers)),
    ...(response === null || response.body === ''
      ? []
      : response.body.split('\n').map((line) => `< ${line}`)),
  ]
}

function headerLines(mark: string, headers: Readonly<Record<string, string>>): string[] {
  return Object.entries(headers).map(([name, value]) => `${mark} ${name}: ${value}`)
}

/** The outcome of an attempt in words. */
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

/** A created webhook and its signing secret as lines of text. */
export function createdLines(created: CreatedWebhook): string[] {
  return [
    ...webhookLines(created),
    '',
    `secret       ${created.secret}`,
    '',
    'The secret is not shown again. Receivers verify signatures with it.',
  ]
}

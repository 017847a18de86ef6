import { parseRetryAfter } from '../../async/retry-after.ts'
import type { IdentityTokenMinter } from '../../auth/identity-token-minter.ts'
import type { AttemptRow } from '../../db/webhooks/deliveries.ts'
import type { ClaimedDelivery } from '../../db/webhooks/delivery-claims.ts'
import { renderBodyTemplate } from '../../events/body-template.ts'
import { isCdEventsFormat, renderCdEvent } from '../../events/cd-event.ts'
import { CLOUD_EVENT_TYPE } from '../../events/cloud-event.ts'
import { DOCKER_EVENTS_TYPE, renderDockerEnvelope } from '../../events/docker-envelope.ts'
import { type Glob, matchesAnyGlob } from '../../oci/glob.ts'
import {
  type GuardedClient,
  OutgoingFailedError,
  type OutgoingResponse,
} from '../../outgoing/client.ts'
import { OutgoingRefusedError } from '../../outgoing/guard.ts'
import { eventBodyFor } from '../event-access.ts'
import { signedHeaders } from '../signature.ts'
import type { Webhook } from '../webhook.ts'

export type SendOptions = {
  /** Patterns of the audiences that webhooks of other owners than administrators may name. */
  readonly audiences: readonly Glob[]
  readonly client: GuardedClient
  /** Reaches public addresses only. */
  readonly publicClient: GuardedClient
  readonly identityTokens: IdentityTokenMinter
  readonly userAgent: string
}

/** The result of one attempt. `error` is one line, and null when the event was delivered. */
export type AttemptResult = AttemptRow & {
  readonly outcome: 'delivered' | 'gone' | 'failed'
  readonly retryAfterSeconds: number | undefined
}

/** The part of a response that is logged. */
const LOGGED_BYTES_MAX = 4096
const ERROR_LENGTH_MAX = 500
const GONE = 410
const JSON_TYPE = 'application/json'

/** Sends an event once. Failures of the receiver, the network and the guard are results, not exceptions. */
export async function send(
  { identityTokens, userAgent, audiences, ...clients }: SendOptions,
  webhook: Webhook,
  delivery: ClaimedDelivery,
  signal: AbortSignal,
): Promise<AttemptResult> {
  const at = new Date()
  const started = performance.now()
  let headers: Record<string, string> = {}
  const done = (
    outcome: Pick<AttemptResult, 'outcome' | 'error' | 'isInternal'>,
    response: OutgoingResponse | undefined,
  ): AttemptResult => ({
    ...outcome,
    at,
    milliseconds: Math.round(performance.now() - started),
    status: response?.status ?? null,
    requestHeaders: withoutSecrets(headers, webhook),
    responseHeaders: response === undefined ? null : boundedHeaders(response.headers),
    responseBody: response === undefined ? null : bodyText(response),
    retryAfterSeconds: response && parseRetryAfter(response.headers['retry-after'], new Date()),
  })
  try {
    const { type, body } = contentOf(webhook, eventBodyFor(webhook.owner, delivery))
    const identityToken = await identityTokenOf(webhook, identityTokens, audiences)
    headers = {
      ...webhook.headers,
      'content-type': type,
      'user-agent': userAgent,
      ...signedHeaders(webhook, { id: delivery.eventId, timestamp: at, body, identityToken }),
    }
    const response = await clientFor(webhook, clients).request(webhook.url, {
      method: 'POST',
      headers,
      body,
      bytesMax: LOGGED_BYTES_MAX,
      oversize: 'truncate',
      pool: String(webhook.id),
      signal,
    })
    const { isInternal } = response
    return done({ ...outcomeOf(response), isInternal }, response)
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    const isOutgoing = error instanceof OutgoingRefusedError || error instanceof OutgoingFailedError
    const isInternal = isOutgoing && error.isInternal
    return done({ outcome: 'failed', error: oneLine(message), isInternal }, undefined)
  }
}

/** Returns the content that a webhook sends for a stored event, and its media type. */
function contentOf(
  { format, body: template }: Webhook,
  event: string,
): { readonly type: string; readonly body: string } {
  if (template !== null) return { type: JSON_TYPE, body: renderBodyTemplate(template, event) }
  if (isCdEventsFormat(format)) {
    const body = renderCdEvent(event, format)
    if (body === undefined) throw new Error('there is no CDEvent of this event')
    return { type: JSON_TYPE, body }
  }
  return format === 'docker'
    ? { type: DOCKER_EVENTS_TYPE, body: renderDockerEnvelope(event) }
    : { type: CLOUD_EVENT_TYPE, body: event }
}

/** Only administrators decide on the content of requests to servers in internal networks. */
function clientFor(
  { body, owner }: Webhook,
  { client, publicClient }: Pick<SendOptions, 'client' | 'publicClient'>,
): GuardedClient {
  return body === null || owner.grants === null ? client : publicClient
}

async function identityTokenOf(
  { oidcAudience, identity, name, owner }: Webhook,
  identityTokens: IdentityTokenMinter,
  audiences: readonly Glob[],
): Promise<string | undefined> {
  if (oidcAudience === null) return undefined
  // The list may have changed after the webhook was written.
  if (owner.grants !== null && !matchesAnyGlob(audiences, oidcAudience)) {
    throw new Error('the audience of the identity token is not in ROOKERY_WEBHOOK_AUDIENCES')
  }
  const claims = { webhook: name, owner: owner.origin ?? OPERATOR_OWNER }
  return identityTokens.mint(oidcAudience, `webhook:${identity}`, claims)
}

/** The owner in identity tokens of webhooks that the operator's commands or the first administrator wrote. */
const OPERATOR_OWNER = 'operator'

function outcomeOf({ status }: OutgoingResponse): Pick<AttemptResult, 'outcome' | 'error'> {
  if (status >= 200 && status < 300) return { outcome: 'delivered', error: null }
  if (status === GONE) {
    return { outcome: 'gone', error: 'the receiver answered 410, which ends the webhook' }
  }
  const hint = status >= 300 && status < 400 ? ': redirects are not followed' : ''
  return { outcome: 'failed', error: `the receiver answered ${status}${hint}` }
}

const SIGNATURE_HEADERS = ['webhook-signature', 'x-hub-signature-256', 'x-signature']

/** Masks everything that a reader of the log could send again. Custom headers may be secrets. */
function withoutSecrets(
  headers: Readonly<Record<string, string>>,
  { headers: custom }: Webhook,
): Record<string, string> {
  const shown = Object.entries(headers).map(([name, value]): [string, string] => {
    if (SIGNATURE_HEADERS.includes(name)) return [name, value.replace(/([,=])[^\s,]+/g, '$1…')]
    // The scheme, such as Bearer, stays.
    if (name === 'authorization') return [name, value.replace(/^(\w+ )?.*$/s, '$1…')]
    return [name, name === 'x-webhook-secret' || Object.hasOwn(custom, name) ? '…' : value]
  })
  return Object.fromEntries(shown)
}

function boundedHeaders(headers: OutgoingResponse['headers']): Record<string, string> {
  let left = LOGGED_BYTES_MAX
  const kept: [string, string][] = []
  for (const [name, value] of Object.entries(headers)) {
    const text = storable([value].flat().join(', '))
    left -= name.length + text.length
    if (left < 0) break
    kept.push([storable(name), text])
  }
  return Object.fromEntries(kept)
}

function bodyText({ body }: OutgoingResponse): string {
  return storable(body.subarray(0, LOGGED_BYTES_MAX).toString('utf8'))
}

function oneLine(text: string): string {
  return storable(text.slice(0, ERROR_LENGTH_MAX).replace(/\s+/g, ' ').trim())
}

/** Replaces NUL and lone surrogates, which Postgres cannot store as text. */
function storable(text: string): string {
  return Buffer.from(text.replaceAll('\0', '\uFFFD')).toString()
}

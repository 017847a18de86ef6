import type { IdentityTokenMinter } from '../../auth/identity-token-minter.ts'
import type { ClaimedDelivery } from '../../db/webhooks/delivery-claims.ts'
import { CLOUD_EVENT_TYPE } from '../../events/cloud-event.ts'
import { DOCKER_EVENTS_TYPE, renderDockerEnvelope } from '../../events/docker-envelope.ts'
import type { GuardedClient, OutgoingResponse } from '../../outgoing/client.ts'
import { signedHeaders } from '../signature.ts'
import type { Webhook } from '../webhook.ts'
import { parseRetryAfter } from './retry-schedule.ts'

export type SendOptions = {
  readonly client: GuardedClient
  readonly identityTokens: IdentityTokenMinter
  readonly userAgent: string
}

/** What came of one try. */
export type AttemptResult = {
  readonly outcome: 'delivered' | 'gone' | 'failed'
  readonly at: Date
  readonly milliseconds: number
  /** Null when nothing came back. */
  readonly status: number | null
  /** In one line; null when it was delivered. */
  readonly error: string | null
  /** What was sent, without secrets. */
  readonly requestHeaders: Readonly<Record<string, string>>
  readonly responseHeaders: Readonly<Record<string, string>> | null
  readonly responseBody: string | null
  readonly retryAfterSeconds: number | undefined
}

/** As much of an answer is kept. */
const LOGGED_BYTES_MAX = 4096
const ERROR_LENGTH_MAX = 500
const GONE = 410

/** Sends an event once. Never throws for what the receiver, the network or the guard do. */
export async function send(
  { client, identityTokens, userAgent }: SendOptions,
  endpoint: Webhook,
  delivery: ClaimedDelivery,
  signal: AbortSignal,
): Promise<AttemptResult> {
  const at = new Date()
  const started = performance.now()
  let headers: Record<string, string> = {}
  const done = (
    rest: Pick<AttemptResult, 'outcome' | 'error'>,
    answer: OutgoingResponse | undefined,
  ): AttemptResult => ({
    ...rest,
    at,
    milliseconds: Math.round(performance.now() - started),
    status: answer?.status ?? null,
    requestHeaders: withoutSecrets(headers, endpoint),
    responseHeaders: answer === undefined ? null : boundedHeaders(answer.headers),
    responseBody: answer === undefined ? null : bodyText(answer),
    retryAfterSeconds: answer && parseRetryAfter(answer.headers['retry-after'], new Date()),
  })
  try {
    const isDocker = endpoint.format === 'docker'
    const body = isDocker ? renderDockerEnvelope(delivery.body) : delivery.body
    const { oidcAudience, name } = endpoint
    const identityToken =
      oidcAudience === null ? undefined : await identityTokens.mint(oidcAudience, `webhook:${name}`)
    headers = {
      ...endpoint.headers,
      'content-type': isDocker ? DOCKER_EVENTS_TYPE : CLOUD_EVENT_TYPE,
      'user-agent': userAgent,
      ...signedHeaders(endpoint, { id: delivery.eventId, timestamp: at, body, identityToken }),
    }
    const answer = await client.request(endpoint.url, {
      method: 'POST',
      headers,
      body,
      bytesMax: LOGGED_BYTES_MAX,
      oversize: 'truncate',
      pool: String(endpoint.id),
      signal,
    })
    return done(judged(answer), answer)
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    return done({ outcome: 'failed', error: oneLine(message) }, undefined)
  }
}

function judged({ status }: OutgoingResponse): Pick<AttemptResult, 'outcome' | 'error'> {
  if (status >= 200 && status < 300) return { outcome: 'delivered', error: null }
  if (status === GONE) {
    return { outcome: 'gone', error: 'the receiver answered 410: it wants nothing any more' }
  }
  const hint = status >= 300 && status < 400 ? ': redirects are not followed' : ''
  return { outcome: 'failed', error: `the receiver answered ${status}${hint}` }
}

const SIGNATURE_HEADERS = ['webhook-signature', 'x-hub-signature-256', 'x-signature']

/** Who sees a log must not be able to send what it shows. An endpoint's own headers may be secrets. */
function withoutSecrets(
  headers: Readonly<Record<string, string>>,
  { headers: own }: Webhook,
): Record<string, string> {
  const shown = Object.entries(headers).map(([name, value]): [string, string] => {
    if (SIGNATURE_HEADERS.includes(name)) return [name, value.replace(/([,=])[^\s,]+/g, '$1…')]
    // The scheme, such as Bearer.
    if (name === 'authorization') return [name, value.replace(/^(\w+ )?.*$/s, '$1…')]
    return [name, name === 'x-webhook-secret' || Object.hasOwn(own, name) ? '…' : value]
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

/** Postgres takes no NUL in text, and no half of a pair. */
function storable(text: string): string {
  return Buffer.from(text.replaceAll('\0', '\uFFFD')).toString()
}

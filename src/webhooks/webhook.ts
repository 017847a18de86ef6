import type { Grant } from '../auth/access.ts'
import type { EventFilter } from '../events/filter.ts'

/** Beside `v1` of Standard Webhooks, which every delivery has. */
export const SIGNATURES = ['v1a', 'x-hub-signature-256', 'x-signature'] as const
export type Signature = (typeof SIGNATURES)[number]

/** `docker`: what the distribution project calls notifications. */
export const WEBHOOK_FORMATS = ['cloudevents', 'docker'] as const
export type WebhookFormat = (typeof WEBHOOK_FORMATS)[number]

/** `disabled`: the registry gave up, and says why. Paused and disabled ones keep what they missed. */
export type WebhookState = 'active' | 'paused' | 'disabled'

/** What nobody is ever shown again. */
export type WebhookSecrets = {
  /** `whsec_…`: the first is the present one; each signs until `until` (RFC 3339), null: no end. */
  readonly signing: readonly { readonly secret: string; readonly until: string | null }[]
  /** `whsk_…`: base64 of seed and public key (Standard Webhooks). Null without `v1a`. */
  readonly ed25519: string | null
  /** Value of a static Authorization header. */
  readonly authorization: string | null
  /** Value of X-Webhook-Secret. */
  readonly webhookSecret: string | null
}

/** Who vouches for an endpoint. */
export type WebhookOwner = {
  /** What its right comes from, such as `credential:7`; null: the operator. */
  readonly origin: string | null
  /** What it could do when it wrote the endpoint; null: everything. */
  readonly grants: readonly Grant[] | null
}

/** Somebody who is told. */
export type Webhook = {
  readonly id: number
  readonly name: string
  readonly url: string
  readonly filter: EventFilter
  readonly format: WebhookFormat
  readonly signatures: readonly Signature[]
  readonly oidcAudience: string | null
  readonly headers: Readonly<Record<string, string>>
  readonly maxAgeSeconds: number | null
  /** True: of updates of one tag that wait, only the last is sent. */
  readonly coalesceTags: boolean
  readonly state: WebhookState
  readonly owner: WebhookOwner
  /** Undefined when they were encrypted with another master key. */
  readonly secrets: WebhookSecrets | undefined
}

import type { Grant } from '../auth/access.ts'
import type { EventFilter } from '../events/filter.ts'

/** Signatures in addition to `v1` of Standard Webhooks, which every delivery has. */
export const SIGNATURES = ['v1a', 'x-hub-signature-256', 'x-signature'] as const
export type Signature = (typeof SIGNATURES)[number]

/** `docker`: the notifications of the distribution project. */
export const WEBHOOK_FORMATS = ['cloudevents', 'docker', 'cdevents', 'cdevents-0.5'] as const
export type WebhookFormat = (typeof WEBHOOK_FORMATS)[number]

/** `disabled`: the registry stopped sending. Paused and disabled webhooks keep their pending deliveries. */
export type WebhookState = 'active' | 'paused' | 'disabled'

/** The secrets of a webhook. No API response contains them, except when one is created or rotated. */
export type WebhookSecrets = {
  /** `whsec_…`, the current secret first. Each signs until `until` (RFC 3339); null: no end. */
  readonly signing: readonly { readonly secret: string; readonly until: string | null }[]
  /** `whsk_…`: base64 of seed and public key (Standard Webhooks). Null without `v1a`. */
  readonly ed25519: string | null
  /** Value of a static Authorization header. */
  readonly authorization: string | null
  /** Value of X-Webhook-Secret. */
  readonly webhookSecret: string | null
}

/** The credential, trust policy or administrator that a webhook belongs to. */
export type WebhookOwner = {
  /** The source of its permissions, such as `credential:7`; null: the operator. */
  readonly origin: string | null
  /** Its permissions when it wrote the webhook; null: everything. */
  readonly grants: readonly Grant[] | null
}

/** A webhook as the delivery worker sees it. */
export type Webhook = {
  readonly id: number
  readonly name: string
  /** A UUID: the subject of its identity tokens. */
  readonly identity: string
  readonly url: string
  readonly filter: EventFilter
  readonly format: WebhookFormat
  /** The template of the body as JSON; null: the event is sent in the format. */
  readonly body: string | null
  readonly signatures: readonly Signature[]
  readonly oidcAudience: string | null
  readonly headers: Readonly<Record<string, string>>
  readonly maxAgeSeconds: number | null
  /** True: only the latest of several pending updates of one tag is sent. */
  readonly coalesceTags: boolean
  readonly state: WebhookState
  readonly owner: WebhookOwner
  /** Undefined when they were encrypted with another master key. */
  readonly secrets: WebhookSecrets | undefined
}

import type { Grant } from '../../auth/access.ts'
import type { Actor } from '../../db/auth/audit.ts'
import { DELIVERY_STATES, type DeliveryState } from '../../db/webhooks/deliveries.ts'
import type { EventType } from '../../events/event.ts'
import type { Signature, WebhookFormat, WebhookState } from '../webhook.ts'

/** The authenticated caller of a management operation. */
export type Requester = {
  readonly actor: Actor
  /** Null: everything. */
  readonly grants: readonly Grant[] | null
}

/** A change of how receivers authenticate the registry: null resets a field, undefined leaves it unchanged. */
export type AuthenticationChange = {
  readonly signatures: readonly string[] | null | undefined
  /** Value of a static Authorization header. */
  readonly authorization: string | null | undefined
  /** Value of X-Webhook-Secret. */
  readonly webhookSecret: string | null | undefined
  /** The audience of a token that the registry signs and sends. */
  readonly oidcAudience: string | null | undefined
}

/** A change of a webhook: null resets a field to its default, undefined leaves it unchanged. */
export type WebhookChange = {
  readonly url: string | undefined
  readonly repositories: readonly string[] | undefined
  readonly tags: readonly string[] | null | undefined
  readonly types: readonly string[] | null | undefined
  readonly format: string | null | undefined
  /** A JSON object, the template of the body. */
  readonly body: unknown
  readonly authentication: AuthenticationChange
  readonly headers: Readonly<Record<string, string>> | null | undefined
  readonly description: string | null | undefined
  readonly maxAgeSeconds: number | null | undefined
  readonly coalesceTags: boolean | null | undefined
  readonly paused: boolean | undefined
}

/** The settings of a new webhook. */
export type WebhookRequest = WebhookChange & {
  readonly name: string
  readonly url: string
  readonly repositories: readonly string[]
  /** `whsec_…`; undefined: one is generated. */
  readonly secret: string | undefined
}

/** The health of a webhook's deliveries. */
export type WebhookHealth = {
  /** Consecutive failed attempts. */
  readonly failures: number
  readonly failingSince: string | null
  /** No delivery is attempted before this time. */
  readonly retryingAt: string | null
  readonly succeededAt: string | null
  readonly failedAt: string | null
  /** Pending deliveries; 100 means 100 or more. */
  readonly waiting: number
}

/** A webhook in an API response: without its secrets. Times are RFC 3339. */
export type WebhookView = {
  readonly name: string
  readonly url: string
  readonly repositories: readonly string[]
  /** Null: events with any tag and without a tag. */
  readonly tags: readonly string[] | null
  readonly types: readonly EventType[]
  readonly format: WebhookFormat
  /** The template of the body, a JSON object; null: the event is sent in the format. */
  readonly body: unknown
  readonly authentication: {
    readonly signatures: readonly Signature[]
    /** `whpk_…`, which verifies `v1a`. */
    readonly publicKey: string | null
    /** True: the header is set. Its value is not returned. */
    readonly authorization: boolean
    readonly webhookSecret: boolean
    readonly oidcAudience: string | null
    /** `sub` of its identity tokens: a new URL and a new webhook of the same name have another one. */
    readonly oidcSubject: string
    /** When each earlier secret stops signing. */
    readonly earlierUntil: readonly string[]
    /** False: the secrets were encrypted with another master key, and nothing can be sent. */
    readonly readable: boolean
  }
  readonly headers: Readonly<Record<string, string>>
  readonly description: string | null
  readonly maxAgeSeconds: number | null
  readonly coalesceTags: boolean
  readonly state: WebhookState
  readonly disabledReason: string | null
  /** The user that created or last changed the webhook. Only events that the owner may pull are sent. */
  readonly owner: string
  readonly createdAt: string
  readonly updatedAt: string
  readonly health: WebhookHealth
}

/** A webhook with its secret. Only creation and rotation return it. */
export type CreatedWebhook = WebhookView & { readonly secret: string }

export { DELIVERY_STATES, type DeliveryState }

/** The delivery of one event to one webhook. Times are RFC 3339. */
export type Delivery = {
  /** The event's id, and the `webhook-id` of every attempt. */
  readonly event: string
  readonly type: string
  /** `repository:tag`, `repository@digest`, or the webhook. */
  readonly subject: string
  /** The time of the event. */
  readonly time: string
  readonly state: DeliveryState
  /** All attempts, of every round. */
  readonly attempts: number
  /** Status of the last response; null: no response, or no attempt. */
  readonly status: number | null
  /** Why the last attempt failed. */
  readonly error: string | null
  /** The time of the next attempt; null when the delivery has ended. */
  readonly dueAt: string | null
  readonly finishedAt: string | null
}

/** One request, without secrets, and the response. */
export type DeliveryAttempt = {
  readonly at: string
  readonly milliseconds: number
  readonly status: number | null
  readonly error: string | null
  readonly request: { readonly headers: Readonly<Record<string, string>> }
  readonly response: {
    readonly headers: Readonly<Record<string, string>>
    readonly body: string
  } | null
  /** True when the server is internal: only administrators read its response, and why it gave none. */
  readonly hidden: boolean
}

/** A delivery with its attempts, newest first, and the body of its event. */
export type DeliveryDetail = Delivery & {
  readonly attemptLog: readonly DeliveryAttempt[]
  /** The event as JSON, byte by byte as the format `cloudevents` signs it. */
  readonly body: string
}

/** A query for deliveries. */
export type DeliveryQuery = {
  readonly state: DeliveryState | undefined
  /** Only deliveries before this position. */
  readonly before: number | undefined
  readonly limit: number
}

/** The events to send again: after `after`, up to `until`. Both are cursors of the feed, or times. */
export type RedeliveryRange = {
  readonly after: string
  readonly until: string | undefined
  /** Undefined: deliveries in any state, and events that had no delivery. */
  readonly states: readonly string[] | undefined
}

/** The number of deliveries that are due again. `next` is the cursor to continue from when there are more. */
export type RedeliveryResult = { readonly deliveries: number; readonly next: string | null }

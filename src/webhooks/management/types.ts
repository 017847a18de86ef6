import type { Grant } from '../../auth/access.ts'
import type { Actor } from '../../db/auth/audit.ts'
import { DELIVERY_STATES, type DeliveryState } from '../../db/webhooks/deliveries.ts'
import type { EventType } from '../../events/event.ts'
import type { Signature, WebhookFormat, WebhookState } from '../webhook.ts'

/** Who writes, tries or removes webhooks. */
export type Requester = {
  readonly actor: Actor
  /** What they may do; null: everything. */
  readonly grants: readonly Grant[] | null
}

/** What can be asked of how a receiver recognizes us: null takes back, undefined leaves as it is. */
export type AuthenticationChange = {
  readonly signatures: readonly string[] | null | undefined
  /** Value of a static Authorization header. */
  readonly authorization: string | null | undefined
  /** Value of X-Webhook-Secret. */
  readonly webhookSecret: string | null | undefined
  /** Sends a token for this audience, signed by the registry. */
  readonly oidcAudience: string | null | undefined
}

/** What can be asked of a webhook: null takes back to the default, undefined leaves as it is. */
export type WebhookChange = {
  readonly url: string | undefined
  readonly repositories: readonly string[] | undefined
  readonly tags: readonly string[] | null | undefined
  readonly types: readonly string[] | null | undefined
  readonly format: string | null | undefined
  readonly authentication: AuthenticationChange
  readonly headers: Readonly<Record<string, string>> | null | undefined
  readonly description: string | null | undefined
  readonly maxAgeSeconds: number | null | undefined
  readonly coalesceTags: boolean | null | undefined
  readonly paused: boolean | undefined
}

/** What a new webhook is asked to be. */
export type WebhookRequest = WebhookChange & {
  readonly name: string
  readonly url: string
  readonly repositories: readonly string[]
  /** `whsec_…`; undefined: one is made. */
  readonly secret: string | undefined
}

/** How an endpoint fares. */
export type WebhookHealth = {
  /** Tries that failed, one after the other. */
  readonly failures: number
  readonly failingSince: string | null
  /** Until then it is left alone. */
  readonly retryingAt: string | null
  readonly succeededAt: string | null
  readonly failedAt: string | null
  /** Deliveries that wait; 100 stands for more. */
  readonly waiting: number
}

/** A webhook as those see it who may manage it: without its secrets. Times are RFC 3339. */
export type WebhookView = {
  readonly name: string
  readonly url: string
  readonly repositories: readonly string[]
  /** Null: also what is about no tag. */
  readonly tags: readonly string[] | null
  readonly types: readonly EventType[]
  readonly format: WebhookFormat
  readonly authentication: {
    readonly signatures: readonly Signature[]
    /** `whpk_…`, which verifies `v1a`. */
    readonly publicKey: string | null
    /** True: there is one, and it is not shown. */
    readonly authorization: boolean
    readonly webhookSecret: boolean
    readonly oidcAudience: string | null
    /** Until when earlier secrets sign beside the present one. */
    readonly earlierUntil: readonly string[]
    /** False: its secrets were encrypted with another master key, and nothing can be sent. */
    readonly readable: boolean
  }
  readonly headers: Readonly<Record<string, string>>
  readonly description: string | null
  readonly maxAgeSeconds: number | null
  readonly coalesceTags: boolean
  readonly state: WebhookState
  readonly disabledReason: string | null
  /** Who wrote it last: what they may pull is what is sent. */
  readonly owner: string
  readonly createdAt: string
  readonly updatedAt: string
  readonly health: WebhookHealth
}

/** A webhook, and its secret this once. */
export type CreatedWebhook = WebhookView & { readonly secret: string }

export { DELIVERY_STATES, type DeliveryState }

/** One event for one webhook. Times are RFC 3339. */
export type Delivery = {
  /** The event's id, which is `webhook-id` of every try. */
  readonly event: string
  readonly type: string
  /** `repository:tag`, `repository@digest`, or the webhook. */
  readonly subject: string
  /** When the event happened. */
  readonly time: string
  readonly state: DeliveryState
  /** How often it was tried. */
  readonly attempts: number
  /** What came back from the last try; null: nothing, or there was none. */
  readonly status: number | null
  /** Why the last try failed. */
  readonly error: string | null
  /** When it is tried next; null when it is over. */
  readonly dueAt: string | null
  readonly finishedAt: string | null
}

/** One try: what was sent, without secrets, and what came back. */
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
}

/** A delivery with its tries, the newest first, and what is sent. */
export type DeliveryDetail = Delivery & {
  readonly attemptLog: readonly DeliveryAttempt[]
  /** The event as JSON, letter by letter as it is signed in the format `cloudevents`. */
  readonly body: string
}

/** Which deliveries are shown. */
export type DeliveryQuery = {
  readonly state: DeliveryState | undefined
  /** Only earlier ones than this place. */
  readonly before: number | undefined
  readonly limit: number
}

/** What is sent again: what happened behind `after`, up to `until`; both cursors of the feed, or times. */
export type RedeliveryRange = {
  readonly after: string
  readonly until: string | undefined
  /** Undefined: whatever became of it, also what was never meant for this webhook before. */
  readonly states: readonly string[] | undefined
}

/** How many deliveries are due again; `next` is where to go on when there is more. */
export type RedeliveryResult = { readonly deliveries: number; readonly next: string | null }

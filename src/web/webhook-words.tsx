import { type Mood, ShortDigest, State } from './elements.tsx'

/** The facts that say whether a webhook delivers. Times are RFC 3339. */
export type WebhookHealthView = {
  readonly state: 'active' | 'paused' | 'disabled'
  readonly disabledReason: string | null
  readonly authentication: { readonly readable: boolean }
  readonly health: {
    readonly failures: number
    readonly failingSince: string | null
    readonly retryingAt: string | null
    readonly succeededAt: string | null
    readonly failedAt: string | null
    readonly waiting: number
  }
}

/** The count of pending deliveries ends here. */
const WAITING_COUNTED_MAX = 100

/** Whether a webhook delivers, in a word. */
export function WebhookStateWord({ webhook }: { webhook: WebhookHealthView }) {
  const [mood, word] = stateOf(webhook)
  return <State mood={mood}>{word}</State>
}

function stateOf({ state, authentication, health }: WebhookHealthView): readonly [Mood, string] {
  if (state === 'disabled') return ['bad', 'disabled']
  if (!authentication.readable) return ['bad', 'cannot sign']
  if (state === 'paused') return ['idle', 'paused']
  if (health.failures > 0) return ['bad', 'failing']
  return health.succeededAt === null ? ['idle', 'nothing delivered yet'] : ['good', 'delivers']
}

/** `3`, or `100 or more` */
export function waitingText(waiting: number): string {
  return waiting >= WAITING_COUNTED_MAX ? `${WAITING_COUNTED_MAX} or more` : String(waiting)
}

const DELIVERY_MOODS: Readonly<Record<string, Mood>> = {
  pending: 'busy',
  delivered: 'good',
  failed: 'bad',
  expired: 'bad',
  superseded: 'idle',
  refused: 'bad',
}

/** The state of a delivery. */
export function DeliveryStateWord({ state }: { state: string }) {
  return <State mood={DELIVERY_MOODS[state] ?? 'idle'}>{state}</State>
}

const OF_IMAGE = /^(.+)@(sha256:[0-9a-f]{64})$/

/** The subject of an event, with its digest shortened. */
export function Subject({ subject }: { subject: string }) {
  const [, repository, digest] = OF_IMAGE.exec(subject) ?? []
  if (digest === undefined) return <>{subject}</>
  return (
    <>
      {repository}@<ShortDigest digest={digest} />
    </>
  )
}

/** The last answer of the receiver: `status 302: redirects are not followed`. Undefined before the first attempt. */
export function answerText(status: number | null, error: string | null): string | undefined {
  // The reason of a status often has the status.
  if (error?.includes(String(status))) return error
  const parts = [
    ...(status === null ? [] : [`status ${status}`]),
    ...(error === null ? [] : [error]),
  ]
  return parts.length === 0 ? undefined : parts.join(': ')
}

import type { Pushed, RegistryEvent, TagUpdated, UnikernelSummary } from './event.ts'

type WithUnikernels = Pushed | TagUpdated

/** What an event gets beside what it says. */
export type EventContext = {
  /** UUID, the same for all who are told, and in every retry. */
  readonly id: string
  /** What this registry is called: its public URL, or a URN. */
  readonly source: string
  /** Host and port that clients put before a repository's name. */
  readonly registry: string
  readonly occurredAt: Date
  /** Of the repository; without gaps. Null for what is about no repository. */
  readonly sequence: number | null
}

/** `application/cloudevents+json`: one event in structured mode (CloudEvents, HTTP binding, 3.2). */
export const CLOUD_EVENT_TYPE = 'application/cloudevents+json'

/** Bytes of a rendered event: what is longer tells less of its unikernels. */
export const EVENT_BYTES_MAX = 20_000

// As texts they then sort like numbers: CloudEvents, Sequence extension.
const SEQUENCE_DIGITS = 16
// What an event of an index with many members is cut down to, step by step.
const PACKAGES_SHOWN = [100, 25, 5, 0]

/** The event as JSON (CloudEvents 1.0.2), at most EVENT_BYTES_MAX long. */
export function renderCloudEvent(event: RegistryEvent, envelope: EventContext): string {
  for (const shown of PACKAGES_SHOWN) {
    const text = render(shortened(event, shown), envelope)
    if (Buffer.byteLength(text) <= EVENT_BYTES_MAX) return text
  }
  return 'unikernels' in event ? renderFewer(event, envelope) : render(event, envelope)
}

/** As many unikernels as there is room for, without what changed: whoever is told can still ask. */
function renderFewer(event: WithUnikernels, envelope: EventContext): string {
  const frame = render({ ...event, unikernels: [] }, envelope, true)
  let room = EVENT_BYTES_MAX - Buffer.byteLength(frame)
  const kept: UnikernelSummary[] = []
  for (const unikernel of event.unikernels) {
    const shown = { ...unikernel, changes: null }
    // With the comma before it.
    room -= Buffer.byteLength(JSON.stringify(shown)) + 1
    if (room < 0) break
    kept.push(shown)
  }
  return render({ ...event, unikernels: kept }, envelope, true)
}

function render(event: RegistryEvent, envelope: EventContext, truncated = false): string {
  const { type, ...data } = event
  const { id, source, registry, occurredAt, sequence } = envelope
  return JSON.stringify({
    specversion: '1.0',
    id,
    source,
    type,
    subject: subjectOf(event),
    time: occurredAt,
    datacontenttype: 'application/json',
    ...(sequence === null ? {} : { sequence: String(sequence).padStart(SEQUENCE_DIGITS, '0') }),
    data: { registry, ...data, ...('unikernels' in event ? { truncated } : {}) },
  })
}

/** As clients name it: `repository:tag`, or `repository@digest`. */
function subjectOf(event: RegistryEvent): string {
  if (!('repository' in event)) return event.webhook
  const { repository, tag, digest } = event
  return tag === null ? `${repository}@${digest}` : `${repository}:${tag}`
}

function shortened(event: RegistryEvent, shown: number): RegistryEvent {
  if (!('unikernels' in event)) return event
  const unikernels = event.unikernels.map((unikernel) => {
    const { changes } = unikernel
    if (changes === null) return unikernel
    const { added, removed, changed, truncated } = changes.packages
    const packages = {
      added: added.slice(0, shown),
      removed: removed.slice(0, shown),
      changed: changed.slice(0, shown),
      truncated: truncated || Math.max(added.length, removed.length, changed.length) > shown,
    }
    return { ...unikernel, changes: { ...changes, packages } }
  })
  return { ...event, unikernels }
}

import { visibleJson } from '../oci/hidden-characters.ts'
import type {
  ImageUnwrapped,
  Pushed,
  RegistryEvent,
  TagUpdated,
  UnikernelSummary,
} from './event.ts'

type WithUnikernels = ImageUnwrapped | Pushed | TagUpdated

/** The attributes of an event beside its data. */
export type EventContext = {
  /** A UUID, the same for every receiver and in every retry. */
  readonly id: string
  /** The name of this registry: its public URL, or a URN. */
  readonly source: string
  /** Host and port that clients put before a repository's name. */
  readonly registry: string
  readonly occurredAt: Date
  /** The event's number in its repository, without gaps. Null for an event of the registry. */
  readonly sequence: number | null
}

/** `application/cloudevents+json`: one event in structured mode (CloudEvents, HTTP binding, 3.2). */
export const CLOUD_EVENT_TYPE = 'application/cloudevents+json'

/** Bytes of a rendered event; a longer one is shortened. */
export const EVENT_BYTES_MAX = 20_000

// Padded, the texts sort like numbers: CloudEvents, Sequence extension.
const SEQUENCE_DIGITS = 16
// The lists of packages are cut to these lengths, step by step, until the event is short enough.
const PACKAGES_MAX_STEPS = [100, 25, 5, 0]

/** Renders an event as JSON (CloudEvents 1.0.2), at most EVENT_BYTES_MAX long. */
export function renderCloudEvent(event: RegistryEvent, context: EventContext): string {
  for (const packagesMax of PACKAGES_MAX_STEPS) {
    const text = render(withPackagesUpTo(event, packagesMax), context)
    if (Buffer.byteLength(text) <= EVENT_BYTES_MAX) return text
  }
  return 'unikernels' in event ? renderFewer(event, context) : render(event, context)
}

/** Renders as many unikernels as fit, without their changes, which receivers can look up. */
function renderFewer(event: WithUnikernels, context: EventContext): string {
  const frame = render({ ...event, unikernels: [] }, context, true)
  let room = EVENT_BYTES_MAX - Buffer.byteLength(frame)
  const kept: UnikernelSummary[] = []
  for (const unikernel of event.unikernels) {
    const shown = { ...unikernel, changes: null }
    // Plus the comma before it.
    room -= Buffer.byteLength(visibleJson(shown)) + 1
    if (room < 0) break
    kept.push(shown)
  }
  return render({ ...event, unikernels: kept }, context, true)
}

function render(event: RegistryEvent, context: EventContext, truncated = false): string {
  const { type, ...data } = event
  const { id, source, registry, occurredAt, sequence } = context
  return visibleJson({
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

// A quote within a text is escaped, so this finds the fields alone.
const ACTORS = /,"(?:actor|builder)":"(?:[^"\\]|\\.)*"/g

/** Returns a rendered event without the names of its actor and builders, for readers that may not see them. */
export function withoutActor(body: string): string {
  return body.replace(ACTORS, '')
}

// `reason` has no field before it that a client names.
const REASONS = /,"reason":"(?:[^"\\]|\\.)*"/g

/** Returns a rendered event about a deployment without its reason, which names hosts and people. */
export function withoutReason(body: string): string {
  return body.replace(REASONS, ',"reason":null')
}

/**
 * Returns the subject as clients write it: `repository:tag`, `repository@digest`, or the repository; `repository:tag#number`
 * for a deployment, followed by host and unit for one of its targets.
 */
function subjectOf(event: RegistryEvent): string {
  if ('webhook' in event) return event.webhook
  if ('deployment' in event) {
    const deployment = `${event.repository}:${event.tag}#${event.number}`
    return 'host' in event ? `${deployment}/${event.host}/${event.unit}` : deployment
  }
  if ('host' in event) return event.host
  const { repository, tag, digest } = event
  if (tag !== null) return `${repository}:${tag}`
  return digest === null ? repository : `${repository}@${digest}`
}

function withPackagesUpTo(event: RegistryEvent, max: number): RegistryEvent {
  if (!('unikernels' in event)) return event
  const unikernels = event.unikernels.map((unikernel) => {
    const { changes } = unikernel
    if (changes === null) return unikernel
    const { added, removed, changed, truncated } = changes.packages
    const packages = {
      added: added.slice(0, max),
      removed: removed.slice(0, max),
      changed: changed.slice(0, max),
      truncated: truncated || Math.max(added.length, removed.length, changed.length) > max,
    }
    return { ...unikernel, changes: { ...changes, packages } }
  })
  return { ...event, unikernels }
}

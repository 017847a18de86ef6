import type { EventType } from './event.ts'

/** The formats of CDEvents: with the version of the specification and that of its events about services. */
const VERSIONS = {
  cdevents: { specification: '0.4.1', service: '0.2.0' },
  'cdevents-0.5': { specification: '0.5.0', service: '0.3.0' },
} as const
export type CdEventsFormat = keyof typeof VERSIONS

/** True for a format of CDEvents. */
export function isCdEventsFormat(format: string): format is CdEventsFormat {
  return Object.hasOwn(VERSIONS, format)
}

/** The types of events that a CDEvent can be made of. */
export const CD_EVENT_TYPES: readonly EventType[] = [
  'deployment.finished',
  'deployment.target.changed',
]

/** The fields of a stored body that a CDEvent needs. */
type StoredEvent = {
  readonly id: string
  readonly source: string
  readonly type: EventType
  readonly time: string
  readonly data: {
    readonly registry: string
    readonly repository: string
    readonly tag: string
    readonly digest: string
    readonly previousDigest: string | null
    readonly deployment: string
    readonly kind: string
    readonly state: string
    readonly host?: string
    readonly settled?: boolean
  }
}

/** A change of a service: its environment, and the digest that runs there now. */
type Change = {
  readonly predicate: 'deployed' | 'upgraded' | 'rolledback'
  readonly environment: string
  readonly digest: string
}

/**
 * Renders a stored event as a CDEvent (its specification, "Service events") in JSON: the repository is the service, and the tag
 * or the host its environment. Undefined for an event of which there is none, such as a deployment that failed. The same
 * body gives the same bytes.
 */
export function renderCdEvent(body: string, format: CdEventsFormat): string | undefined {
  const event = JSON.parse(body) as StoredEvent
  const { id, source, time, data } = event
  const change = changeOf(event)
  if (change === undefined) return undefined
  const { predicate, environment, digest } = change
  const { specification, service } = VERSIONS[format]
  const isOld = format === 'cdevents'
  return JSON.stringify({
    context: {
      ...(isOld ? { version: specification } : { specversion: specification }),
      ...{ id, source, type: `dev.cdevents.service.${predicate}.${service}`, timestamp: time },
    },
    subject: {
      ...{ id: data.repository, source },
      ...(isOld ? { type: 'service' } : {}),
      content: { environment: { id: environment, source }, artifactId: packageUrl(data, digest) },
    },
    customData: { tag: data.tag, deployment: data.deployment },
    customDataContentType: 'application/json',
  })
}

function changeOf({ type, data }: StoredEvent): Change | undefined {
  const { tag, host, digest, previousDigest, kind, state, settled } = data
  const forward = previousDigest === null ? 'deployed' : 'upgraded'
  const predicate = kind === 'rollback' ? 'rolledback' : forward
  if (type === 'deployment.finished') {
    return state === 'succeeded' ? { predicate, environment: tag, digest } : undefined
  }
  if (host === undefined) return undefined
  if (state === 'healthy') return settled ? undefined : { predicate, environment: host, digest }
  // The host runs again what it ran before.
  const isBack = state === 'rolled-back' && previousDigest !== null
  return isBack ? { predicate: 'rolledback', environment: host, digest: previousDigest } : undefined
}

/** `pkg:oci/www@sha256%3A…?repository_url=registry.example.org/builds/www` (package URL, type oci). */
function packageUrl({ registry, repository }: StoredEvent['data'], digest: string): string {
  const name = repository.slice(repository.lastIndexOf('/') + 1)
  const place = encodeURIComponent(`${registry}/${repository}`).replaceAll('%2F', '/')
  return `pkg:oci/${name}@${encodeURIComponent(digest)}?repository_url=${place}`
}

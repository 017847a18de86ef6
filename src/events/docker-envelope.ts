import type { RegistryEvent } from './event.ts'

/** The media type of the distribution project's notifications. */
export const DOCKER_EVENTS_TYPE = 'application/vnd.docker.distribution.events.v1+json'

const ACTIONS: Readonly<Partial<Record<RegistryEvent['type'], 'push' | 'delete'>>> = {
  'image.pushed': 'push',
  'image.tag.updated': 'push',
  'image.referrer.added': 'push',
  'image.tag.deleted': 'delete',
  'image.deleted': 'delete',
  'repository.deleted': 'delete',
}

/** The fields of a stored body that an envelope needs. */
type StoredEvent = {
  readonly id: string
  readonly source: string
  readonly type: RegistryEvent['type']
  readonly time: string
  readonly data: {
    readonly registry: string
    readonly repository: string
    readonly tag: string | null
    readonly digest: string | null
    readonly previousDigest: string | null
    /** Missing when the receiver may not see it. */
    readonly actor?: string
    readonly mediaType?: string
    readonly size?: number
  }
}

/**
 * Renders a stored event as a notification of the distribution project (its documentation, "Work with
 * notifications"): one event in an envelope, or none for a type that the format does not have. The
 * same body gives the same bytes.
 */
export function renderDockerEnvelope(body: string): string {
  const { id, source, type, time, data } = JSON.parse(body) as StoredEvent
  const action = ACTIONS[type]
  if (action === undefined) return JSON.stringify({ events: [] })
  const { registry, repository, tag, digest, previousDigest, actor, mediaType, size } = data
  const scheme = source.startsWith('http://') ? 'http' : 'https'
  const named = digest ?? previousDigest
  const event = {
    id,
    timestamp: time,
    action,
    target: {
      ...(mediaType === undefined ? {} : { mediaType }),
      ...(size === undefined ? {} : { size, length: size }),
      ...(named === null ? {} : { digest: named }),
      repository,
      // The deletion of a repository names nothing that has a URL, as in distribution's own notifications.
      ...(named === null
        ? {}
        : { url: `${scheme}://${registry}/v2/${repository}/manifests/${named}` }),
      ...(tag === null ? {} : { tag }),
    },
    request: { id, host: registry, method: action === 'push' ? 'PUT' : 'DELETE' },
    actor: actor === undefined ? {} : { name: actor },
    source: { addr: registry },
  }
  return JSON.stringify({ events: [event] })
}

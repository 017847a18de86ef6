import type { EventType, HostEvent, RegistryEvent } from '../../src/events/event.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { Repository, Tag } from '../../src/oci/reference.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'

type Columns = { readonly repository?: string | null; readonly tag?: string | null }

const DIGEST = `sha256:${'a'.repeat(64)}` as Digest

const BUILD = {
  ...{ tag: null, digest: DIGEST, previousDigest: null },
  ...{ build: '0268b383-13ae-4a1f-b33c-1bcd327c1d41', platform: 'debian-12', inputId: null },
  ...{ startedAt: null, finishedAt: null },
} as const

const DEPLOYMENT = {
  ...{ digest: DIGEST, deployment: '0268b383-13ae-4a1f-b33c-1bcd327c1d42', number: 1 },
  kind: 'push',
} as const
const COUNTS = {
  ...{ waiting: 0, inFlight: 0, healthy: 1, settled: 1 },
  ...{ failed: 0, refused: 0, offline: 0, skipped: 0, of: 1 },
} as const
const TARGET = {
  ...{ host: 'web-1', unit: 'www', settled: true, kernel: DIGEST },
  state: 'healthy',
  ...{ exitCode: null, exitMeaning: null, reason: null, message: null },
} as const

function isHostType(type: EventType): type is HostEvent['type'] {
  return type.startsWith('host.')
}

function hostEvent(type: HostEvent['type']): HostEvent {
  const host = { host: 'web-1', labels: { site: 'a' } }
  if (type === 'host.conflict') return { ...host, type, boots: ['a', 'b'] }
  if (type !== 'host.enrolled') return { ...host, type, seenAt: new Date(0).toISOString() }
  const fingerprint = 'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs'
  return {
    ...host,
    type,
    state: 'active',
    fingerprint,
    repositories: ['builds/**'],
    actor: 'admin',
  }
}

/** Returns an event of the type, of `builds/hello:live` unless the columns say something else. */
export function registryEvent(type: EventType, columns: Columns = {}): RegistryEvent {
  if (type === 'webhook.ping') return { type, webhook: 'somebody' }
  if (type === 'webhook.disabled') {
    return { type, webhook: 'somebody', reason: 'gone', detail: 'it answered 410' }
  }
  if (isHostType(type)) return hostEvent(type)
  const { repository = 'builds/hello', tag = 'live' } = columns
  const image = {
    repository: repository as Repository,
    previousDigest: null,
    actor: 'ci — Łódź',
  }
  const manifest = {
    digest: DIGEST,
    mediaType: IMAGE_MANIFEST,
    artifactType: null,
    size: 500,
  }
  switch (type) {
    case 'image.pushed':
      return { ...image, ...manifest, type, tag: null, unikernels: [] }
    case 'image.unwrapped':
      return { ...image, ...manifest, type, tag: tag as Tag, unikernels: [] }
    case 'image.tag.updated':
      return { ...image, ...manifest, type, tag: tag as Tag, reason: 'push', unikernels: [] }
    case 'image.tag.deleted':
      return { ...image, type, tag: tag as Tag, digest: null, previousDigest: DIGEST }
    case 'image.deleted':
      return { ...image, type, tag: null, digest: DIGEST }
    case 'image.referrer.added':
      return { ...image, ...manifest, type, tag: null, subject: DIGEST }
    case 'repository.deleted':
      return { ...image, type, tag: null, digest: null }
    case 'build.reproduced':
    case 'build.diverged':
      return { ...image, ...BUILD, type, kernelDigest: DIGEST, same: [], other: [] }
    case 'build.failed': {
      const failure = { result: 'failed', exitCode: 2, signal: null, message: null } as const
      return { ...image, ...BUILD, ...failure, type }
    }
    case 'deployment.created': {
      const deployment = { ...image, ...DEPLOYMENT, tag: tag as Tag }
      return { ...deployment, type, state: 'rolling', rollout: null }
    }
    case 'deployment.updated':
    case 'deployment.finished': {
      const deployment = { ...image, ...DEPLOYMENT, tag: tag as Tag }
      return { ...deployment, type, state: 'failed', reason: 'www on web-1 failed', counts: COUNTS }
    }
    case 'deployment.target.changed':
      return { ...image, ...DEPLOYMENT, ...TARGET, tag: tag as Tag, type }
  }
}

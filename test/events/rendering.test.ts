import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { EVENT_BYTES_MAX, renderCloudEvent } from '../../src/events/cloud-event.ts'
import { renderDockerEnvelope } from '../../src/events/docker-envelope.ts'
import type { TagUpdated, UnikernelSummary } from '../../src/events/event.ts'
import { matchesFilter } from '../../src/events/filter.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { Glob } from '../../src/oci/glob.ts'
import type { Repository, Tag } from '../../src/oci/reference.ts'
import { IMAGE_INDEX } from '../support/media-types.ts'
import { validateEvent } from './event-schema.ts'

const DIGEST = `sha256:${'a'.repeat(64)}` as Digest
const OTHER = `sha256:${'b'.repeat(64)}` as Digest
const ENVELOPE = {
  id: '0268b383-13ae-4a1f-b33c-1bcd327c1d73',
  source: 'https://registry.example.org',
  registry: 'registry.example.org',
  occurredAt: new Date(0),
  sequence: 7,
}

function facts(packages: number, devices: number, name: string): UnikernelSummary {
  const listed = Array.from({ length: packages }, (_, index) => ({
    ecosystem: 'opam',
    name: `${name}-${index}`,
    version: '1.0',
  }))
  return {
    digest: DIGEST,
    kernelDigest: DIGEST,
    target: 'hvt',
    abiVersion: 2,
    architecture: 'x86_64',
    devices: Array.from({ length: devices }, (_, index) => ({
      kind: 'net',
      name: `${name}${index}`,
    })),
    inputId: null,
    changes: {
      from: OTHER,
      kernel: true,
      devices: { added: [], removed: [] },
      packages: { added: listed, removed: listed, changed: [], truncated: false },
    },
  }
}

function updated(unikernels: readonly UnikernelSummary[]): TagUpdated {
  return {
    type: 'image.tag.updated',
    repository: 'builds/www' as Repository,
    tag: 'live' as Tag,
    digest: DIGEST,
    previousDigest: OTHER,
    actor: 'orb-1',
    reason: 'push',
    mediaType: IMAGE_INDEX,
    artifactType: null,
    size: 500,
    unikernels,
  }
}

describe('an event', () => {
  it('never exceeds the size limit, and marks the lists that were cut', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 20 }),
        fc.integer({ min: 0, max: 300 }),
        fc.integer({ min: 0, max: 64 }),
        fc.constantFrom('p', 'package', 'x'.repeat(60), '漢'.repeat(30)),
        (members, packages, devices, name) => {
          const unikernels = Array.from({ length: members }, () => facts(packages, devices, name))
          const body = renderCloudEvent(updated(unikernels), ENVELOPE)
          expect(Buffer.byteLength(body)).toBeLessThanOrEqual(EVENT_BYTES_MAX)
          validateEvent(body)
          const { data } = JSON.parse(body)
          if (data.truncated) {
            // The remaining unikernels are unchanged, apart from their missing changes.
            expect(data.unikernels).toEqual(
              unikernels
                .slice(0, data.unikernels.length)
                .map((unikernel) => ({ ...unikernel, changes: null })),
            )
            expect(data.unikernels.length).toBeGreaterThan(0)
            return
          }
          expect(data.unikernels).toHaveLength(members)
          for (const { changes } of data.unikernels) {
            const { added, truncated } = changes.packages
            expect(truncated).toBe(added.length < packages)
          }
        },
      ),
      { numRuns: 60 },
    )
  })
})

it('an event of an index with very many kernels has as many of them as fit', () => {
  const unikernels = Array.from({ length: 100 }, () => facts(0, 1, 'service'))
  const body = renderCloudEvent(updated(unikernels), ENVELOPE)
  const { data } = JSON.parse(body)
  expect(data).toMatchObject({ truncated: true })
  const more = data.unikernels[0]
  expect(Buffer.byteLength(body) + Buffer.byteLength(JSON.stringify(more))).toBeGreaterThanOrEqual(
    EVENT_BYTES_MAX,
  )
  expect(
    JSON.parse(renderCloudEvent(updated(unikernels.slice(0, 20)), ENVELOPE)).data,
  ).toMatchObject({ truncated: false, unikernels: unikernels.slice(0, 20) })
})

describe('the docker envelope', () => {
  it('has the fields of a distribution notification, and the same bytes every time', () => {
    const body = renderCloudEvent(updated([]), ENVELOPE)
    const envelope = renderDockerEnvelope(body)
    expect(renderDockerEnvelope(body)).toBe(envelope)
    expect(JSON.parse(envelope)).toEqual({
      events: [
        {
          id: ENVELOPE.id,
          timestamp: '1970-01-01T00:00:00.000Z',
          action: 'push',
          target: {
            mediaType: IMAGE_INDEX,
            size: 500,
            length: 500,
            digest: DIGEST,
            repository: 'builds/www',
            url: `https://registry.example.org/v2/builds/www/manifests/${DIGEST}`,
            tag: 'live',
          },
          request: { id: ENVELOPE.id, host: 'registry.example.org', method: 'PUT' },
          actor: { name: 'orb-1' },
          source: { addr: 'registry.example.org' },
        },
      ],
    })
  })

  it('has the previous digest of a deleted tag, and no event for a type that the format does not have', () => {
    const gone = {
      type: 'image.tag.deleted',
      repository: 'builds/www' as Repository,
      tag: 'live' as Tag,
      digest: null,
      previousDigest: OTHER,
      actor: 'orb-1',
    } as const
    const envelope = JSON.parse(renderDockerEnvelope(renderCloudEvent(gone, ENVELOPE)))
    expect(envelope.events).toMatchObject([
      { action: 'delete', target: { digest: OTHER, tag: 'live' } },
    ])
    const ping = renderCloudEvent(
      { type: 'webhook.ping', webhook: 'a' },
      { ...ENVELOPE, sequence: null },
    )
    expect(renderDockerEnvelope(ping)).toBe('{"events":[]}')
  })
})

describe('a filter', () => {
  const filter = (repositories: string[], tags: string[] | null) => ({
    types: ['image.tag.updated', 'image.pushed', 'webhook.disabled'] as const,
    repositories: repositories as Glob[],
    tags: tags as Glob[] | null,
  })
  const about = (type: 'image.tag.updated' | 'image.pushed', repository: string, tag?: string) => ({
    type,
    repository: repository as Repository,
    tag: (tag ?? null) as Tag | null,
  })

  it.each([
    [
      'a repository by its pattern',
      filter(['builds/*'], null),
      about('image.pushed', 'builds/a'),
      true,
    ],
    [
      'no deeper repository',
      filter(['builds/*'], null),
      about('image.pushed', 'builds/a/b'),
      false,
    ],
    ['a tag by its pattern', filter(['**'], ['v*']), about('image.tag.updated', 'a', 'v1'), true],
    ['no other tag', filter(['**'], ['v*']), about('image.tag.updated', 'a', 'live'), false],
    [
      'no event without a tag when it has tags',
      filter(['**'], ['*']),
      about('image.pushed', 'a'),
      false,
    ],
    [
      'an event of the registry, with any repositories and tags',
      filter(['a'], ['v1']),
      { type: 'webhook.disabled', repository: null, tag: null } as const,
      true,
    ],
    [
      'no other type',
      filter(['**'], null),
      { ...about('image.pushed', 'a'), type: 'image.deleted' } as const,
      false,
    ],
  ] as const)('matches %s', (_, one, event, wanted) => {
    expect(matchesFilter(one, event)).toBe(wanted)
  })
})

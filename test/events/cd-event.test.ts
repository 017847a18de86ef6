import { describe, expect, it } from 'vitest'
import { renderCdEvent } from '../../src/events/cd-event.ts'
import { renderCloudEvent } from '../../src/events/cloud-event.ts'
import type { EventType } from '../../src/events/event.ts'
import { registryEvent } from '../webhooks/registry-events.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`
const PREVIOUS = `sha256:${'b'.repeat(64)}`
const ID = '0268b383-13ae-4a1f-b33c-1bcd327c1d73'
const SOURCE = 'https://registry.example.org'
const packageUrl = (digest: string) =>
  `pkg:oci/hello@${digest.replace(':', '%3A')}?repository_url=registry.example.org/builds/hello`

/** Renders an event of the type with these fields, as a delivery has it. */
function bodyOf(type: EventType, fields: Record<string, unknown>): string {
  const event = { ...registryEvent(type), ...fields } as ReturnType<typeof registryEvent>
  const registry = 'registry.example.org'
  const occurredAt = new Date(0)
  return renderCloudEvent(event, { id: ID, source: SOURCE, registry, occurredAt, sequence: 7 })
}

const SUCCEEDED = { state: 'succeeded', reason: null }
const finished = (fields: Record<string, unknown> = {}) =>
  bodyOf('deployment.finished', { ...SUCCEEDED, ...fields })
const target = (fields: Record<string, unknown> = {}) =>
  bodyOf('deployment.target.changed', { settled: false, previousDigest: PREVIOUS, ...fields })

/** The parts of a CDEvent that differ between events. */
function partsOf(body: string) {
  const text = renderCdEvent(body, 'cdevents')
  if (text === undefined) return undefined
  const { context, subject } = JSON.parse(text)
  const [, predicate] = /^dev\.cdevents\.service\.(\w+)\.0\.2\.0$/.exec(context.type) ?? []
  return [predicate, subject.content.environment.id, subject.content.artifactId]
}

describe('a CDEvent', () => {
  it('has the fields of version 0.4, whose events about services have version 0.2.0', () => {
    expect(JSON.parse(renderCdEvent(finished(), 'cdevents') ?? '')).toEqual({
      context: {
        ...{ version: '0.4.1', id: ID, source: SOURCE },
        type: 'dev.cdevents.service.deployed.0.2.0',
        timestamp: '1970-01-01T00:00:00.000Z',
      },
      subject: {
        ...{ id: 'builds/hello', source: SOURCE, type: 'service' },
        content: { environment: { id: 'live', source: SOURCE }, artifactId: packageUrl(DIGEST) },
      },
      customData: { tag: 'live', deployment: expect.stringMatching(/^[0-9a-f-]{36}$/) },
      customDataContentType: 'application/json',
    })
  })

  it('of version 0.5 names its version differently, and has no type of the subject', () => {
    const { context, subject } = JSON.parse(renderCdEvent(finished(), 'cdevents-0.5') ?? '')
    expect(Object.keys(context)).toEqual(['specversion', 'id', 'source', 'type', 'timestamp'])
    expect(context).toMatchObject({
      specversion: '0.5.0',
      type: 'dev.cdevents.service.deployed.0.3.0',
    })
    expect(Object.keys(subject)).toEqual(['id', 'source', 'content'])
  })

  it('names the change of the service in the environment of the tag', () => {
    const previousDigest = PREVIOUS
    expect(partsOf(finished())).toEqual(['deployed', 'live', packageUrl(DIGEST)])
    const upgraded = finished({ previousDigest })
    expect(partsOf(upgraded)).toEqual(['upgraded', 'live', packageUrl(DIGEST)])
    const rollback = finished({ previousDigest, kind: 'rollback' })
    expect(partsOf(rollback)).toEqual(['rolledback', 'live', packageUrl(DIGEST)])
  })

  it('names the image that a host runs now', () => {
    expect(partsOf(target())).toEqual(['upgraded', 'web-1', packageUrl(DIGEST)])
    const back = target({ state: 'rolled-back' })
    expect(partsOf(back)).toEqual(['rolledback', 'web-1', packageUrl(PREVIOUS)])
  })

  it.each([
    ['a deployment that failed', finished({ state: 'failed' })],
    ['one that was superseded', finished({ state: 'superseded' })],
    ['a unit that starts', target({ state: 'starting' })],
    ['a unit that failed', target({ state: 'failed' })],
    ['a unit that settled, which was healthy before', target({ settled: true })],
    ['a first image that was rolled back', target({ state: 'rolled-back', previousDigest: null })],
  ])('is not made for %s', (_what, body) => {
    expect(renderCdEvent(body, 'cdevents')).toBeUndefined()
  })
})

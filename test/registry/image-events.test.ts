import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Build, expectedOf, fixtureOf, pushBuild } from '../images/image-fixtures.ts'
import { digestOf } from '../support/digest.ts'
import { eventsOf, type SentEvent } from '../support/events.ts'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import { newRepository, pushImage, pushImageBlobs, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_PUBLIC_URL: 'https://registry.example.org' })
})

afterAll(() => registry.close())

const remove = (repository: string, reference: string) =>
  registry.request(`/v2/${repository}/manifests/${reference}`, { method: 'DELETE' })

describe('a push', () => {
  it('of a new image with tags records one event for the image and one for each tag', async () => {
    const repository = newRepository()
    const image = await pushImageBlobs(registry, repository)
    const body = JSON.stringify(image)
    const answer = await putManifest(registry, repository, 'live?tag=v1', body)
    expect(answer.status).toBe(201)
    const digest = digestOf(body)
    const events = await eventsOf(registry, repository, 3)
    expect(events).toMatchObject([
      {
        specversion: '1.0',
        type: 'image.pushed',
        source: 'https://registry.example.org',
        subject: `${repository}@${digest}`,
        sequence: '0000000000000001',
        datacontenttype: 'application/json',
        data: {
          registry: 'registry.example.org',
          repository,
          tag: null,
          digest,
          previousDigest: null,
          actor: 'admin',
          mediaType: IMAGE_MANIFEST,
          size: body.length,
          unikernels: [],
        },
      },
      {
        type: 'image.tag.updated',
        subject: `${repository}:live`,
        sequence: '0000000000000002',
        data: { tag: 'live', digest, previousDigest: null, reason: 'push' },
      },
      { type: 'image.tag.updated', subject: `${repository}:v1`, sequence: '0000000000000003' },
    ])
    expect(new Set(events.map(({ id }) => id)).size).toBe(3)
  })

  it('of the same image again records nothing, and with another tag only that tag', async () => {
    const repository = newRepository()
    const { digest, body } = await pushImage(registry, repository, 'live')
    await putManifest(registry, repository, 'live', body)
    await putManifest(registry, repository, digest, body)
    await putManifest(registry, repository, 'next', body)
    const events = await eventsOf(registry, repository, 3)
    expect(events.map(({ subject }) => subject)).toEqual([
      `${repository}@${digest}`,
      `${repository}:live`,
      `${repository}:next`,
    ])
  })

  it('that moves a tag records its previous digest', async () => {
    const repository = newRepository()
    const first = await pushImage(registry, repository, 'live')
    const second = await pushImage(registry, repository, 'live')
    const events = await eventsOf(registry, repository, 4)
    expect(events[3]?.data).toMatchObject({
      digest: second.digest,
      previousDigest: first.digest,
      reason: 'push',
    })
  })

  it('of a manifest with a subject records an event of its own', async () => {
    const repository = newRepository()
    const { bytes: _, ...subject } = { ...(await pushImage(registry, repository)), bytes: 0 }
    const claim = await pushImageBlobs(registry, repository, {
      artifactType: 'application/vnd.example.signature',
      subject: { mediaType: subject.mediaType, digest: subject.digest, size: subject.size },
    })
    const body = JSON.stringify(claim)
    await putManifest(registry, repository, digestOf(body), body)
    const [, added] = await eventsOf(registry, repository, 2)
    expect(added).toMatchObject({
      type: 'image.referrer.added',
      data: {
        digest: digestOf(body),
        subject: subject.digest,
        artifactType: 'application/vnd.example.signature',
        tag: null,
      },
    })
  })

  it('that is refused records no event', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'live')
    await registry.request(`/api/v1/repositories/${repository}/settings`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ immutableTags: ['live'] }),
    })
    const image = await pushImageBlobs(registry, repository)
    expect((await putManifest(registry, repository, 'live', image)).status).toBe(403)
    expect((await putManifest(registry, repository, 'other', image)).status).toBe(201)
    const events = await eventsOf(registry, repository, 4)
    expect(events.slice(2).map(({ subject }) => subject)).toEqual([
      expect.stringContaining('@'),
      `${repository}:other`,
    ])
  })
})

describe('a delete', () => {
  it('of a tag records its previous digest', async () => {
    const repository = newRepository()
    const { digest } = await pushImage(registry, repository, 'live')
    await remove(repository, 'live')
    const events = await eventsOf(registry, repository, 3)
    expect(events[2]).toMatchObject({
      type: 'image.tag.deleted',
      subject: `${repository}:live`,
      data: { tag: 'live', digest: null, previousDigest: digest, actor: 'admin' },
    })
  })

  it('of an image removes its tags, each with an event', async () => {
    const repository = newRepository()
    const { digest, body } = await pushImage(registry, repository, 'a')
    await putManifest(registry, repository, 'b', body)
    await remove(repository, digest)
    const events = await eventsOf(registry, repository, 6)
    expect(events.slice(3).map(({ type }) => type)).toEqual([
      'image.tag.deleted',
      'image.tag.deleted',
      'image.deleted',
    ])
    expect(events[5]).toMatchObject({ subject: `${repository}@${digest}`, data: { digest } })
  })
})

type Unikernel = {
  changes: { packages: { changed: unknown[] } } | null
}

const unikernelsOf = (event: SentEvent | undefined) =>
  (event?.data.unikernels ?? []) as readonly Unikernel[]

describe('an event about a unikernel', () => {
  const facts = (build: Build) => {
    const { input_id: inputId, main_binary_sha256 } = expectedOf(build)
    return { inputId, kernelDigest: `sha256:${main_binary_sha256}`, target: 'hvt', abiVersion: 2 }
  }

  it('describes the unikernel, and its differences from the previous image of the tag', async () => {
    const repository = newRepository()
    await pushBuild(registry, repository, 'live', 'hello-key-1')
    await pushBuild(registry, repository, 'live', 'hello-key-2')
    const events = await eventsOf(registry, repository, 4)
    const [, first, , second] = events
    expect(first?.data.unikernels).toMatchObject([
      { ...facts('hello-key-1'), architecture: 'x86_64', devices: [], changes: null },
    ])
    const [unikernel] = unikernelsOf(second)
    expect(unikernel).toMatchObject({
      ...facts('hello-key-2'),
      changes: { from: first?.data.digest, kernel: true, packages: { truncated: false } },
    })
    const compared = await registry.request(
      `/api/v1/repositories/${repository}/images/${first?.data.digest}/compare/${second?.data.digest}`,
    )
    const comparison = (await compared.json()) as {
      opam: { packages: { changed: { name: string; version: { from: string; to: string } }[] } }
    }
    const moved = comparison.opam.packages.changed.filter(
      ({ version }) => version.from !== version.to,
    )
    expect(moved.length).toBeGreaterThan(0)
    const changed = unikernel?.changes?.packages.changed ?? []
    for (const { name, version } of moved) {
      expect(changed).toContainEqual({ ecosystem: 'opam', name, ...version })
    }
  })

  it('of a rollback describes the differences in reverse', async () => {
    const repository = newRepository()
    await pushBuild(registry, repository, 'live', 'hello-key-1')
    await pushBuild(registry, repository, 'live', 'hello-key-2')
    const path = `/api/v1/repositories/${repository}/tags/live/rollback`
    expect((await registry.request(path, { method: 'POST' })).status).toBe(200)
    const events = await eventsOf(registry, repository, 5)
    const [forth, back] = [events[3], events[4]]
    expect(back?.data).toMatchObject({
      reason: 'rollback',
      digest: forth?.data.previousDigest,
      previousDigest: forth?.data.digest,
      unikernels: [{ ...facts('hello-key-1'), changes: { from: forth?.data.digest } }],
    })
  })

  it('of an index describes each of its members', async () => {
    const repository = newRepository()
    await pushBuild(registry, repository, 'one', 'hello-key-1')
    const [pushed] = await eventsOf(registry, repository, 2)
    const child = pushed?.data as { digest: string; size: number; mediaType: string }
    const { mediaType, digest, size } = child
    const platform = { os: 'solo5', architecture: 'amd64', variant: 'hvt' }
    const index = {
      schemaVersion: 2,
      mediaType: IMAGE_INDEX,
      manifests: [{ mediaType, digest, size, platform }],
    }
    expect((await putManifest(registry, repository, 'all', index)).status).toBe(201)
    const events = await eventsOf(registry, repository, 4)
    expect(events[3]?.data.unikernels).toMatchObject([{ digest, ...facts('hello-key-1') }])
  })

  it('describes an image that is only a kernel, too', async () => {
    const repository = newRepository()
    const kernel = fixtureOf('hello-key-1', 'kernel')
    const form = new FormData()
    form.append('kernel', new Blob([new Uint8Array(kernel)]), 'hello.hvt')
    const answer = await registry.request(`/api/v1/repositories/${repository}/images?tag=live`, {
      method: 'POST',
      body: form,
    })
    expect(answer.status).toBe(201)
    const [, updated] = await eventsOf(registry, repository, 2)
    expect(updated?.data.unikernels).toMatchObject([
      { kernelDigest: digestOf(kernel), target: 'hvt', inputId: null },
    ])
  })
})

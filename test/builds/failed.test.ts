import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ask, expectedOf, formOf } from '../images/image-fixtures.ts'
import { digestOf } from '../support/digest.ts'
import { eventBodies } from '../support/events.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { Builder } from './builder.ts'

const FAILED_BUILD = 'application/vnd.unikernel.failed-build.v1'

let registry: TestRegistry
let first: Builder
let second: Builder

beforeAll(async () => {
  registry = await startRegistry()
  first = await Builder.open(registry)
  second = await Builder.open(registry)
})
afterAll(() => registry.close())

/** Returns the events about builds, among `count` events of the repository. */
async function buildEvents(repository: string, count: number) {
  const bodies = await eventBodies(registry, repository, count)
  return bodies.map((body) => JSON.parse(body)).filter(({ type }) => type.startsWith('build.'))
}

describe('a failed build', () => {
  const report = (repository: string, parts: Record<string, string | Blob>) => {
    const form = new FormData()
    for (const [name, value] of Object.entries(parts)) {
      if (typeof value === 'string') form.append(name, value)
      else form.append(name, value, name)
    }
    return first.request(registry, `/api/v1/repositories/${repository}/builds`, {
      method: 'POST',
      body: form,
    })
  }
  const CONSOLE = 'opam install hello-key\n\u001b[31m<script>error</script>\u001b[0m\n'

  it('is kept with its console, script and inputs', async () => {
    const repository = newRepository()
    const inputs = Object.fromEntries(
      ['opam-switch', 'system-packages', 'build-environment'].map((role) => [
        role,
        formOf('hello-key-1').get(role) as Blob,
      ]),
    )
    const answer = await report(repository, {
      console: new Blob([CONSOLE]),
      script: new Blob(['orb build hello-key\n']),
      ...inputs,
      result: 'failed',
      'exit-code': '20',
      platform: 'freebsd-14',
      started: '2026-11-29T10:00:00Z',
      finished: '2026-11-29T10:04:02Z',
    })
    expect(answer.status).toBe(201)
    const { build, inputId, digest } = (await answer.json()) as Record<string, string>
    expect(inputId).toBe(expectedOf('hello-key-1').input_id)
    expect(answer.headers.get('location')).toBe(
      `/api/v1/repositories/${repository}/builds/${build}`,
    )
    const described = {
      ...{ repository, id: build, result: 'failed', exitCode: 20, signal: null, message: null },
      ...{ builder: first.name, platform: 'freebsd-14', inputId, digest, kernel: null },
      startedAt: '2026-11-29T10:00:00.000Z',
      finishedAt: '2026-11-29T10:04:02.000Z',
    }
    expect(await ask(registry, `repositories/${repository}/builds/${build}`)).toMatchObject(
      described,
    )
    const console = await registry.anonymous(
      `/api/v1/repositories/${repository}/builds/${build}/console`,
    )
    expect(console.headers.get('content-type')).toBe('text/plain; charset=utf-8')
    expect(console.headers.get('content-security-policy')).toContain('sandbox')
    expect(console.headers.get('x-content-type-options')).toBe('nosniff')
    expect(await console.text()).toBe(CONSOLE)
    const part = await registry.anonymous(
      `/api/v1/repositories/${repository}/builds/${build}/script`,
      { headers: { range: 'bytes=0-2' } },
    )
    expect([part.status, await part.text()]).toEqual([206, 'orb'])
    expect(await buildEvents(repository, 2)).toMatchObject([
      {
        type: 'build.failed',
        data: { actor: first.name, build, result: 'failed', exitCode: 20, platform: 'freebsd-14' },
      },
    ])
    expect((await ask(registry, `repositories/${repository}/images`)).images).toEqual([])
  })

  it('is in the list of its result and platform, and among the builds of its inputs', async () => {
    const repository = newRepository()
    await first.push(registry, repository, 'v1')
    await report(repository, { console: new Blob(['x']), platform: 'debian-12' })
    const listed = async (query: string) =>
      (await ask(registry, `repositories/${repository}/builds${query}`)).builds.length
    expect(await listed('')).toBe(2)
    expect(await listed('?result=failed')).toBe(1)
    expect(await listed('?platform=debian-12')).toBe(2)
    expect(await listed(`?input=${expectedOf('hello-key-1').input_id}`)).toBe(1)
    expect(await listed(`?builder=${second.name}`)).toBe(0)
    expect(await listed('?n=1')).toBe(1)
  })

  it.each([
    [{ console: new Blob(['x']), kernel: new Blob(['x']) }, /a failed build has no kernel/],
    [{ result: 'failed' }, /has no file/],
    [{ console: new Blob(['x']), result: 'succeeded' }, /must be one of failed, signalled, error/],
    [{ console: new Blob(['x']), 'exit-code': '0' }, /must not be 0/],
    [{ console: new Blob(['x']), 'exit-code': '-1' }, /must be a number/],
    [{ console: new Blob(['x']), signal: '9' }, /does not belong to this result/],
    [{ console: new Blob(['x']), platform: 'Debian 12' }, /must be a word such as debian-12/],
    [{ console: new Blob(['x']), started: 'now' }, /must be a time/],
    [{ console: new Blob(['x']), reason: 'x' }, /must be one of/],
    [
      {
        console: new Blob(['x']),
        started: '2026-01-02T00:00:00Z',
        finished: '2026-01-01T00:00:00Z',
      },
      /is before it started/,
    ],
  ] as [Record<string, string | Blob>, RegExp][])(
    'is refused when it contradicts itself: %o',
    async (parts, reason) => {
      const repository = newRepository()
      const answer = await report(repository, parts)
      expect(answer.status).toBe(400)
      expect(await answer.text()).toMatch(reason)
      const list = await registry.request(`/api/v1/repositories/${repository}/builds`)
      expect(
        list.status === 404 || ((await list.json()) as { builds: [] }).builds.length === 0,
      ).toBe(true)
    },
  )

  it('keeps the config of the unikernel that it did not make', async () => {
    const config = new Blob([JSON.stringify({ name: 'hello', memory: 32 })])
    const answer = await report(newRepository(), { console: new Blob(['x']), config })
    expect(answer.status).toBe(201)
  })

  it('is refused as an artifact with a kernel', async () => {
    const repository = newRepository()
    await first.push(registry, repository, 'v1')
    const image = await registry.request(`/v2/${repository}/manifests/v1`)
    const manifest = { ...((await image.json()) as object), artifactType: FAILED_BUILD }
    const refused = await first.put(registry, repository, 'v2', JSON.stringify(manifest))
    expect(refused.status).toBe(400)
    expect(refused.error).toContain('is that of a failed build, but a layer is a kernel')
  })

  it('may be pushed as an artifact, with any client', async () => {
    const repository = newRepository()
    const bytes = Buffer.from('the console')
    const digest = digestOf(bytes)
    await registry.request(`/v2/${repository}/blobs/uploads/?digest=${digest}`, {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream' },
      body: bytes,
    })
    const manifest = {
      schemaVersion: 2,
      mediaType: IMAGE_MANIFEST,
      artifactType: FAILED_BUILD,
      config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf('{}'), size: 2 },
      layers: [{ mediaType: 'application/vnd.unikernel.console.v1', digest, size: bytes.length }],
      annotations: { 'vnd.unikernel.build.result': 'signalled', 'vnd.unikernel.build.signal': '9' },
    }
    await registry.request(`/v2/${repository}/blobs/uploads/?digest=${digestOf('{}')}`, {
      method: 'POST',
      headers: { 'content-type': 'application/octet-stream' },
      body: '{}',
    })
    const { build } = await second.put(registry, repository, 'failed', JSON.stringify(manifest))
    expect(await ask(registry, `repositories/${repository}/builds/${build}`)).toMatchObject({
      ...{ result: 'signalled', signal: 9, builder: second.name },
    })
  })
})

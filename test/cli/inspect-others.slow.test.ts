import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../../src/oci/media-type.ts'
import { CLAIMS, mediaTypeOf, UNIKERNEL } from '../../src/unikernel/format.ts'
import { FakeRegistry, failure, first } from '../client/fake-registry.ts'
import { EMPTY_JSON } from '../support/media-types.ts'
import { build, builder, builderOutput, elf, errorLine, printedJson } from './builder.ts'

let registry: FakeRegistry

beforeEach(async () => {
  registry = await FakeRegistry.open()
})

afterEach(() => registry.close())

const layer = (bytes: Buffer, mediaType: string, title: string) => ({
  mediaType,
  digest: registry.put(bytes),
  size: bytes.length,
  annotations: { 'org.opencontainers.image.title': title },
})

function keep(tag: string, mediaType: string, content: object): { digest: string; size: number } {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...content }))
  const digest = digestOf(bytes)
  for (const at of [tag, digest]) registry.manifests.set(at, { type: mediaType, bytes })
  return { digest, size: bytes.length }
}

const config = {
  mediaType: EMPTY_JSON,
  digest: digestOf(Buffer.from('{}')),
  size: 2,
}

const kernelOf = async (name: string) =>
  layer(await readFile(elf(name)), mediaTypeOf('kernel'), name)

describe('any registry', () => {
  it('stores a build, and inspect shows it', async () => {
    const place = `${registry.host}/hello/key:v1`
    const pushed = await printedJson(['push', build('hello-key-1'), place, 'v2'])
    expect([...registry.manifests.keys()].sort()).toEqual(['v1', 'v2', pushed.digest].sort())
    // The empty config included, which Rookery does not need.
    expect(registry.blobs.get(config.digest)?.toString()).toBe('{}')
    const shown = await printedJson(['inspect', place, '--verify'])
    expect(shown).toMatchObject({ digest: pushed.digest, inputId: pushed.inputId })
    const again = registry.seen.length
    await builderOutput(['push', build('hello-key-1'), place])
    const more = registry.seen.slice(again).map(({ method }) => method)
    expect(more.filter((method) => method === 'POST')).toEqual([])
  })

  it('that is busy gets a retry, which is reported', async () => {
    registry.interfere = first(
      1,
      ({ method }) => method === 'PUT',
      (response) => {
        const [status, headers, body] = failure(429, 'TOOMANYREQUESTS', 'slow down')
        response.writeHead(status, { ...headers, 'retry-after': '1' }).end(body)
      },
    )
    const ran = await builder(['push', build('hello-key-1'), `${registry.host}/x:v1`])
    expect(ran.status).toBe(0)
    expect(ran.stderr).toMatch(
      /^rookery: 127\.0\.0\.1:\d+ refused .*: slow down \(TOOMANYREQUESTS\); it asks for a wait of 1 s; retrying in 1 s\n$/,
    )
  })

  it('serves ranges: a large kernel is not read as a whole', async () => {
    const kernel = Buffer.concat([await readFile(elf('mini-net.hvt')), Buffer.alloc(20_000_000)])
    keep('v1', IMAGE_MANIFEST, {
      artifactType: UNIKERNEL,
      config,
      layers: [layer(kernel, mediaTypeOf('kernel'), 'large.hvt')],
    })
    expect(await printedJson(['inspect', `${registry.host}/x:v1`])).toMatchObject({ target: 'hvt' })
    const ranges = registry.seen.flatMap(({ headers }) => headers.range ?? [])
    expect(ranges.length).toBeGreaterThan(0)
    expect(ranges.length).toBeLessThanOrEqual(4)
  })
})

describe('an image that no registry validated', () => {
  it('is shown with its contradiction, and a status for scripts', async () => {
    keep('v1', IMAGE_MANIFEST, {
      artifactType: UNIKERNEL,
      config,
      layers: [await kernelOf('mini-net.hvt')],
      annotations: { [CLAIMS.target]: 'spt' },
    })
    const ran = await builder(['inspect', `${registry.host}/x:v1`])
    expect(ran).toMatchObject({ status: 1, stderr: '' })
    expect(ran.stdout).toMatch(/^wrong .*vnd\.unikernel\.target says spt, but the image has hvt$/m)
  })

  it('is shown with a contradiction to its index', async () => {
    const child = keep('one', IMAGE_MANIFEST, {
      artifactType: UNIKERNEL,
      config,
      layers: [await kernelOf('mini-net.hvt')],
    })
    const platform = { os: 'solo5', architecture: 'arm64', variant: 'hvt' }
    const manifests = [{ mediaType: IMAGE_MANIFEST, ...child, platform }]
    keep('all', IMAGE_INDEX, { manifests })
    const ran = await builder(['inspect', `${registry.host}/x:all`, '--json'])
    expect(ran.status).toBe(1)
    expect(JSON.parse(ran.stdout).contradiction).toMatch(/says aarch64, but the image has x86_64/)
  })

  it('with bytes of other digests is refused', async () => {
    await builderOutput(['push', build('hello-key-1'), `${registry.host}/x:v1`])
    const file = await readFile(join(build('hello-key-1'), 'system-packages'))
    registry.blobs.set(digestOf(file), Buffer.from(file.toString().replace('bash', 'bush')))
    const place = ['inspect', `${registry.host}/x:v1`]
    expect(await errorLine(place)).toMatch(/the blob sha256:[0-9a-f]+ has other bytes/)
    registry.blobs.set(digestOf(file), file)
    const kernel = await readFile(join(build('hello-key-1'), 'bin/hello-key.hvt'))
    const changed = Buffer.from(kernel)
    changed.writeUInt8(changed.readUInt8(changed.length - 1) ^ 1, changed.length - 1)
    registry.blobs.set(digestOf(kernel), changed)
    expect(await errorLine([...place, '--verify'])).toMatch(/has other bytes/)
  })

  it('is not always a unikernel', async () => {
    const readme = layer(Buffer.from('# read me'), 'text/markdown', 'README.md')
    keep('plain', IMAGE_MANIFEST, { config, layers: [readme] })
    keep('said', IMAGE_MANIFEST, { artifactType: UNIKERNEL, config, layers: [readme] })
    keep('none', IMAGE_INDEX, { manifests: [] })
    registry.manifests.set('junk', { type: IMAGE_MANIFEST, bytes: Buffer.from('junk') })
    for (const [tag, right] of [
      [
        'plain',
        /is not a unikernel image: no layer is a Solo5 kernel, and no other kind is declared$/,
      ],
      ['said', /the manifest declares a unikernel$/],
      ['none', /is not a unikernel image/],
      ['junk', /manifest invalid: body must be a JSON object/],
    ] as const) {
      expect(await errorLine(['inspect', `${registry.host}/x:${tag}`])).toMatch(right)
    }
  })

  it('is shown without the control characters of its names', async () => {
    const evil = '\u001b[2J\u202eevil.hvt'
    const kernel = layer(await readFile(elf('mini-net.hvt')), mediaTypeOf('kernel'), evil)
    const annotations = { 'org.opencontainers.image.created': '\u001b]0;x\u0007' }
    keep('v1', IMAGE_MANIFEST, { artifactType: UNIKERNEL, config, layers: [kernel], annotations })
    const shown = await builderOutput(['inspect', `${registry.host}/x:v1`])
    expect(shown).not.toMatch(/[^\P{C}\n]/u)
    expect(shown).toContain('evil.hvt')
  })
})

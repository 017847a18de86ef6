import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createUploadUrl, put } from '../auth/upload-url-client.ts'
import { expectError, newRepository, pushImageBlobs, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

// Unicode's Bidi_Control characters; U+202E shows `mth.lvh` for `hvl.htm`.
const CONTROLS = [
  ...['\u061c', '\u200e', '\u200f', '\u202a', '\u202b', '\u202c', '\u202d', '\u202e'],
  ...['\u2066', '\u2067', '\u2068', '\u2069'],
]
const TITLE = 'org.opencontainers.image.title'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry?.close())

const post = (path: string, body: unknown) =>
  registry.request(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })

describe('a text that would look different from what it is cannot be stored', () => {
  it.each(CONTROLS.map((control) => [codePointOf(control), control]))(
    '%s',
    async (_name, control) => {
      const text = `hello${control}.hvt`
      const repository = newRepository()
      const image = await pushImageBlobs(registry, repository)
      const [layer] = image.layers as Record<string, unknown>[]
      for (const manifest of [
        { ...image, layers: [{ ...layer, annotations: { [TITLE]: text } }] },
        { ...image, annotations: { [TITLE]: text } },
        { ...image, annotations: { 'org.opencontainers.image.description': text } },
        { ...image, annotations: { [text]: 'a' } },
        { ...image, mediaType: 'application/vnd.example+json', annotations: { [TITLE]: text } },
      ]) {
        const answer = await putManifest(registry, repository, 'v1', manifest)
        await expectError(answer, 400, 'MANIFEST_INVALID')
      }

      const form = new FormData()
      form.set('kernel', new Blob(['kernel']), text)
      const path = `/api/v1/repositories/${repository}/images?tag=v1`
      const built = await registry.request(path, { method: 'POST', body: form })
      await expectError(built, 400, 'REQUEST_INVALID')

      const { url } = await createUploadUrl(registry, repository)
      const uploaded = await put(`${url}/${encodeURIComponent(text)}`)
      await expectError(uploaded, 400, 'REQUEST_INVALID')

      const webhook = { name: 'hook', url: 'https://receiver.example/', repositories: ['a/**'] }
      for (const [route, body] of [
        ['webhooks', { ...webhook, description: text }],
        ['webhooks', { ...webhook, headers: { 'x-text': text } }],
        ['webhooks', { ...webhook, authentication: { oidcAudience: text } }],
        ['webhooks', { ...webhook, name: text }],
        ['webhooks', { ...webhook, repositories: [text] }],
        ['credentials', { name: text, kind: 'admin' }],
        ['policies', { name: text }],
      ] as const) {
        await expectError(await post(`/api/v1/${route}`, body), 400, 'REQUEST_INVALID')
      }
    },
  )

  it('while other letters of any script may', async () => {
    const repository = newRepository()
    const image = await pushImageBlobs(registry, repository)
    const annotations = { 'org.opencontainers.image.description': 'שלום مرحبا Grüße 你好' }
    expect((await putManifest(registry, repository, 'v1', { ...image, annotations })).status).toBe(
      201,
    )
  })
})

function codePointOf(text: string): string {
  return `U+${text.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`
}

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createUploadUrl, put } from '../auth/upload-url-client.ts'
import { builder } from '../cli/builder.ts'
import { fixtureOf, formOf, postImage } from '../images/image-fixtures.ts'
import { expectError, newRepository, pushImageBlobs, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pathOfRoute, ROUTES } from './route-paths.ts'

// Unicode's Bidi_Control characters; U+202E shows `mth.lvh` for `hvl.htm`.
const DIRECTION_CONTROLS = [
  ...['\u061c', '\u200e', '\u200f', '\u202a', '\u202b', '\u202c', '\u202d', '\u202e'],
  ...['\u2066', '\u2067', '\u2068', '\u2069'],
]
// Two names that differ in these look the same.
const INVISIBLE = ['\u200b', '\u2060', '\u2064', '\ufeff', '\ufff9', '\u{e0041}', '\u180e']
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
  it.each([...DIRECTION_CONTROLS, ...INVISIBLE].map((control) => [codePointOf(control), control]))(
    '%s',
    async (name, control) => {
      const text = `hello${control}.hvt`
      const repository = newRepository()
      const image = await pushImageBlobs(registry, repository)
      const [layer] = image.layers as Record<string, unknown>[]
      for (const manifest of [
        { ...image, layers: [{ ...layer, annotations: { [TITLE]: text } }] },
        { ...image, annotations: { [TITLE]: text } },
        { ...image, annotations: { [text]: 'a' } },
        { ...image, mediaType: 'application/vnd.example+json', annotations: { [TITLE]: text } },
      ]) {
        const answer = await putManifest(registry, repository, 'v1', manifest)
        expect(await answer.clone().text()).toContain(name)
        await expectError(answer, 400, 'MANIFEST_INVALID')
      }
      // A description is text, in which invisible characters are no problem.
      const annotations = { 'org.opencontainers.image.description': text }
      const described = await putManifest(registry, repository, 'v2', { ...image, annotations })
      expect(described.status).toBe(DIRECTION_CONTROLS.includes(control) ? 400 : 201)

      const form = new FormData()
      form.set('kernel', new Blob(['kernel']), text)
      const path = `/api/v1/repositories/${repository}/images?tag=v1`
      const built = await registry.request(path, { method: 'POST', body: form })
      await expectError(built, 400, 'REQUEST_INVALID')

      const { url } = await createUploadUrl(registry, repository)
      const uploaded = await put(`${url}/${encodeURIComponent(text)}`)
      await expectError(uploaded, 400, 'REQUEST_INVALID')

      const policy = {
        name: 'ci',
        issuer: 'https://token.actions.githubusercontent.com',
        audience: 'registry',
        conditions: { repository: 'octo/kernel' },
        repositories: ['a/b'],
        actions: ['push'],
      }
      const webhook = { name: 'hook', url: 'https://receiver.example/', repositories: ['a/**'] }
      for (const [route, body] of [
        ['webhooks', { ...webhook, description: text }],
        ['webhooks', { ...webhook, body: { text } }],
        ['webhooks', { ...webhook, body: { [text]: [] } }],
        ['webhooks', { ...webhook, headers: { 'x-text': text } }],
        ['webhooks', { ...webhook, authentication: { oidcAudience: text } }],
        ['webhooks', { ...webhook, name: text }],
        ['webhooks', { ...webhook, repositories: [text] }],
        ['credentials', { name: text, kind: 'admin' }],
        ['policies', { name: text }],
        ['policies', { ...policy, conditions: { repository: text } }],
        ['policies', { ...policy, conditions: { repository: 'octo/kernel', [text]: 'a' } }],
        ['policies', { ...policy, audience: text }],
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

describe('what is read from the bytes of a layer is shown with escapes', () => {
  const control = '\u202e'
  const evil = `a${control}b\u009b2J\u200b`
  const UNSAFE = /[\u007f-\u009f\u200b\u2028-\u202e]/
  const repository = newRepository()
  let digest: string

  beforeAll(async () => {
    const opam = String(fixtureOf('hello-key-1', 'opam-switch')).replace(
      /^( +)synopsis: "/m,
      `$1x-evil: "${evil}"\n$1synopsis: "${evil}`,
    )
    const answer = await postImage(
      registry,
      repository,
      '?tag=v1',
      formOf('hello-key-1', {
        'opam-switch': Buffer.from(opam.replaceAll('https://', `https://${evil}/`)),
        'build-environment': Buffer.from(`OS=linux\nARCH=x86_64\nEVIL=${evil}\n${evil}\n`),
        'system-packages': Buffer.from(`apt=2.6.1\nbase=1.0${evil}\n${evil}\n`),
        'build-hashes': null,
        console: Buffer.from(`booting ${evil}`),
      }),
    )
    expect(await answer.clone().text()).toContain('digest')
    digest = ((await answer.json()) as { digest: string }).digest
    // A second image, without these inputs, to compare with.
    await postImage(registry, repository, '?tag=v0', formOf('hello-key-2'))
  })

  const isJson = ({ method, path }: { method: string; path: string }) =>
    method === 'GET' && path.startsWith('/api/')

  it.each(ROUTES.filter(isJson).map(({ path }) => path))('%s', async (path) => {
    const values = {
      reference: 'v1',
      other: 'v0',
      tag: 'v1',
      digest,
      ecosystem: 'debian',
      name: 'base',
    }
    const target = pathOfRoute(path, repository, values)
    const answer = await registry.request(target, { signal: AbortSignal.timeout(20_000) })
    const type = answer.headers.get('content-type') ?? ''
    if (!type.includes('json')) return answer.body?.cancel()
    const text = await answer.text()
    expect(text).not.toMatch(UNSAFE)
    expect(() => JSON.parse(text)).not.toThrow()
  })

  it('as the facts are, and not without them', async () => {
    const path = `/api/v1/repositories/${repository}/images/v1`
    const text = await (await registry.request(path)).text()
    expect(text).toContain('\\u202e')
    expect(JSON.stringify(JSON.parse(text))).toContain(evil)
  })

  it('also by the command line', async () => {
    const image = `${new URL(registry.url).host}/${repository}:v1`
    for (const words of [
      ['inspect', image],
      ['inspect', image, '--json'],
    ]) {
      const { stdout, stderr, status } = await builder(words)
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
      expect(stdout).not.toMatch(UNSAFE)
    }
  })
})

function codePointOf(text: string): string {
  return `U+${text.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}`
}

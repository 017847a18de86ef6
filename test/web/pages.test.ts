import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ROUTES } from '../attacks/route-paths.ts'
import { ROOT } from '../house/tree.ts'
import { formOf, postImage, pushBuild } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { waitUntil } from '../support/wait-until.ts'

let registry: TestRegistry
let first: string
let second: string
const REPOSITORY = 'hello/key'
const TAG_PAGE = `/r/${REPOSITORY}/-/tags/live`

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

const text = async (path: string) => (await registry.anonymous(path)).text()

describe('an empty registry', () => {
  it('explains the first push with the lines for its address', async () => {
    const page = await text('/')
    expect(page).toContain(
      `rookery push test/fixtures/builds/hello-key-1 ${new URL(registry.url).host}/hello/key:live`,
    )
    expect(page).toContain('What you will see here')
  })
})

/** Reads again while the page says that its picture is being made. */
async function drawn(path: string): Promise<string> {
  let answer = await registry.anonymous(path)
  await waitUntil(async () => {
    if (answer.headers.has('refresh')) answer = await registry.anonymous(path)
    return !answer.headers.has('refresh')
  })
  return answer.text()
}

describe('pages', () => {
  beforeAll(async () => {
    first = await pushBuild(registry, REPOSITORY, 'live', 'hello-key-1')
    second = await pushBuild(registry, REPOSITORY, 'live', 'hello-key-2')
  })

  it('are described, each with its question', () => {
    const described = readFileSync(join(ROOT, 'spec/pages.md'), 'utf8')
    const paths = [...described.matchAll(/^\| `([^`]+)` \|/gm)].map(([, path]) => path)
    const served = ROUTES.filter(({ page, path }) => page && !path.startsWith('/assets/'))
    expect(paths.sort()).toEqual(served.map(({ path }) => path).sort())
  })

  it('show what is live, and where it pointed before', async () => {
    expect(await text('/')).toContain(`href="/r/${REPOSITORY}"`)
    expect(await text(`/r/${REPOSITORY}`)).toContain(`href="${TAG_PAGE}"`)
    expect(await text(`/r/${REPOSITORY}/-/tags`)).toContain(second)
    const page = await text(TAG_PAGE)
    expect(page).toContain(first)
    expect(page.indexOf(second)).toBeLessThan(page.lastIndexOf(first))
    expect(page).toContain(`/r/${REPOSITORY}/-/compare/${first}...${second}`)
  })

  it('draw the dependencies of an image, and say why a package is in it', async () => {
    const path = `/r/${REPOSITORY}/-/images/${first}/graph`
    const page = await drawn(path)
    expect(page.match(/<rect /g)).toHaveLength(39)
    expect(page).toContain('<a href="?package=lwt"')
    const why = await text(`${path}?package=lwt`)
    expect(why.replaceAll(/<[^>]+>/g, '')).toContain(
      'hello-key 1.0.0 → mirage-runtime 4.11.0 → lwt 6.1.2',
    )
    expect(why).toContain('<svg ')
    expect(await text(`${path}?package=no-such`)).toContain('has no package no-such')
    expect((await registry.anonymous(`${path}?package=a%20b`)).status).toBe(400)
  })

  it('draw what takes the room, or say why there is no picture', async () => {
    const page = await drawn(`/r/${REPOSITORY}/-/images/${first}/size`)
    expect(page).toContain('<svg ')
    expect(page).toContain('<title>without a symbol / .text: 128 KiB</title>')
    const form = formOf('hello-key-2', { debug: Buffer.from('#!/bin/sh\n') })
    const pushed = await postImage(registry, REPOSITORY, '?tag=no-twin', form)
    expect(pushed.status).toBe(201)
    const { digest } = (await pushed.json()) as { digest: string }
    const none = await drawn(`/r/${REPOSITORY}/-/images/${digest}/size`)
    expect(none).toContain('is not an ELF executable')
  })

  it.each(['/', `/r/${REPOSITORY}`, `/r/${REPOSITORY}/-/tags`, TAG_PAGE])(
    'name their facts as JSON, and are 304 until they change: %s',
    async (path) => {
      const answer = await registry.anonymous(path)
      expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8')
      const [, json = ''] =
        /<([^>]+)>; rel="alternate"; type="application\/json"/.exec(
          answer.headers.get('link') ?? '',
        ) ?? []
      // The catalog answers only clients of the token protocol.
      expect((await registry.request(json)).status).toBe(200)
      const etag = answer.headers.get('etag') ?? ''
      const again = await registry.anonymous(path, { headers: { 'if-none-match': etag } })
      expect([again.status, await again.text()]).toEqual([304, ''])
      expect((await answer.text()).length).toBeLessThan(20_000)
    },
  )

  it('change with the facts', async () => {
    const etag = async () => (await registry.anonymous(TAG_PAGE)).headers.get('etag')
    const before = await etag()
    await pushBuild(registry, REPOSITORY, 'live', 'hello-key-1')
    expect(await etag()).not.toBe(before)
  })

  it('move a tag back by a form, and show the tag then', async () => {
    const answer = await registry.request(`${TAG_PAGE}/rollback`, {
      method: 'POST',
      body: new URLSearchParams({ digest: second }),
    })
    expect([answer.status, answer.headers.get('location')]).toEqual([303, TAG_PAGE])
    const manifest = await registry.anonymous(`/v2/${REPOSITORY}/manifests/live`)
    expect(manifest.headers.get('docker-content-digest')).toBe(second)
    const page = await (await registry.request(TAG_PAGE)).text()
    expect(page).toContain('set back')
    // The present image needs no button, also where the tag had it before.
    expect(page).not.toContain(`value="${second}"`)
  })

  it('offer the form only to a reader who may move the tag', async () => {
    expect(await text(TAG_PAGE)).not.toContain('<form class="action"')
    expect(await (await registry.request(TAG_PAGE)).text()).toContain('<form class="action"')
  })
})

describe('errors of pages', () => {
  it.each([
    ['/r/no/such', 404],
    ['/r/UPPER', 400],
    [`/r/${REPOSITORY}/-/tags/never`, 404],
    ['/nowhere', 404],
  ])('are pages: %s', async (path, status) => {
    const answer = await registry.anonymous(path, { headers: { accept: 'text/html' } })
    expect(answer.status).toBe(status)
    expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8')
    const page = await answer.text()
    expect(page).toContain('<h1>')
    expect(page).toContain(answer.headers.get('x-request-id'))
  })

  it('hide a private repository as one that does not exist', async () => {
    await pushBuild(registry, 'secret/key', 'live', 'hello-key-1')
    await registry.request('/api/v1/repositories/secret/key/settings', {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ visibility: 'private' }),
    })
    const of = async (name: string) => {
      const answer = await registry.anonymous(`/r/${name}`)
      const page = (await answer.text()).replaceAll(encodeURIComponent(name), 'NAME')
      return [answer.status, page.replace(/<code>[0-9a-f-]{36}/, ''), answer.headers.get('link')]
    }
    expect(await of('secret/key')).toEqual(await of('secret/non'))
    expect((await of('secret/key'))[0]).toBe(404)
    expect(await text('/')).not.toContain('secret/key')
  })

  it('send a reader without a login to the form, and back', async () => {
    const answer = await registry.anonymous(`${TAG_PAGE}/rollback`, {
      method: 'POST',
      body: new URLSearchParams({ digest: first }),
    })
    expect([answer.status, answer.headers.get('location')]).toEqual([303, '/login?next=%2F'])
  })

  it('stay JSON for clients of the API', async () => {
    const answer = await registry.anonymous('/v2/nothing', { headers: { accept: 'text/html' } })
    expect(answer.headers.get('content-type')).toContain('application/json')
  })
})

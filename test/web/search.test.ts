import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expectedOf, newestBuild, pushBuild } from '../images/image-fixtures.ts'
import { enrolHost } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let image: string
let build: string
let hidden: string
const { input_id: INPUTS, main_binary_sha256: KERNEL } = expectedOf('hello-key-1')
const SECRET = expectedOf('hello-key-2')

beforeAll(async () => {
  registry = await startRegistry()
  image = await pushBuild(registry, 'hello/key', 'live', 'hello-key-1')
  build = await newestBuild(registry, 'hello/key')
  hidden = await pushBuild(registry, 'secret/key', 'concealed', 'hello-key-2')
  await registry.request('/api/v1/repositories/secret/key/settings', {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ visibility: 'private' }),
  })
  await enrolHost(registry, { name: 'web-1' })
})

afterAll(() => registry.close())

const pathOf = (text: string) => `/search?${new URLSearchParams({ q: text })}`

/** Where the search leads a caller, or the names on its page. */
async function found(text: string, as: 'anonymous' | 'request' = 'anonymous') {
  const answer = await registry[as](pathOf(text), { redirect: 'manual' })
  if (answer.status === 303) return answer.headers.get('location')
  expect(answer.status).toBe(200)
  const page = await answer.text()
  return [...page.matchAll(/<th scope="row"><a href="([^"]*)"/g)].map(([, href]) => href)
}

describe('the search', () => {
  it('leads to the page of one exact hit', async () => {
    const hex = image.slice('sha256:'.length)
    const imagePage = `/r/hello/key/-/images/${image}`
    for (const [text, page] of [
      [image, imagePage],
      [image.slice(0, 20), imagePage],
      [hex.slice(0, 8), imagePage],
      [`hello/key@${image}`, imagePage],
      [`${KERNEL}`, `/kernels/sha256:${KERNEL}`],
      [INPUTS, `/inputs/${INPUTS}`],
      ['live', '/r/hello/key/-/tags/live'],
      ['hello/key:live', '/r/hello/key/-/tags/live'],
      [`${new URL(registry.url).host}/hello/key:live`, '/r/hello/key/-/tags/live'],
      ['hello/key', '/r/hello/key'],
      ['bigstringaf', '/packages/opam/bigstringaf'],
      [build, `/r/hello/key/-/builds/${build}`],
    ] as const) {
      expect([text, await found(text)]).toEqual([text, page])
    }
  })

  it('leads to a package with a constraint', async () => {
    expect(await found('mirage-crypto<2.1')).toBe('/packages/opam/mirage-crypto?version=%3C2.1')
    expect(await found('tls >= 1 & < 2')).toBe('/packages/opam/tls?version=%3E%3D+1+%26+%3C+2')
    expect(await found('deb gcc')).toBe('/packages/deb/gcc')
    expect((await registry.anonymous(pathOf('tls <'))).status).toBe(400)
  })

  it('lists what begins with the text', async () => {
    expect(await found('hel')).toEqual(['/r/hello/key'])
    await pushBuild(registry, 'hello/key2', 'main', 'hello-key-1')
    expect(await found('hello/key')).toEqual(['/r/hello/key', '/r/hello/key2'])
    expect(await found(image)).toHaveLength(2)
  })

  it('finds what only some may see, for them alone', async () => {
    for (const [text, page] of [
      [hidden, `/r/secret/key/-/images/${hidden}`],
      ['concealed', '/r/secret/key/-/tags/concealed'],
      ['secret/key', '/r/secret/key'],
      ['secret/key:concealed', '/r/secret/key/-/tags/concealed'],
      [SECRET.input_id, `/inputs/${SECRET.input_id}`],
      [SECRET.main_binary_sha256, `/kernels/sha256:${SECRET.main_binary_sha256}`],
      ['web-1', '/hosts/web-1'],
    ] as const) {
      expect([text, await found(text)]).toEqual([text, []])
      expect([text, await found(text, 'request')]).toEqual([text, page])
    }
  })

  it.each([
    '',
    ' ',
    "' or 1=1; drop table tags; --",
    '%',
    '_______',
    '\\',
    '<script>alert(1)</script>',
    '"><img src=x onerror=alert(1)>',
    '\u202egpj.exe',
    '../../etc/passwd',
    'a'.repeat(600),
    '0'.repeat(64),
    '👻',
  ])('says for %j what can be searched', async (text) => {
    const answer = await registry.anonymous(pathOf(text))
    const page = await answer.text()
    expect([text, answer.status]).toEqual([text, 200])
    expect(page).toContain('What can be searched')
    expect(page).not.toMatch(/<script>|<img|\u202e/)
  })

  it.each(['a'.repeat(10_000), '\0', '\0hello'])('refuses a text that is none', async (text) => {
    const answer = await registry.anonymous(pathOf(text))
    expect(answer.status).toBe(400)
    expect(answer.headers.get('content-type')).toContain('text/html')
  })
})

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeCredential } from '../auth/credentials-client.ts'
import { cookieOf, logIn, nameOnPage, sendForm, sendLogin } from '../auth/session-client.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pathOfRoute, ROUTES } from './route-paths.ts'

/** Request ids, and values that are encrypted or signed for each answer. */
const OWN_WORDS = /[\w-]{36}|"(?:token|access_token|issued_at|cursor)":"[^"]*"/g

let registry: TestRegistry
let cookie: string

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_DEFAULT_VISIBILITY: 'private' })
  cookie = await logIn(registry, { name: 'admin', secret: registry.password })
})

afterAll(() => registry?.close())

describe('the cookie of an administrator', () => {
  /** Status, body and challenge of an answer, without what each request has of its own. */
  async function answerOf(method: string, path: string, headers: Record<string, string>) {
    const answer = await registry.anonymous(path, { method, headers })
    const body = (await answer.text()).replace(OWN_WORDS, '')
    return [
      answer.status,
      body,
      answer.headers.get('www-authenticate'),
      answer.headers.has('set-cookie'),
    ]
  }

  it('changes nothing on any route that is no page', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'v1')
    const others = ROUTES.filter(({ page }) => !page)
    expect(others.length).toBeGreaterThan(90)
    const values = { reference: 'v1', other: 'v1', tag: 'v1' }
    for (const { method, path } of others) {
      const target = pathOfRoute(path, repository, values)
      if (/healthz|readyz/.test(target)) continue
      for (const sent of method === 'GET' ? ['GET', 'HEAD'] : [method]) {
        const without = await answerOf(sent, target, {})
        const withCookie = await answerOf(sent, target, { cookie })
        expect([sent, target, ...withCookie]).toEqual([sent, target, ...without])
      }
    }
  })

  it('changes nothing on unknown paths', async () => {
    for (const path of [
      '/v2/nothing',
      '/api/v1/nothing',
      '/api',
      '/token/x',
      '/v2/_catalog/',
      '/v3',
    ]) {
      for (const method of ['GET', 'HEAD', 'POST', 'DELETE']) {
        const without = await answerOf(method, path, {})
        expect([path, ...(await answerOf(method, path, { cookie }))]).toEqual([path, ...without])
      }
    }
  })

  it('opens on every page what the login opens by a header, and no more', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'v1')
    const pages = ROUTES.filter(({ page, path }) => page && !/^\/log(in|out)$/.test(path))
    const values = { reference: 'v1', other: 'v1', tag: 'v1' }
    const credentials = [
      { kind: 'admin' as const },
      { repositories: [repository], actions: ['pull'] },
      { repositories: [repository], actions: ['pull', 'push', 'admin'] },
      { repositories: ['elsewhere'], actions: ['pull', 'push'] },
    ]
    const seen = new Set<number>()
    for (const credential of credentials) {
      const { name, secret } = await makeCredential(registry, { repositories: [], ...credential })
      const authorization = `Basic ${Buffer.from(`${name}:${secret}`).toString('base64')}`
      const session = await logIn(registry, { name, secret })
      for (const { method, path } of pages) {
        const target = pathOfRoute(path, repository, values)
        const statusOf = async (headers: Record<string, string>) =>
          (await registry.anonymous(target, { method, headers })).status
        const status = await statusOf({ authorization })
        expect([method, target, await statusOf({ cookie: session })]).toEqual([
          method,
          target,
          status,
        ])
        seen.add(status)
      }
    }
    expect([...seen]).toEqual(expect.arrayContaining([200, 403, 404]))
  })

  it('gives way to an Authorization header', async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['a/**'],
      actions: ['pull'],
    })
    const basic = `Basic ${Buffer.from(`${name}:${secret}`).toString('base64')}`
    const answer = await registry.anonymous('/', { headers: { cookie, authorization: basic } })
    const text = await answer.text()
    expect(text).toContain(name)
    expect(text).not.toContain('admin</')
    const wrong = { cookie, authorization: 'Basic eDp5' }
    expect((await registry.anonymous('/', { headers: wrong })).status).toBe(401)
  })

  it('is found among others, and a broken one is none', async () => {
    expect(await nameOnPage(registry, `a=b; ${cookie}; c="d"`)).toBe('admin')
    for (const broken of [
      cookie.slice(0, -1),
      `${cookie}0`,
      cookie.replace('rks_', 'rky_'),
      cookie.replace('rookery=', 'rookery2='),
      cookie.replace('rookery=', 'Rookery='),
      'rookery=',
      'rookery',
      ';;;',
      `rookery=${'x'.repeat(8000)}`,
    ]) {
      expect([broken, await nameOnPage(registry, broken)]).toEqual([broken, undefined])
    }
  })
})

describe('a link to the form', () => {
  const FOREIGN = [
    ...[
      '//evil.example',
      '///evil.example',
      '/\\evil.example',
      '\\\\evil.example',
      '/%2Fevil.example',
    ],
    ...[
      '/%2f%2fevil.example',
      '/%5Cevil.example',
      '/%5c',
      '/%252Fevil.example',
      '/%09/evil.example',
    ],
    ...['http://evil.example', 'https:evil.example', 'https:/evil.example', 'HTTPS://evil.example'],
    ...['javascript:alert(1)', 'data:text/html,x', 'evil.example', '', ' /', '/\t/evil.example'],
    ...['/\n/evil.example', '\t//evil.example', '/\u2215evil', '/é', '@evil.example'],
    ...['/.//evil.example', '/..//evil.example', '/a/../..//evil.example', '/%2e//evil.example'],
    ...['/x\\..\\..\\\\evil', '/login', '/login?next=/', '/logout', `/${'a'.repeat(3000)}`, '/x y'],
  ]

  it.each(FOREIGN)('leads to the start page for %j', async (next) => {
    const form = await registry.anonymous(`/login?${new URLSearchParams({ next })}`)
    expect(await form.text()).toContain('name="next" value="/"')
    const login = { name: 'admin', secret: registry.password, next }
    const answer = await sendLogin(registry, login)
    // A hidden character is refused in every form.
    if (answer.status === 400) return
    expect(answer.headers.get('location')).toBe('/')
  })

  it.each(['/', '/r/a/b', '/r/a/b/-/tags/v1?last=x%2Fy', '/search?q=a+b&n=%20', '/logins'])(
    'leads back to %j',
    async (next) => {
      const login = { name: 'admin', secret: registry.password, next }
      expect((await sendLogin(registry, login)).headers.get('location')).toBe(next)
    },
  )
})

describe('a page of another site', () => {
  const OWN = () => new URL(registry.url).origin
  const FOREIGN = (): Record<string, string>[] => [
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { 'sec-fetch-site': 'cross-site', origin: OWN() },
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { 'sec-fetch-site': 'same-origin', origin: 'null' },
    { 'sec-fetch-site': 'none', origin: 'https://evil.example' },
  ]
  const RIGHT = (): Record<string, string>[] => [
    {},
    { 'sec-fetch-site': 'same-origin' },
    { 'sec-fetch-site': 'none' },
    { origin: OWN() },
    { 'sec-fetch-site': 'same-origin', origin: OWN() },
  ]

  it('cannot log anybody in or out', async () => {
    const login = { name: 'admin', secret: registry.password }
    for (const headers of FOREIGN()) {
      const inside = await sendLogin(registry, login, headers)
      expect([headers, inside.status, inside.headers.getSetCookie()]).toEqual([headers, 403, []])
      const out = await sendForm(registry, '/logout', {}, { ...headers, cookie })
      expect([headers, out.status, out.headers.getSetCookie()]).toEqual([headers, 403, []])
    }
    expect(await nameOnPage(registry, cookie)).toBe('admin')
  })

  it('while the own pages can, and clients that are no browsers', async () => {
    const login = { name: 'admin', secret: registry.password }
    for (const headers of RIGHT()) {
      const made = cookieOf(await sendLogin(registry, login, headers))
      const out = await sendForm(registry, '/logout', {}, { ...headers, cookie: made })
      expect([headers, out.status]).toEqual([headers, 303])
      expect(await nameOnPage(registry, made)).toBeUndefined()
    }
  })
})

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generateSecret } from '../../src/auth/secrets.ts'
import { enrolHost } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { basic, makeCredential, openTokenMinter, requestToken } from './credentials-client.ts'
import {
  cookieOf,
  logIn,
  nameOnPage,
  type SentHeaders,
  sendForm,
  sendLogin,
} from './session-client.ts'

let registry: TestRegistry
let builder: { name: string; secret: string }

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_TRUSTED_PROXIES: '127.0.0.1' })
  builder = await makeCredential(registry, { repositories: ['a/**'], actions: ['push'] })
})

afterAll(() => registry?.close())

const get = (path: string, headers: SentHeaders = {}) =>
  fetch(new URL(path, registry.url), { redirect: 'manual', headers })
const admin = () => ({ name: 'admin', secret: registry.password })

/** Returns the audit log's newest entries of an action. */
async function entriesOf(action: string): Promise<object[]> {
  const answer = await registry.request(`/api/v1/audit?action=${action}`)
  return ((await answer.json()) as { entries: object[] }).entries
}

describe('a person logs in', () => {
  it('with the password of the administrator, and comes back to the page', async () => {
    const form = await get('/login?next=/r/a/b?last=x')
    expect(form.status).toBe(200)
    expect(await form.text()).toContain('<input type="hidden" name="next" value="/r/a/b?last=x"')
    const answer = await sendLogin(registry, { ...admin(), next: '/r/a/b?last=x' })
    expect([answer.status, answer.headers.get('location')]).toEqual([303, '/r/a/b?last=x'])
    expect(answer.headers.get('cache-control')).toBe('no-store')
    expect(await nameOnPage(registry, cookieOf(answer))).toBe('admin')
  })

  it('with a credential, with its secret alone, or with a token in place of both', async () => {
    const token = await requestToken(registry, basic(builder.name, builder.secret))
    for (const login of [
      builder,
      { ...builder, name: ` ${builder.name} ` },
      { secret: builder.secret },
      { secret: token },
      { name: 'token', secret: token },
    ]) {
      expect(await nameOnPage(registry, await logIn(registry, login))).toBe(builder.name)
    }
  })

  it('and gets a new secret each time, also with a cookie that somebody planted', async () => {
    const planted = `rookery=rks_${'a'.repeat(43)}_00000000`
    const first = await logIn(registry, builder, { cookie: planted })
    const second = await logIn(registry, admin(), { cookie: first })
    expect(new Set([planted, first, second]).size).toBe(3)
    expect(second).toMatch(/^rookery=rks_[\w-]{43}_[0-9a-f]{8}$/)
    // The login replaced the earlier one, also for somebody who kept its cookie.
    expect(await nameOnPage(registry, first)).toBeUndefined()
    expect(await nameOnPage(registry, second)).toBe('admin')
    expect(await nameOnPage(registry, planted)).toBeUndefined()
  })

  it('and the audit log has the login and the logout', async () => {
    const cookie = await logIn(registry, builder, { 'x-forwarded-for': '::1' })
    await sendForm(registry, '/logout', {}, { cookie })
    const entry = {
      decision: 'allowed',
      actor: builder.name,
      origin: expect.stringMatching(/^credential:/),
      requestId: expect.any(String),
    }
    expect((await entriesOf('login'))[0]).toMatchObject({ ...entry, address: '::1' })
    expect((await entriesOf('logout'))[0]).toMatchObject({ ...entry, address: '127.0.0.1' })
  })
})

describe('a login that is wrong', () => {
  it('is 403 on the form, which does not say what was wrong', async () => {
    const texts = new Set<string>()
    for (const login of [
      { name: builder.name, secret: 'mistyped' },
      { name: 'nobody', secret: builder.secret },
      { name: 'nobody', secret: 'mistyped' },
      { name: 'admin', secret: builder.secret },
      { name: 'admin', secret: 'mistyped' },
      { name: '', secret: 'mistyped' },
    ]) {
      const answer = await sendLogin(registry, { ...login, next: '/r/a/b' })
      expect(answer.status).toBe(403)
      expect(answer.headers.getSetCookie()).toEqual([])
      expect(answer.headers.has('www-authenticate')).toBe(false)
      const text = await answer.text()
      expect(text).toContain('name="next" value="/r/a/b"')
      expect(text).not.toContain(login.secret)
      texts.add(/<p class="error"[^>]*>([^<]*)/.exec(text)?.[1] ?? text)
    }
    expect([...texts]).toEqual(['Not logged in: wrong user name or password.'])
  })

  it('is in the audit log without the secret', async () => {
    const name = 'somebody'
    await sendLogin(registry, { name, secret: 'a-mistyped-secret' })
    await expect
      .poll(async () => JSON.stringify(await entriesOf('authenticate')))
      .toContain('POST /login: wrong user name or password')
    expect(JSON.stringify(await entriesOf('authenticate'))).not.toContain('mistyped')
    expect(registry.log.join('')).not.toMatch(/mistyped|rk[a-z]_/)
  })

  it('waits after twenty guesses, and a valid secret never waits', async () => {
    const from = { 'x-forwarded-for': '127.0.0.9' }
    const guess = (secret: string) => sendLogin(registry, { name: builder.name, secret }, from)
    for (let count = 0; count < 20; count += 1) expect((await guess(`x${count}`)).status).toBe(403)
    const waits = await guess('one more')
    expect(waits.status).toBe(429)
    expect(waits.headers.get('retry-after')).toMatch(/^[1-9]$/)
    const text = await waits.text()
    expect(text).toMatch(/too many failed logins from 127.0.0.9, try again in \d s/)
    expect(text).toContain(`value="${builder.name}"`)
    expect(await nameOnPage(registry, await logIn(registry, builder, from), from)).toBe(
      builder.name,
    )
  })

  it('shows the name again as text', async () => {
    const name = '"><script>alert(1)</script>'
    const text = await (await sendLogin(registry, { name, secret: 'x' })).text()
    expect(text).not.toContain('<script>alert')
    expect(text).toContain('&lt;script')
  })

  it('has a reason that the person may know, for a secret that was right', async () => {
    const gone = await makeCredential(registry, { repositories: ['a/**'], actions: ['push'] })
    await registry.request(`/api/v1/credentials/${gone.name}`, { method: 'DELETE' })
    const minter = await openTokenMinter(registry)
    const expired = await minter.tokens.mint({ subject: 'x', access: [] }, -1)
    await minter.close()
    const nobody = await requestToken(registry, undefined)
    const host = await enrolHost(registry, { repositories: ['a/*'] })
    for (const [login, reason] of [
      [gone, 'the credential was revoked'],
      [{ secret: expired.token }, 'has expired'],
      [{ secret: nobody }, 'this login names nobody'],
      [{ secret: await host.token() }, 'this login is for a host'],
      [{ secret: '', name: 'admin' }, 'wrong user name or password'],
      [{ secret: '', name: '' }, 'this login names nobody'],
    ] as const) {
      const answer = await sendLogin(registry, login)
      const text = await answer.text()
      expect([answer.status, text]).toEqual([403, expect.stringContaining(reason)])
      expect(answer.headers.getSetCookie()).toEqual([])
    }
  })

  it('is 400 when it is no form, or has other fields', async () => {
    for (const [type, body] of [
      ['application/json', JSON.stringify(admin())],
      ['text/plain', `name=admin&secret=${registry.password}`],
      ['multipart/form-data; boundary=b', '--b--'],
      ['application/x-www-form-urlencoded', `name=admin&secret=${registry.password}&role=root`],
      ['application/x-www-form-urlencoded', `name=a&name=admin&secret=${registry.password}`],
      ['application/x-www-form-urlencoded', 'name=admin'],
      ['application/x-www-form-urlencoded', ''],
    ] as const) {
      const headers = { 'content-type': type }
      const answer = await fetch(new URL('/login', registry.url), { method: 'POST', headers, body })
      expect([type, answer.status]).toEqual([type, 400])
      expect(answer.headers.getSetCookie()).toEqual([])
    }
  })
})

describe('a form that is too long', () => {
  it('is refused before it is read, or as a wrong login', async () => {
    const secret = 'x'.repeat(60_000)
    expect((await sendLogin(registry, { name: 'admin', secret })).status).toBe(403)
    expect((await sendLogin(registry, { name: secret, secret: 'x' })).status).toBe(403)
    expect((await sendLogin(registry, { name: 'admin', secret: secret + secret })).status).toBe(413)
  })
})

describe('the cookie', () => {
  const overHttps = (address: string): SentHeaders => ({
    'x-forwarded-for': address,
    'x-forwarded-proto': 'https',
    'x-forwarded-host': 'registry.example.org',
  })

  it('over https belongs to this host, and goes to no script, no other site and no plain http', async () => {
    const answer = await sendLogin(registry, builder, overHttps('192.0.2.1'))
    const [cookie, ...others] = answer.headers.getSetCookie()
    expect(others).toEqual([])
    expect(cookie?.split('; ').sort()).toEqual([
      'HttpOnly',
      expect.stringMatching(/^Max-Age=604(800|799)$/),
      'Path=/',
      'SameSite=Lax',
      'Secure',
      expect.stringMatching(/^__Host-rookery=rks_/),
    ])
    const sent = cookieOf(answer)
    expect(await nameOnPage(registry, sent, overHttps('192.0.2.1'))).toBe(builder.name)
    // Under the other name, a parent domain could have set it.
    const renamed = sent.replace('__Host-', '')
    expect(await nameOnPage(registry, renamed, overHttps('192.0.2.1'))).toBeUndefined()
  })

  it('on this machine is one that browsers keep without TLS', async () => {
    for (const host of ['localhost:5000', 'me.localhost', '127.0.0.1:5000', '[::1]:5000']) {
      const answer = await sendLogin(registry, builder, { 'x-forwarded-host': host })
      const [cookie] = answer.headers.getSetCookie()
      expect([host, cookie]).toEqual([host, expect.stringMatching(/^rookery=rks_/)])
      expect(cookie).toMatch(/; HttpOnly; SameSite=Lax$/)
    }
  })

  it('over plain http from elsewhere is neither given nor accepted, and the form says why', async () => {
    const secret = await logIn(registry, builder)
    for (const sent of [
      { 'x-forwarded-for': '192.0.2.1' },
      { 'x-forwarded-for': '192.0.2.1', 'x-forwarded-host': 'localhost' },
      { 'x-forwarded-host': 'registry.example.org' },
      { 'x-forwarded-host': 'localhost.evil.example' },
      { 'x-forwarded-host': '127.0.0.1.evil.example' },
    ]) {
      const form = await get('/login', sent)
      const text = await form.text()
      expect([form.status, text]).toEqual([
        200,
        expect.stringContaining('No login over plain http'),
      ])
      expect(text).not.toContain('type="password"')
      expect(text).toContain('http://localhost:')
      const answer = await sendLogin(registry, builder, sent)
      expect([answer.status, answer.headers.getSetCookie()]).toEqual([403, []])
      expect(await answer.text()).toContain('No login over plain http')
      expect(await nameOnPage(registry, secret, sent)).toBeUndefined()
    }
  })

  it('is one of the public URL, also when the proxy does not say that it has TLS', async () => {
    const proxied = await startRegistry({ ROOKERY_PUBLIC_URL: 'https://registry.example.org' })
    try {
      const login = { name: 'admin', secret: proxied.password }
      const cookie = await logIn(proxied, login)
      expect(cookie).toMatch(/^__Host-rookery=/)
      expect(await nameOnPage(proxied, cookie)).toBe('admin')
    } finally {
      await proxied.close()
    }
  })

  it('is no guess when it has ended, and many that are unknown have to wait', async () => {
    const from = { 'x-forwarded-for': '127.0.0.8' }
    let status = 200
    for (let count = 0; count < 25 && status === 200; count += 1) {
      const cookie = `rookery=${generateSecret('session')}`
      status = (await get('/', { cookie, ...from })).status
    }
    expect(status).toBe(429)
    expect(await nameOnPage(registry, await logIn(registry, builder, from), from)).toBe(
      builder.name,
    )
  })
})

describe('what a logged-in person sees', () => {
  it('is stored nowhere, and depends on the cookie', async () => {
    const cookie = await logIn(registry, builder)
    for (const path of ['/', '/r/a/missing', '/r/a/b/-/tags']) {
      const answer = await get(path, { cookie })
      expect([path, answer.headers.get('cache-control')]).toEqual([path, 'private, no-store'])
      expect(answer.headers.get('vary')).toContain('Cookie')
      expect((await get(path)).headers.get('vary')).toContain('Cookie')
    }
  })
})

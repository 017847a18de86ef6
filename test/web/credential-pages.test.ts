import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { logIn, nameOnPage, sendForm } from '../auth/session-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const DAY_MILLISECONDS = 86_400_000

let registry: TestRegistry
let admin: string

beforeAll(async () => {
  registry = await startRegistry()
  admin = await logIn(registry, { name: 'admin', secret: registry.password })
})
afterAll(() => registry?.close())

async function page(cookie: string, path = '/credentials') {
  const answer = await registry.anonymous(path, { headers: { cookie } })
  const text = await answer.text()
  expect([answer.status, text.length < 20_000]).toEqual([200, true])
  return { headers: answer.headers, text }
}

const send = (cookie: string, path: string) => sendForm(registry, path, {}, { cookie })

/** The paths of the forms that log single browsers out. */
function endForms(text: string): string[] {
  return [...text.matchAll(/action="(\/sessions\/[0-9a-f-]{36}\/end)"/g)].map(
    ([, path]) => path ?? '',
  )
}

async function builder(more: object = {}) {
  const rights = { repositories: ['web/**'], actions: ['pull', 'push'], tags: ['v*'] }
  return makeCredential(registry, { ...rights, ...more })
}

describe('the page of credentials', () => {
  it('shows an administrator all credentials, their rights, and those that expire soon', async () => {
    const soon = await builder({
      expiresAt: new Date(Date.now() + 3 * DAY_MILLISECONDS).toISOString(),
    })
    const later = await builder({
      expiresAt: new Date(Date.now() + 90 * DAY_MILLISECONDS).toISOString(),
    })
    const { text, headers } = await page(admin)
    expect(headers.get('link')).toContain('</api/v1/credentials>; rel="alternate"')
    const [expiring = '', all = ''] = text.split('id="all"')
    expect(expiring).toContain(`${soon.name}: <time`)
    expect(expiring).not.toContain(`${later.name}: <time`)
    expect(all).toContain('expires soon')
    expect(all).toContain('pull, push in web/**, tags v*')
    for (const { name, secret } of [soon, later]) {
      expect(all).toContain(`action="/credentials/${name}/revoke"`)
      expect(text).not.toContain(secret)
    }
  })

  it('revokes a credential by a form, which ends its sessions', async () => {
    const { name, secret } = await builder()
    const cookie = await logIn(registry, { name, secret })
    expect(await nameOnPage(registry, cookie)).toBe(name)
    const answer = await send(admin, `/credentials/${name}/revoke`)
    expect([answer.status, answer.headers.get('location')]).toEqual([303, '/credentials'])
    expect(await nameOnPage(registry, cookie)).toBeUndefined()
    const { text } = await page(admin)
    expect(text).toContain('revoked')
    expect(text).not.toContain(`/credentials/${name}/revoke`)
  })

  it('shows another reader his rights and his sessions only', async () => {
    const { name, secret } = await builder()
    const cookie = await logIn(registry, { name, secret })
    const { text, headers } = await page(cookie)
    expect(headers.get('link')).toContain('</api/v1/sessions>; rel="alternate"')
    expect(text).toContain('pull, push in web/**, tags v*')
    expect(text).toContain('this one')
    expect(text).not.toContain('All credentials')
    expect(text).not.toContain('/revoke')
    expect(text).not.toContain('/sessions/end-others')
    const answer = await send(cookie, `/credentials/${name}/revoke`)
    expect(answer.status).toBe(403)
  })

  it('logs out another browser, all others, and this one', async () => {
    const { name, secret } = await builder()
    const [own, ...others] = await Promise.all(
      Array.from({ length: 4 }, () => logIn(registry, { name, secret })),
    )
    if (own === undefined) throw new Error('four logins')
    const names = () => Promise.all(others.map((cookie) => nameOnPage(registry, cookie)))
    const { text } = await page(own)
    expect(text.match(/<strong>this one<\/strong>/g)).toHaveLength(1)
    expect(endForms(text)).toHaveLength(4)
    const [row = ''] = text.split('<tr>').filter((one) => one.includes('another</th>'))
    const [end = ''] = endForms(row)
    expect((await send(own, end)).headers.get('location')).toBe('/credentials')
    expect((await names()).filter((one) => one === name)).toHaveLength(2)
    expect((await send(own, end)).status).toBe(404)
    expect((await send(own, '/sessions/end-others')).status).toBe(303)
    expect(await names()).toEqual([undefined, undefined, undefined])
    expect(await nameOnPage(registry, own)).toBe(name)
    const [last = ''] = endForms((await page(own)).text)
    expect((await send(own, last)).status).toBe(303)
    expect(await nameOnPage(registry, own)).toBeUndefined()
  })

  it('ends no session of somebody else', async () => {
    const [one, other] = await Promise.all([builder(), builder()])
    const cookie = await logIn(registry, one)
    const stranger = await logIn(registry, other)
    const [end = ''] = endForms((await page(cookie)).text)
    expect((await send(stranger, end)).status).toBe(404)
    expect(await nameOnPage(registry, cookie)).toBe(one.name)
  })

  it('is linked for everybody who is logged in, and asks others to log in', async () => {
    const linked = 'href="/credentials"'
    expect((await page(admin, '/')).text).toContain(linked)
    expect(await (await registry.anonymous('/')).text()).not.toContain(linked)
    const answer = await registry.anonymous('/credentials', { redirect: 'manual' })
    expect(answer.headers.get('location')).toBe('/login?next=%2Fcredentials')
    const { name, secret } = await builder()
    const headers = { authorization: basic(name, secret) }
    const text = await (await registry.anonymous('/credentials', { headers })).text()
    expect(text).toContain('No browser is logged in with it')
  })
})

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeCredential } from '../auth/credentials-client.ts'
import { logIn, nameOnPage } from '../auth/session-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { builderOutput, errorLine, printedJson } from './builder.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

/** The URL of the registry with a login. */
function urlOf({ name, secret }: { readonly name: string; readonly secret: string }): string {
  return registry.url.replace('://', `://${name}:${secret}@`)
}
const adminUrl = () => urlOf({ name: 'admin', secret: registry.password })

describe('rookery session', () => {
  it('lists the logins of browsers, and ends one and then all', async () => {
    const person = await makeCredential(registry, { repositories: ['a/**'], actions: ['pull'] })
    const url = urlOf(person)
    const cookies = [await logIn(registry, person), await logIn(registry, person)]
    const text = await builderOutput(['session', 'list', '-'], { input: url })
    expect(text).toMatch(/^SESSION +NAME +BEGAN +LAST USED +ENDS/)
    expect(text.match(new RegExp(`^[0-9a-f-]{36} +${person.name} `, 'gm'))).toHaveLength(2)
    const { sessions } = await printedJson(['session', 'list', '-'], { input: url })
    const ended = await builderOutput(['session', 'revoke', '-', sessions[0].id], { input: url })
    expect(ended).toBe(`Session ${sessions[0].id} ended.\n`)
    expect(await builderOutput(['session', 'revoke', '-', '--all'], { input: url })).toBe(
      '1 session ended.\n',
    )
    for (const cookie of cookies) expect(await nameOnPage(registry, cookie)).toBeUndefined()
  })

  it('ends those of another name for an administrator', async () => {
    const person = await makeCredential(registry, { repositories: ['a/**'], actions: ['pull'] })
    await logIn(registry, person)
    const { sessions } = await printedJson(['session', 'list', '-', '--actor', person.name], {
      input: adminUrl(),
    })
    expect(sessions).toHaveLength(1)
    const words = ['session', 'revoke', '-', '--all', '--actor', person.name]
    expect(await printedJson(words, { input: adminUrl() })).toEqual({ ended: 1 })
    const refused = await errorLine(['session', 'list', '-', '--actor', 'admin'], {
      input: urlOf(person),
    })
    expect(refused).toContain('only an administrator')
  })

  it('needs one session or all', async () => {
    const { host } = new URL(registry.url)
    expect(await errorLine(['session', 'revoke', host])).toContain('either SESSION or --all')
    const id = '0b7c5f6e-7d3c-4b52-9d2f-3a1f0e6c8d41'
    expect(await errorLine(['session', 'revoke', host, id, '--all'])).toContain('either SESSION')
    expect(await errorLine(['session', 'revoke', '-', id], { input: adminUrl() })).toContain(
      'no such session',
    )
  })
})

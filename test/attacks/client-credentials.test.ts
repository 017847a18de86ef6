import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Login } from '../../src/client/login.ts'
import { RegistryApi } from '../../src/client/registry-api.ts'
import { RemoteRepository } from '../../src/client/remote-repository.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { parseRepository } from '../../src/oci/reference.ts'
import { FakeRegistry } from '../client/fake-registry.ts'

const LOGIN: Login = { kind: 'password', username: 'orb', password: 'a secret of the registry' }
const BASIC = `Basic ${Buffer.from(`${LOGIN.username}:${LOGIN.password}`).toString('base64')}`
const CONTENT = Buffer.from('a kernel')
const DIGEST = digestOf(CONTENT)
const CHALLENGES = (host: string) => [
  'Basic realm="x"',
  `Bearer realm="http://${host}/token",service="x"`,
]

let registry: FakeRegistry
/** Another host to which the registry sends its client. */
let hostile: FakeRegistry
const opened: { close(): Promise<void> }[] = []

beforeEach(async () => {
  registry = await FakeRegistry.open()
  hostile = await FakeRegistry.open()
  registry.interfere = ({ headers }, response) => {
    if (headers.authorization === BASIC) return false
    response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
    return true
  }
})

afterEach(async () => {
  for (const one of opened.splice(0)) await one.close()
  await registry.close()
  await hostile.close()
})

function repository(): RemoteRepository {
  const options = { login: LOGIN, actions: 'pull,push' } as const
  const one = new RemoteRepository(registry.place, parseRepository('builds/www'), options)
  opened.push(one)
  return one
}

function api(): RegistryApi {
  const one = new RegistryApi(registry.place, { login: LOGIN })
  opened.push(one)
  return one
}

const push = () =>
  repository().putBlob(DIGEST, 'www.hvt', { size: CONTENT.length, open: () => CONTENT })
const pull = () => repository().readRange(DIGEST, 0, 3)

/** Makes the registry answer matching requests of the logged-in client. */
function answerWith(method: string, status: number, headers: Record<string, string>): void {
  const before = registry.interfere
  registry.interfere = (seen, response) => {
    if (before(seen, response)) return true
    if (seen.method !== method) return false
    response.writeHead(status, headers).end()
    return true
  }
}

/** Makes the other host refuse everything with a challenge. */
function challengeWith(challenge: string): void {
  hostile.interfere = (_seen, response) => {
    response.writeHead(401, { 'www-authenticate': challenge }).end()
    return true
  }
}

function expectNoSecret(): void {
  for (const { headers, body, query } of hostile.seen) {
    expect(headers.authorization).toBeUndefined()
    expect(`${JSON.stringify(headers)} ${body} ${query}`).not.toContain('secret')
  }
}

describe('the login of a registry', () => {
  it('is not sent to the host of a redirect, and its challenge is not answered', async () => {
    for (const status of [301, 302, 303, 307, 308]) {
      for (const challenge of CHALLENGES(hostile.host)) {
        challengeWith(challenge)
        answerWith('GET', status, { location: `http://${hostile.host}/blob` })
        await expect(pull()).rejects.toThrow(/refused bytes 0 to 3/)
        expectNoSecret()
      }
    }
    expect(hostile.count('GET', /^\/blob$/)).toBe(10)
    expect(hostile.count('GET', /token/)).toBe(0)
  })

  it('is not sent to another host that an upload names, and its challenge is not answered', async () => {
    for (const challenge of CHALLENGES(hostile.host)) {
      challengeWith(challenge)
      answerWith('POST', 202, { location: `http://${hostile.host}/upload/1` })
      await expect(push()).rejects.toThrow(/refused www\.hvt/)
      expectNoSecret()
    }
    expect(hostile.count('PUT', /^\/upload\/1$/)).toBe(2)
    expect(hostile.count('GET', /token/)).toBe(0)
  })

  it('is not sent to another host that a page names', async () => {
    answerWith('GET', 200, {})
    const before = registry.interfere
    for (const next of [`http://${hostile.host}/2`, `@${hostile.host}/2`, `.evil.invalid/2`]) {
      registry.interfere = (seen, response) => {
        if (seen.headers.authorization !== BASIC) return before(seen, response)
        response.writeHead(200, { link: `<${next}>; rel="next"` }).end('{"items":[1]}')
        return true
      }
      await expect(api().list('/api/v1/x', 'items', 'a list', 10), next).rejects.toThrow(
        /must begin with a slash/,
      )
    }
    expect(hostile.seen).toEqual([])
  })
})

it('the content of an API request does not follow a redirect to another host', async () => {
  answerWith('POST', 307, { location: `http://${hostile.host}/webhooks` })
  const body = { name: 'deploy', webhookSecret: 'a secret of the receiver' }
  await expect(api().change('/api/v1/webhooks', 'the webhook', body, {})).rejects.toThrow(
    /must not get its content/,
  )
  expect(hostile.seen).toEqual([])
})

it('a redirect to a URL that is not http is refused at once', async () => {
  for (const location of ['file:///etc/passwd', 'ftp://127.0.0.1/x', 'javascript:1', 'data:,x']) {
    answerWith('GET', 307, { location })
    const before = registry.count('GET', /blobs/)
    await expect(pull(), location).rejects.toThrow(/which must be https:\/\//)
    // The first request gets the challenge.
    expect(registry.count('GET', /blobs/)).toBe(before + 2)
  }
})

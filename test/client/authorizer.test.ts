import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Login } from '../../src/client/login.ts'
import { RemoteRepository } from '../../src/client/remote-repository.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { parseRepository } from '../../src/oci/reference.ts'
import { FakeRegistry, failure, type RecordedRequest } from './fake-registry.ts'

const PASSWORD: Login = { kind: 'password', username: 'orb', password: 'käse:1' }
const BASIC = `Basic ${Buffer.from('orb:käse:1').toString('base64')}`
const CONTENT = Buffer.from('a kernel')
const DIGEST = digestOf(CONTENT)

let registry: FakeRegistry
let repository: RemoteRepository
/** Tokens that the registry accepts, and the responses of its token endpoint. */
let believed: string
let given: number
let realm: string

beforeEach(async () => {
  registry = await FakeRegistry.open()
  believed = 'Bearer token-1'
  given = 0
  realm = `http://${registry.host}/token`
  registry.interfere = (seen, response) => {
    if (seen.path === '/token') {
      const answer = tokenFor(seen)
      if (answer === undefined) response.writeHead(401).end()
      else response.writeHead(200).end(JSON.stringify(answer))
      return true
    }
    if (seen.headers.authorization === believed) return false
    const challenge = `Bearer realm="${realm}",service="played",scope="repository:builds/www:pull"`
    response.writeHead(401, { 'www-authenticate': challenge }).end()
    return true
  }
})

afterEach(async () => {
  await repository.close()
  await registry.close()
})

function tokenFor({ headers, method, body }: RecordedRequest): object | undefined {
  given += 1
  if (method === 'POST') {
    return body.toString().includes('refresh_token=kept')
      ? { access_token: `token-${given}` }
      : undefined
  }
  return headers.authorization === BASIC ? { token: `token-${given}` } : undefined
}

function opened(login: Login | undefined): RemoteRepository {
  repository = new RemoteRepository(registry.place, parseRepository('builds/www'), {
    login,
    actions: 'pull,push',
  })
  return repository
}

const push = (login: Login | undefined) =>
  opened(login).putBlob(DIGEST, 'www.hvt', { size: CONTENT.length, open: () => CONTENT })

describe('a login', () => {
  it('with a password requests one token for all requests', async () => {
    expect(await push(PASSWORD)).toBe(true)
    expect(registry.count('GET', /^\/token$/)).toBe(1)
    const asked = registry.seen.find(({ path }) => path === '/token')
    expect(asked?.query.get('service')).toBe('played')
    expect(asked?.query.getAll('scope')).toEqual([
      'repository:builds/www:pull,push',
      'repository:builds/www:pull',
    ])
  })

  it('with an identity token exchanges it for a token', async () => {
    expect(await push({ kind: 'identity-token', token: 'kept' })).toBe(true)
    const form = new URLSearchParams(
      registry.seen.find(({ path }) => path === '/token')?.body.toString(),
    )
    expect(form.get('grant_type')).toBe('refresh_token')
    expect(form.get('scope')).toBe('repository:builds/www:pull,push repository:builds/www:pull')
  })

  it('with a token sends it from the first request on', async () => {
    expect(await push({ kind: 'token', token: 'token-1' })).toBe(true)
    expect(given).toBe(0)
  })

  it('is renewed once when the token expires during an upload', async () => {
    const before = registry.interfere
    registry.interfere = (seen, response) => {
      if (seen.method === 'PUT' && given === 1) believed = 'Bearer token-2'
      return before(seen, response)
    }
    expect(await push(PASSWORD)).toBe(true)
    expect(given).toBe(2)
    expect(registry.blobs.get(DIGEST)?.equals(CONTENT)).toBe(true)
  })

  it('is renewed once for requests that are refused together', async () => {
    const one = opened(PASSWORD)
    await Promise.all(Array.from({ length: 6 }, () => one.hasBlob(DIGEST)))
    expect(given).toBe(1)
  })

  it('that is wrong fails with an explanation and without retries', async () => {
    const wrong = push({ kind: 'password', username: 'orb', password: 'wrong' })
    await expect(wrong).rejects.toThrow(
      /refused a token: authentication required; the user orb or its password is wrong/,
    )
    expect(given).toBe(1)
    await repository.close()
    believed = 'Bearer never'
    const refused = push({ kind: 'token', token: 'token-1' })
    await expect(refused).rejects.toThrow(/the token is expired, revoked/)
  })

  it('that docker stored and that has ended fails with the command to log in again', async () => {
    const ended = push({ kind: 'identity-token', token: 'ended' })
    await expect(ended).rejects.toThrow(/; log in again: docker login 127\.0\.0\.1:\d+$/)
  })

  it('by an expired token reports the time of expiry', async () => {
    const claims = Buffer.from(JSON.stringify({ exp: 1_700_000_000 })).toString('base64url')
    const expired = push({ kind: 'token', token: `e30.${claims}.c2ln` })
    await expect(expired).rejects.toThrow('the token expired at 2023-11-14T22:13:20.000Z')
  })

  it('that is missing fails with instructions to log in', async () => {
    registry.interfere = (_seen, response) => {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
      return true
    }
    await expect(push(undefined)).rejects.toThrow(/log in: --username .* oras login 127\.0\.0\.1/)
  })

  it('by Basic is sent after a Basic challenge', async () => {
    believed = BASIC
    registry.interfere = (seen, response) => {
      if (seen.headers.authorization === believed) return false
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
      return true
    }
    expect(await push(PASSWORD)).toBe(true)
    expect(registry.seen[0]?.headers.authorization).toBeUndefined()
  })

  it('is not sent to an invalid token endpoint', async () => {
    for (const wrong of ['', 'nowhere', 'ftp://127.0.0.1/token', 'javascript:1']) {
      realm = wrong
      await expect(push(PASSWORD), wrong).rejects.toThrow(
        /as its token endpoint, which must be an https:\/\/ URL/,
      )
      await repository.close()
    }
  })

  it('fails when the token endpoint responds without a token', async () => {
    const answers = ['', '{}', '[]', 'null', '{"token":7}', '{"token":""}', '{"token":"a\\nb"}']
    for (const answer of answers) {
      registry.interfere = ({ path }, response) => {
        const challenge = { 'www-authenticate': `Bearer realm="${realm}"` }
        if (path === '/token') response.writeHead(200).end(answer)
        else response.writeHead(401, challenge).end()
        return true
      }
      await expect(push(PASSWORD), answer).rejects.toThrow(
        /the response of the token endpoint .* has no token/,
      )
      await repository.close()
    }
  })

  it('without permission fails with the message of the registry', async () => {
    registry.interfere = ({ method }, response) => {
      if (method === 'HEAD') return false
      const [status, headers, body] = failure(403, 'DENIED', 'the tag v1 is not yours')
      response.writeHead(status, headers).end(body)
      return true
    }
    await expect(push(undefined)).rejects.toThrow(/the tag v1 is not yours \(DENIED\)/)
  })
})

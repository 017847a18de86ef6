import type { RequestListener } from 'node:http'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { RegistryError } from '../../src/oci/errors.ts'
import { serve } from '../outgoing/loopback-servers.ts'
import { newKey, startIssuer, type TestIssuer } from './issuer.ts'
import { ACTOR, openTrust, policyRequest, resultOf, type Trust } from './trust-policies.ts'

let trust: Trust
let issuer: TestIssuer

beforeAll(async () => {
  trust = await openTrust()
})

afterAll(() => trust.close())

beforeEach(async () => {
  issuer = await startIssuer()
  await trust.policies.create(policyRequest(issuer, { name: `p-${trust.now()}` }), ACTOR)
})

afterEach(() => issuer.close())

const NO_KEYS = {
  code: 'UNAVAILABLE',
  message: 'the keys of the issuer cannot be fetched at the moment, try again',
}

async function exchanged(policies = trust.policies, key = issuer.key): Promise<string> {
  const now = Math.floor(trust.now() / 1000)
  const token = await issuer.token({ iat: now, nbf: now, exp: now + 300 }, {}, key)
  const came = await resultOf(policies.exchange(token))
  return 'code' in came ? came.code : 'accepted'
}

/** Returns the problem of the signature check. */
async function fault(policies = trust.policies): Promise<string | null | undefined> {
  const { policies: explained } = await policies.explain(await issuer.token())
  return explained[0]?.checks.find(({ check }) => check === 'signature')?.problem
}

describe('the keys of an issuer', () => {
  it('are fetched once for concurrent requests, and cached for ten minutes', async () => {
    const attempts = Array.from({ length: 20 }, () => exchanged())
    expect(new Set(await Promise.all(attempts))).toEqual(new Set(['accepted']))
    expect(issuer.requests).toEqual(['/.well-known/openid-configuration', '/keys'])
    trust.advance(9 * 60)
    expect(await exchanged()).toBe('accepted')
    expect(issuer.requests).toHaveLength(2)
    trust.advance(2 * 60)
    expect(await exchanged()).toBe('accepted')
    expect(issuer.requests).toHaveLength(4)
  })

  it('are fetched again for an unknown key, at most every 30 s', async () => {
    const next = await newKey('next')
    expect(await exchanged()).toBe('accepted')
    for (let index = 0; index < 5; index += 1) {
      expect(await exchanged(trust.policies, next)).toBe('UNAUTHORIZED')
    }
    expect(issuer.requests).toHaveLength(2)
    issuer.keys.push(next.jwk)
    expect(await exchanged(trust.policies, next)).toBe('UNAUTHORIZED')
    trust.advance(31)
    const attempts = Array.from({ length: 5 }, () => exchanged(trust.policies, next))
    expect(await Promise.all(attempts)).toEqual(Array(5).fill('accepted'))
    expect(issuer.requests).toHaveLength(4)
    expect(await exchanged()).toBe('accepted')
    const unknown = await newKey('unknown')
    trust.advance(31)
    for (let index = 0; index < 5; index += 1) {
      expect(await exchanged(trust.policies, unknown)).toBe('UNAUTHORIZED')
    }
    expect(issuer.requests).toHaveLength(6)
  })

  it('that the issuer removed are trusted for at most ten minutes', async () => {
    expect(await exchanged()).toBe('accepted')
    issuer.keys = [(await newKey('next')).jwk]
    trust.advance(601)
    expect(await exchanged()).toBe('UNAUTHORIZED')
  })

  it('are found among malformed keys', async () => {
    issuer.keys.unshift({ kty: 'RSA', kid: 'first', n: '%%', e: 'AQAB', use: 'enc' })
    issuer.keys.unshift({ kty: 'XYZ', kid: 'strange' }, { kty: 'EC', crv: 'P-999', kid: 'x' })
    expect(await exchanged()).toBe('accepted')
    issuer.keys = [{ kty: 'RSA', kid: 'first', n: '', e: '' }]
    trust.advance(601)
    expect(await exchanged()).toBe('UNAUTHORIZED')
  })
})

describe('an issuer without usable keys makes tokens unavailable, not invalid:', () => {
  const json = (value: unknown): RequestListener => {
    return (_, response) => response.end(JSON.stringify(value))
  }

  it.each<[string, (own: TestIssuer) => RequestListener, string]>([
    ['it returns 404', () => (_, response) => response.writeHead(404).end(), 'returned 404'],
    ['it is broken', () => (_, response) => response.writeHead(500).end(), 'returned 500'],
    [
      'it redirects',
      (own) => (_, response) => response.writeHead(302, { location: `${own.url}/keys` }).end(),
      'returned 302',
    ],
    ['it answers a page', () => (_, response) => response.end('<html>'), 'no JSON object'],
    ['it returns a list', () => json([]), 'names another issuer'],
    ['it answers null', () => json(null), 'no JSON object'],
    ['it answers nothing', () => (_, response) => response.end(), 'no JSON object'],
    ['it hangs up', () => (request) => request.socket.destroy(), 'did not answer'],
    ['it never answers', () => () => {}, 'took longer than 1 s'],
    [
      'its response does not end',
      () => (_, response) => {
        const write = () => {
          while (!response.destroyed && response.write(Buffer.alloc(65_536, 32))) {}
        }
        response.on('drain', write)
        write()
      },
      'answered with more than 262144 bytes',
    ],
    [
      'it drips',
      () => (_, response) => {
        const timer = setInterval(() => response.write(' '), 20)
        response.on('close', () => clearInterval(timer))
      },
      'took longer than 1 s',
    ],
  ])('%s', async (_what, listener, problem) => {
    const policies = trust.another()
    issuer.answer = listener(issuer)
    expect(await resultOf(policies.exchange(await issuer.token()))).toEqual(NO_KEYS)
    expect(await fault(policies)).toContain(problem)
  })

  it.each<[string, (own: TestIssuer) => Record<string, unknown>, string]>([
    [
      'its discovery document names another issuer',
      (own) => ({ ...own.discovery, issuer: 'https://evil.example' }),
      'names another issuer',
    ],
    [
      'its discovery document has an additional slash',
      (own) => ({ ...own.discovery, issuer: `${own.url}/` }),
      'names another issuer',
    ],
    [
      'its discovery document names no issuer',
      (own) => ({ ...own.discovery, issuer: null }),
      'names another issuer',
    ],
    ['its discovery has no keys', (own) => ({ issuer: own.url }), 'no jwks_uri'],
    ['its keys are a number', (own) => ({ issuer: own.url, jwks_uri: 7 }), 'no jwks_uri'],
    [
      'its keys have no URL',
      (own) => ({ issuer: own.url, jwks_uri: 'keys' }),
      'a URL must be like',
    ],
    [
      'its keys are a file',
      (own) => ({ issuer: own.url, jwks_uri: 'file:///etc/passwd' }),
      'not file:',
    ],
    [
      'its keys are on an internal host',
      (own) => ({ issuer: own.url, jwks_uri: 'https://169.254.169.254/keys' }),
      'neither a public address',
    ],
    [
      'its keys come by http',
      (own) => ({ issuer: own.url, jwks_uri: 'http://8.8.8.8/keys' }),
      'plain http',
    ],
  ])('%s', async (_what, discovery, problem) => {
    const policies = trust.another()
    issuer.discovery = discovery(issuer)
    expect(await resultOf(policies.exchange(await issuer.token()))).toEqual(NO_KEYS)
    expect(await fault(policies)).toContain(problem)
  })

  it('its keys are outside the allowed network, and no request is sent', async () => {
    const inside = await serve((_, response) => response.end('{}'), '127.0.0.2')
    issuer.discovery.jwks_uri = `http://127.0.0.2:${inside.port}/keys`
    const policies = trust.another(['127.0.0.1'])
    expect(await resultOf(policies.exchange(await issuer.token()))).toEqual(NO_KEYS)
    expect(await fault(policies)).toContain('ask the operator')
    expect(inside.connections()).toBe(0)
    await inside.close()
  })

  it('its keys are not a key set', async () => {
    for (const keys of [null, {}, 'x', [[]], [null], [7]]) {
      const policies = trust.another()
      issuer.answer = (request, response) => {
        response.end(JSON.stringify(request.url === '/keys' ? { keys } : issuer.discovery))
      }
      expect(await fault(policies)).toContain('not a JSON Web Key Set')
    }
  })

  it('its network is no longer allowed', async () => {
    expect(await fault(trust.another([]))).toContain('ask the operator')
    expect(issuer.requests).toEqual([])
  })

  it('it gets no request for some seconds, and then the next one', async () => {
    issuer.answer = (_, response) => response.writeHead(503).end()
    const attempts = Array.from({ length: 10 }, () => exchanged())
    expect(new Set(await Promise.all(attempts))).toEqual(new Set(['UNAVAILABLE']))
    expect(await exchanged()).toBe('UNAVAILABLE')
    expect(issuer.requests).toHaveLength(1)
    issuer.answer = undefined
    trust.advance(6)
    expect(await exchanged()).toBe('accepted')
  })

  it('its cached keys stay in use', async () => {
    expect(await exchanged()).toBe('accepted')
    issuer.answer = (_, response) => response.writeHead(503).end()
    trust.advance(40)
    const unknown = await newKey('unknown')
    expect(await exchanged(trust.policies, unknown)).toBe('UNAVAILABLE')
    expect(await exchanged()).toBe('accepted')
    expect(issuer.requests).toHaveLength(3)
  })

  it('the response has a time to retry, and no addresses', async () => {
    const gone = await startIssuer()
    await trust.policies.create(policyRequest(gone), ACTOR)
    const token = await gone.token()
    await gone.close()
    const error: unknown = await trust.policies.exchange(token).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(RegistryError)
    expect(error).toMatchObject({ status: 503, data: { retryAfterSeconds: 5 } })
    expect(JSON.stringify(error)).not.toContain('127.0.0.1')
  })
})

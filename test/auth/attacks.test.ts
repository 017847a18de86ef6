import { createPublicKey, generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto'
import { exportJWK, type JWTPayload, SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generateSecret } from '../../src/auth/secrets.ts'
import { RawConnection } from '../support/raw-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  basic,
  bearer,
  claimsOf,
  makeCredential,
  openTokenMinter,
  requestToken,
  sql,
} from './credentials-client.ts'

let registry: TestRegistry
let mint: Awaited<ReturnType<typeof openTokenMinter>>
let privateKey: KeyObject
let kid: string
let payload: JWTPayload

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_TRUSTED_PROXIES: '127.0.0.1' })
  mint = await openTokenMinter(registry)
  const key = mint.keys.signingKey()
  privateKey = key.privateKey
  kid = key.kid
  payload = {
    ...claimsOf(
      await requestToken(registry, basic('admin', registry.password), 'registry:admin:*'),
    ),
  }
})

afterAll(async () => {
  await mint.close()
  await registry.close()
})

let addresses = 0

/** Sends a request from a new address, because the login throttle counts by address. */
function request(path: string, authorization: string, init: RequestInit = {}): Promise<Response> {
  addresses += 1
  const from = `192.0.2.${addresses % 250}`
  return registry.anonymous(path, {
    ...init,
    headers: { authorization, 'x-forwarded-for': from, ...(init.headers as object) },
  })
}

type Header = Record<string, unknown>

/** Returns a token signed by the registry's own key, with the changes of the test. */
function signed(header: Header = {}, claims: Header = {}, key: KeyObject = privateKey) {
  const protectedHeader: Header = { alg: 'ES256', kid, typ: 'at+jwt', ...header }
  const crit = header.crit === undefined ? {} : { crit: { odd: true } }
  return new SignJWT({ ...payload, ...claims } as JWTPayload)
    .setProtectedHeader(protectedHeader as Header & { alg: string })
    .sign(key, crit)
}

const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
const unsigned = (header: Header, signature = '') =>
  `${encoded({ typ: 'at+jwt', kid, ...header })}.${encoded(payload)}.${signature}`

const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const edwards = generateKeyPairSync('ed25519')

/** Returns a token with the public key as the shared secret of an HMAC. */
async function confused(secret: Uint8Array): Promise<string> {
  return new SignJWT(payload).setProtectedHeader({ alg: 'HS256', kid, typ: 'at+jwt' }).sign(secret)
}

const publicPem = () =>
  createPublicKey(privateKey).export({ format: 'pem', type: 'spki' }) as string
const soon = () => Math.floor(Date.now() / 1000) + 3600

const FORGERIES: Record<string, () => Promise<string> | string> = {
  'alg none': () => unsigned({ alg: 'none' }),
  'alg None': () => unsigned({ alg: 'None' }),
  'alg none with a signature': () => unsigned({ alg: 'none' }, 'AAAA'),
  'no alg': () => unsigned({}),
  'an empty signature': () => unsigned({ alg: 'ES256' }),
  'HS256 with the public key as PEM': () => confused(Buffer.from(publicPem())),
  'HS256 with the public key as JWK': async () =>
    confused(Buffer.from(JSON.stringify(await exportJWK(createPublicKey(privateKey))))),
  'another key under our kid': () => signed({}, {}, stranger.privateKey),
  'another algorithm under our kid': () => signed({ alg: 'EdDSA' }, {}, edwards.privateKey),
  'another key, embedded as jwk': async () =>
    signed({ jwk: await exportJWK(stranger.publicKey) }, {}, stranger.privateKey),
  'our key with an embedded jwk': async () => signed({ jwk: await exportJWK(stranger.publicKey) }),
  jku: () => signed({ jku: 'http://127.0.0.1:1/jwks.json' }),
  x5c: () => signed({ x5c: ['AAAA'] }),
  x5u: () => signed({ x5u: 'http://127.0.0.1:1/cert' }),
  crit: () => signed({ crit: ['odd'], odd: true }),
  'no kid': () => signed({ kid: undefined }),
  'an unknown kid': () => signed({ kid: 'nobody' }),
  'a kid that is a path': () => signed({ kid: '../../../../dev/null' }),
  'a kid that is SQL': () => signed({ kid: `' or kid = '${kid}` }),
  'a kid that is a list': () => signed({ kid: [kid] }),
  'a kid that is a property of every object': () => signed({ kid: '__proto__' }),
  'another issuer': () => signed({}, { iss: 'https://evil.example' }),
  'no issuer': () => signed({}, { iss: undefined }),
  'another audience': () => signed({}, { aud: 'another.example' }),
  'no audience': () => signed({}, { aud: undefined }),
  'a token of another type': () => signed({ typ: 'JWT' }),
  'a logout token': () => signed({ typ: 'logout+jwt' }),
  'no type': () => signed({ typ: undefined }),
  'not valid yet': () => signed({}, { nbf: soon(), exp: soon() + 60 }),
  'no expiry': () => signed({}, { exp: undefined }),
  'an expiry that is no number': () => signed({}, { exp: '9999999999' }),
  'no jti': () => signed({}, { jti: undefined }),
  'no subject': () => signed({}, { sub: undefined }),
  'access that is no list': () => signed({}, { access: { admin: true } }),
  'a changed payload': async () => {
    const [header, , signature] = (await signed()).split('.')
    return `${header}.${encoded({ ...payload, sub: 'root' })}.${signature}`
  },
  'a signature with something behind it': async () => `${await signed()}AAAA`,
  'a signature of another token': async () => {
    const [header, body] = (await signed()).split('.')
    const [, , signature] = (await signed({}, { sub: 'other' })).split('.')
    return `${header}.${body}.${signature}`
  },
  'four parts': async () => `${await signed()}.AAAA`,
  'an unencoded payload': () => signed({ b64: true }),
  'a time of validity that is no number': () => signed({}, { nbf: 'now' }),
  'an expiry of null': () => signed({}, { exp: null }),
  'a payload that is no JSON': async () => {
    const [header, , signature] = (await signed()).split('.')
    return `${header}.${Buffer.from('{').toString('base64url')}.${signature}`
  },
  'a header that is no JSON': () => 'eyJ4.e30.AAAA',
  'a token of 36 kB': () => signed({}, { padding: 'x'.repeat(26_000) }),
}

describe('a forged token', () => {
  it('is refused, and the same token without the forgery is accepted', async () => {
    const answer = await request('/metrics', bearer(await signed()))
    expect(answer.status).toBe(200)
  })

  it.each(Object.entries(FORGERIES))('%s', async (_what, forge) => {
    const token = await forge()
    for (const authorization of [bearer(token), basic('token', token)]) {
      for (const path of ['/v2/', '/metrics', '/token']) {
        const answer = await request(path, authorization)
        const body = await answer.text()
        expect({ path, status: answer.status, body }).toMatchObject({ status: 401 })
        expect(body).not.toContain(token)
      }
    }
  })

  it('a removed key is no longer trusted, not even for cached tokens', async () => {
    const token = await requestToken(registry, basic('admin', registry.password))
    expect((await request('/v2/', bearer(token))).status).toBe(200)
    await sql(registry, `update signing_keys set retired_at = now(), gone_at = now()`)
    await expect
      .poll(async () => (await request('/v2/', bearer(token))).status, { timeout: 10_000 })
      .toBe(401)
    await sql(registry, `update signing_keys set retired_at = null, gone_at = null`)
    await expect
      .poll(async () => (await request('/v2/', bearer(token))).status, { timeout: 10_000 })
      .toBe(200)
  })
})

describe('an Authorization header', () => {
  const statusOf = async (...values: string[]) => {
    const lines = values.map((value) => `Authorization: ${value}\r\n`).join('')
    const connection = await RawConnection.open(registry.url)
    await connection.send(
      `GET /metrics HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.251\r\n${lines}\r\n`,
    )
    const { status } = await connection.answer()
    connection.close()
    return status
  }

  it('that is sent twice has at most the rights of the first', async () => {
    const admin = basic('admin', registry.password)
    const { name, secret } = await makeCredential(registry, {
      repositories: ['a/*'],
      actions: ['pull'],
    })
    expect(await statusOf(admin)).toBe(200)
    expect(await statusOf(basic('admin', 'wrong'), admin)).toBe(401)
    expect(await statusOf(basic(name, secret), admin)).toBe(403)
    expect(await statusOf(`${basic('admin', 'wrong')}, ${admin}`)).toBe(401)
    expect(await statusOf('Basic', admin)).toBe(401)
  })

  it('may have its scheme in any case, and a token of any length that the registry mints', async () => {
    const credential = Buffer.from(`admin:${registry.password}`).toString('base64')
    for (const scheme of ['Basic', 'basic', 'BASIC', 'Basic ']) {
      expect(await statusOf(`${scheme} ${credential}`)).toBe(200)
    }
    const access = Array.from({ length: 190 }, (_, index) => ({
      type: 'repository' as const,
      name: `builds/repository-number-${index}`,
      actions: ['pull', 'push'],
    }))
    const admin = { type: 'registry', name: 'admin', actions: ['*'] } as const
    const { token } = await mint.tokens.mint({ subject: 'long', access: [...access, admin] }, 60)
    expect(token.length).toBeGreaterThan(20_000)
    expect(await statusOf(bearer(token))).toBe(200)
    expect(await statusOf(basic('token', token))).toBe(200)
  })
})

describe('a secret of one purpose', () => {
  let credential: { name: string; secret: string }
  let refresh: string

  beforeAll(async () => {
    credential = await makeCredential(registry, {
      repositories: ['a/*'],
      actions: ['pull', 'push'],
    })
    const path = '/token?offline_token=true&account=x&client_id=docker&service=x'
    const answer = await request(path, basic(credential.name, credential.secret))
    refresh = ((await answer.json()) as { refresh_token: string }).refresh_token
    expect(refresh).toMatch(/^rkr_/)
  })

  const form = (fields: Record<string, string>) => ({
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams(fields).toString(),
  })

  it('is not valid for another: a refresh token gives no access itself', async () => {
    for (const authorization of [bearer(refresh), basic(credential.name, refresh)]) {
      expect((await request('/v2/', authorization)).status).toBe(401)
    }
  })

  it('is not valid for another: credentials and tokens are neither refresh tokens nor upload URLs', async () => {
    const token = await requestToken(registry, basic(credential.name, credential.secret))
    for (const secret of [
      credential.secret,
      token,
      generateSecret('uploadUrl'),
      registry.password,
    ]) {
      const ask = form({ grant_type: 'refresh_token', refresh_token: secret, service: 'x' })
      expect((await request('/token', '', ask)).status).toBe(401)
      const put = { method: 'PUT', body: 'x' }
      expect((await request(`/upload/${encodeURIComponent(secret)}`, '', put)).status).toBe(404)
    }
    const put = { method: 'PUT', body: 'x' }
    expect((await request(`/upload/${refresh}`, '', put)).status).toBe(404)
  })

  it('is compared exactly: a mistyped secret is refused', async () => {
    const { name, secret } = credential
    const last = secret.endsWith('0') ? '1' : '0'
    const mistyped = [secret.slice(0, -1) + last, secret.toUpperCase(), ` ${secret}`, `${secret} `]
    for (const wrong of mistyped) {
      expect((await request('/v2/', basic(name, wrong))).status).toBe(401)
    }
    expect((await request('/v2/', basic(name, secret))).status).toBe(200)
    expect((await request('/v2/', bearer(secret))).status).toBe(200)
  })
})

describe('guessing', () => {
  const guess = (from: string, authorization = basic('admin', randomUUID())) =>
    registry.anonymous('/v2/', { headers: { authorization, 'x-forwarded-for': from } })

  it('is throttled by address, and two attempts in a row are not', async () => {
    const token = await requestToken(registry, basic('admin', registry.password))
    await guess('198.51.100.7', bearer(token))
    const statuses: number[] = []
    for (let attempt = 0; attempt < 30; attempt += 1)
      statuses.push((await guess('198.51.100.7')).status)
    expect(statuses.slice(0, 5)).toEqual([401, 401, 401, 401, 401])
    expect(statuses.at(-1)).toBe(429)
    const throttled = await guess('198.51.100.7')
    expect(Number(throttled.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(await throttled.text()).toContain('TOOMANYREQUESTS')
    // A token is no guess, and other addresses are not affected.
    expect((await guess('198.51.100.7', bearer(token))).status).toBe(200)
    expect((await guess('198.51.100.8')).status).toBe(401)
  })

  it('is throttled by /64 for IPv6', async () => {
    const statuses: number[] = []
    for (let attempt = 0; attempt < 30; attempt += 1) {
      statuses.push((await guess(`2001:db8:1:2::${attempt + 1}`)).status)
    }
    expect(statuses.at(-1)).toBe(429)
    expect((await guess('2001:db8:1:3::1')).status).toBe(401)
  })

  it('is throttled for passwords in forms and for refresh tokens, too', async () => {
    const statuses: number[] = []
    for (let attempt = 0; attempt < 60; attempt += 1) {
      const fields =
        attempt % 2 === 0
          ? { grant_type: 'password', username: 'admin', password: randomUUID() }
          : { grant_type: 'refresh_token', refresh_token: generateSecret('refresh') }
      const answer = await registry.anonymous('/token', {
        method: 'POST',
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          'x-forwarded-for': '198.51.100.9',
        },
        body: new URLSearchParams(fields).toString(),
      })
      statuses.push(answer.status)
    }
    expect(statuses[0]).toBe(401)
    expect(statuses.at(-1)).toBe(429)
  })
})

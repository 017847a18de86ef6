import { createHmac, generateKeyPairSync, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic } from '../auth/credentials-client.ts'
import {
  assertionOf,
  enrolHost,
  makeCode,
  makeHostKey,
  signJwt,
  type TestHost,
} from '../support/hosts.ts'
import { expectError } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { HostsClient } from './hosts-client.ts'

let client: HostsClient
let registry: TestRegistry
let audience: string
let host: TestHost

beforeAll(async () => {
  client = await HostsClient.open()
  ;({ registry, audience } = client)
  host = await enrolHost(registry, { repositories: ['builds/*'] })
})

afterAll(() => registry.close())

const seconds = (offset: number) => Math.floor(Date.now() / 1000) + offset

/** Sends an assertion, and returns the status and the reason of its refusal. */
async function refusal(assertion: string): Promise<string> {
  const answer = await client.exchange(assertion)
  expect(answer.status).toBe(400)
  expect(answer.headers.get('date')).toMatch(/GMT$/)
  const body = (await answer.json()) as Record<string, string>
  expect(body.error).toBe('invalid_grant')
  return String(body.error_description)
}

const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

describe('an assertion', () => {
  const wrong: Record<string, [make: () => string, reason: RegExp]> = {
    'by another key under the name of this one': [
      () => signJwt({ ...makeHostKey(), thumbprint: host.key.thumbprint }, {}, claims()),
      /signature of the assertion is wrong/,
    ],
    'with another claim and the old signature': [
      () => {
        const [head, , signature] = assertionOf(host.key, audience).split('.')
        return `${head}.${part({ ...claims(), exp: seconds(200) })}.${signature}`
      },
      /signature of the assertion is wrong/,
    ],
    'of a key that no host has': [
      () => assertionOf(makeHostKey(), audience),
      /no host has the key/,
    ],
    'with iss of another host': [
      () => assertionOf(host.key, audience, { iss: makeHostKey().thumbprint }),
      /iss and sub must be the thumbprint/,
    ],
    'with sub of another host': [
      () => assertionOf(host.key, audience, { sub: 'web-2' }),
      /iss and sub must be the thumbprint/,
    ],
    'for another registry': [
      () => assertionOf(host.key, 'https://other.example'),
      /aud must be .*openid-configuration/,
    ],
    'for two registries': [
      () => assertionOf(host.key, audience, { aud: [audience, 'https://other.example'] }),
      /aud must be/,
    ],
    'without aud': [() => assertionOf(host.key, audience, { aud: undefined }), /aud must be/],
    'with alg none': [
      () => `${part({ alg: 'none', kid: host.key.thumbprint })}.${part(claims())}.`,
      /alg must be EdDSA or ES256/,
    ],
    'with HS256 by the public key': [
      () => {
        const text = `${part({ alg: 'HS256', kid: host.key.thumbprint })}.${part(claims())}`
        const mac = createHmac('sha256', JSON.stringify(host.key.jwk)).update(text)
        return `${text}.${mac.digest('base64url')}`
      },
      /alg must be EdDSA or ES256/,
    ],
    'with ES256 for a key of Ed25519': [
      () => assertionOf(host.key, audience, {}, { alg: 'ES256' }),
      /alg must be EdDSA/,
    ],
    'that brings its own key': [
      () => {
        const key = makeHostKey()
        return signJwt(key, { kid: host.key.thumbprint, jwk: key.jwk }, claims())
      },
      /a jwk header is not accepted/,
    ],
    'that names the address of a key': [
      () => assertionOf(host.key, audience, {}, { jku: 'https://other.example/keys' }),
      /a jku header is not accepted/,
    ],
    'with critical headers': [
      () => assertionOf(host.key, audience, {}, { crit: ['b64'], b64: false }),
      /header is not accepted/,
    ],
    'without kid': [
      () => assertionOf(host.key, audience, {}, { kid: undefined }),
      /kid must be the thumbprint/,
    ],
    'with a path as kid': [
      () => assertionOf(host.key, audience, {}, { kid: '../../etc/passwd' }),
      /kid must be the thumbprint/,
    ],
    'without jti': [
      () => assertionOf(host.key, audience, { jti: undefined }),
      /jti must be a text/,
    ],
    'with a long jti': [
      () => assertionOf(host.key, audience, { jti: 'a'.repeat(129) }),
      /jti must be a text/,
    ],
    'without exp': [
      () => assertionOf(host.key, audience, { exp: undefined }),
      /exp must be a time/,
    ],
    'with exp as a text': [
      () => assertionOf(host.key, audience, { exp: '2030-01-01' }),
      /exp must be a time/,
    ],
    'that lives for a day': [
      () => assertionOf(host.key, audience, { exp: seconds(86_400) }),
      /exp may be at most 300 s away$/,
    ],
    'of a clock that is behind': [
      () => assertionOf(host.key, audience, { iat: seconds(-3_600), exp: seconds(-3_480) }),
      /expired 348\d s ago: the clock of the host is 360\d s behind; the Date header of this answer/,
    ],
    'of a clock that is ahead': [
      () => assertionOf(host.key, audience, { iat: seconds(3_600), exp: seconds(3_720) }),
      /valid in 3[56]\d\d s only: the clock of the host is 3[56]\d\d s ahead/,
    ],
    'of a clock that is off and does not say so': [
      () => assertionOf(host.key, audience, { iat: undefined, exp: seconds(-40) }),
      /expired 4\d s ago: check the clock of the host/,
    ],
    'that is no token': [() => 'web-1', /must be a signed JSON Web Token/],
    'that is endless': [() => 'a'.repeat(5_000), /at most 4096 characters/],
  }
  const claims = () => ({
    iss: host.key.thumbprint,
    sub: host.key.thumbprint,
    aud: audience,
    iat: seconds(0),
    exp: seconds(120),
    jti: randomUUID(),
  })

  it.each(Object.entries(wrong))('%s is refused', async (_name, [make, reason]) => {
    expect(await refusal(make())).toMatch(reason)
  })

  it('of a clock that is 20 s off is accepted', async () => {
    for (const offset of [-20, 20]) {
      const off = { iat: seconds(offset), exp: seconds(offset + 10) }
      const assertion = assertionOf(host.key, audience, off)
      const answer = await client.exchange(assertion)
      expect(answer.status).toBe(200)
    }
  })

  it('is accepted once, also of several at the same time', async () => {
    const assertion = assertionOf(host.key, audience)
    const statuses = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const answer = await client.exchange(assertion)
        await answer.arrayBuffer()
        return answer.status
      }),
    )
    expect(statuses.filter((status) => status === 200)).toHaveLength(1)
    expect(await refusal(assertion)).toMatch(/was used already/)
  })

  it('of a proof is accepted by no other route', async () => {
    const key = makeHostKey()
    const code = await makeCode(registry, { name: 'proof-once' })
    const fields = client.keyed(key, { code })
    expect((await client.enrol(fields)).status).toBe(201)
    expect(await refusal(fields.proof)).toMatch(/was used already/)
  })

  it('is no access token, and no password', async () => {
    for (const authorization of [
      `Bearer ${assertionOf(host.key, audience)}`,
      basic(host.name, assertionOf(host.key, audience)),
    ]) {
      const answer = await registry.anonymous('/v2/', { headers: { authorization } })
      expect(answer.status).toBe(401)
    }
  })

  it('is refused from another network than those of the host', async () => {
    const bound = await enrolHost(registry, { name: 'bound', networks: ['127.0.0.0/8'] })
    const assertion = assertionOf(bound.key, audience)
    const from = { 'x-forwarded-for': '192.0.2.7' }
    const answer = await client.exchange(assertion, from)
    expect(answer.status).toBe(400)
    const authorization = `Bearer ${await bound.token()}`
    const stolen = await registry.anonymous('/v2/', { headers: { authorization, ...from } })
    expect(stolen.status).toBe(401)
  })
})

describe('a key', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 512 }).publicKey.export({ format: 'jwk' })
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({
    format: 'jwk',
  })
  const own = makeHostKey()
  const wrong: Record<string, [jwk: unknown, reason: RegExp]> = {
    'with its private part': [
      own.privateKey.export({ format: 'jwk' }),
      /has the private key, which must not leave the host/,
    ],
    'that is symmetric': [{ kty: 'oct', k: 'c2VjcmV0' }, /has the private key/],
    'of RSA': [rsa, /is not a member of such a key/],
    'of another curve': [p384, /jwk must be a public key/],
    'of X25519': [{ ...own.jwk, crv: 'X25519' }, /jwk must be a public key/],
    'that is no point': [
      { kty: 'EC', crv: 'P-256', x: 'A'.repeat(43), y: 'A'.repeat(43) },
      /no point of its curve/,
    ],
    'for which anybody can sign': [{ ...own.jwk, x: 'A'.repeat(43) }, /weak key/],
    'that is too short': [{ ...own.jwk, x: 'AAAA' }, /jwk must be a public key/],
    'that is written otherwise': [{ ...own.jwk, x: `${own.jwk.x}=` }, /jwk must be a public key/],
    'with another member': [{ ...own.jwk, x5u: 'https://other.example' }, /not a member/],
    'that is huge': [{ ...own.jwk, use: 'a'.repeat(2_000) }, /at most 1024 characters/],
    'that is a list': [[own.jwk], /jwk must be a public key/],
  }
  it.each(Object.entries(wrong))('%s is refused', async (_name, [jwk, reason]) => {
    const fields = { name: 'weak', jwk: JSON.stringify(jwk), proof: assertionOf(own, audience) }
    const answer = await client.enrol(fields)
    expect(answer.status).toBe(400)
    const { errors } = (await answer.json()) as { errors: { message: string }[] }
    expect(errors[0]?.message).toMatch(reason)
  })

  it('without a proof that it signed is refused', async () => {
    const code = await makeCode(registry, { name: 'unproved' })
    const [mine, others] = [makeHostKey(), makeHostKey()]
    for (const proof of [
      assertionOf(mine, audience),
      assertionOf({ ...mine, thumbprint: others.thumbprint }, audience),
      assertionOf(others, 'https://other.example'),
      assertionOf(others, audience, { exp: seconds(-100), iat: seconds(-200) }),
    ]) {
      const answer = await client.enrol({ code, jwk: JSON.stringify(others.jwk), proof })
      await expectError(answer, 400, 'REQUEST_INVALID')
    }
    expect((await client.enrol(client.keyed(others, { code }))).status).toBe(201)
  })
})

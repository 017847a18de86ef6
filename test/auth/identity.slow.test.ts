import { createHmac, createPublicKey, generateKeyPairSync, sign } from 'node:crypto'
import { exportJWK, exportSPKI } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { removeExpiredIdentityTokens } from '../../src/db/auth/trust-policies.ts'
import { serve } from '../outgoing/loopback-servers.ts'
import { claimsOf, newKey, startIssuer, type TestIssuer, unsigned } from './issuer.ts'
import { ACTOR, openTrust, policyRequest, resultOf, type Trust } from './trust-policies.ts'

let trust: Trust
let issuer: TestIssuer

beforeAll(async () => {
  trust = await openTrust()
})

afterAll(() => trust.close())

beforeEach(async () => {
  issuer = await startIssuer()
  await trust.policies.create(policyRequest(issuer), ACTOR)
})

afterEach(() => issuer.close())

/** Returns `accepted` or the refusal. */
async function verdict(token: string, policies = trust.policies): Promise<string> {
  const came = await resultOf(policies.exchange(token))
  return 'code' in came ? `${came.code}: ${came.message}` : 'accepted'
}

const seconds = (fromNow: number) => Math.floor(Date.now() / 1000) + fromNow

describe('an identity token', () => {
  it.each(['RS256', 'RS512', 'PS256', 'ES256', 'ES384', 'EdDSA', 'Ed25519'])(
    'that is signed with %s is accepted',
    async (alg) => {
      const key = await newKey(`key-${alg}`, alg)
      issuer.keys.push(key.jwk)
      expect(await verdict(await issuer.token({}, {}, key))).toBe('accepted')
    },
  )

  it('is refused when it was changed after its issuer signed it', async () => {
    const attacker = await newKey('first')
    const token = await issuer.token()
    const [head = '', body = '', signature = ''] = token.split('.')
    const forged = Buffer.from(JSON.stringify(claimsOf(issuer.url, { ref: 'other' })))
    const other = await newKey('first', 'ES256')
    for (const text of [
      await issuer.token({}, {}, attacker),
      await issuer.token({}, { jwk: undefined }, attacker),
      await issuer.token({}, {}, other),
      `${head}.${forged.toString('base64url')}.${signature}`,
      `${head}.${body}.`,
      `${head}.${body}.${signature.slice(0, -4)}`,
      `${head}.${body}.${signature.split('').reverse().join('')}`,
    ]) {
      expect(await verdict(text)).toMatch(/^UNAUTHORIZED: the (signature|identity token names)/)
    }
    expect(await verdict(token)).toBe('accepted')
  })

  it('is refused without a signature, and with one that anybody can create', async () => {
    const claims = claimsOf(issuer.url)
    for (const alg of ['none', 'None', 'NONE', '', undefined, null, 7, ['RS256'], 'HS1']) {
      for (const signature of ['', 'AAAA']) {
        const token = unsigned({ alg, kid: 'first' }, claims, signature)
        expect(await verdict(token), String(alg)).toMatch(
          /^UNAUTHORIZED: an identity token must be/,
        )
      }
    }
    const pem = await exportSPKI(issuer.key.publicKey)
    const der = createPublicKey(pem).export({ type: 'spki', format: 'der' })
    for (const secret of [pem, pem.trim(), der, JSON.stringify(issuer.key.jwk)]) {
      for (const alg of ['HS256', 'HS384', 'HS512']) {
        const text = unsigned({ alg, kid: 'first' }, claims).slice(0, -1)
        const hash = createHmac(alg.replace('HS', 'sha'), secret).update(text).digest('base64url')
        expect(await verdict(`${text}.${hash}`)).toMatch(/^UNAUTHORIZED: an identity token must be/)
      }
    }
  })

  it('is refused when it brings its own key, and the key is not fetched', async () => {
    const attacker = await newKey('evil')
    const keys = await serve((_, response) =>
      response.end(JSON.stringify({ keys: [attacker.jwk] })),
    )
    const url = `http://127.0.0.1:${keys.port}/keys`
    for (const header of [
      { jwk: attacker.jwk },
      { jku: url },
      { x5u: url },
      { x5c: ['MIIB'] },
      { jku: url, kid: 'first' },
    ]) {
      for (const key of [attacker, issuer.key]) {
        const token = await issuer.token({}, header, key)
        expect(await verdict(token)).toMatch(/^UNAUTHORIZED: .* header is not accepted$/)
      }
    }
    for (const header of [{ crit: ['exp'] }, { crit: ['b64'], b64: false }, { b64: true }]) {
      const token = unsigned(
        { alg: 'RS256', kid: 'first', ...header },
        claimsOf(issuer.url),
        'AAAA',
      )
      expect(await verdict(token)).toMatch(/^UNAUTHORIZED: .* header is not accepted$/)
    }
    expect(keys.connections()).toBe(0)
    await keys.close()
  })

  it('is refused when its key is weak or not for signatures', async () => {
    const weak = generateKeyPairSync('rsa', { modulusLength: 1024 })
    issuer.keys.push({ ...weak.publicKey.export({ format: 'jwk' }), kid: 'weak', alg: 'RS256' })
    const text = unsigned({ alg: 'RS256', kid: 'weak' }, claimsOf(issuer.url)).slice(0, -1)
    const signature = sign('sha256', Buffer.from(text), weak.privateKey).toString('base64url')
    expect(await verdict(`${text}.${signature}`)).toContain(
      'signature of the identity token is wrong',
    )
    const wrapping = await newKey('wrapping')
    const secret = await newKey('secret')
    issuer.keys.push({ ...wrapping.jwk, use: 'enc' })
    issuer.keys.push({ ...(await exportJWK(secret.privateKey)), kid: 'secret', alg: 'RS256' })
    for (const key of [wrapping, secret]) {
      trust.advance(31)
      expect(await verdict(await issuer.token({}, {}, key))).toContain('names no key')
    }
  })

  it('needs no key id while its issuer has one key of its type', async () => {
    expect(await verdict(await issuer.token({}, { kid: undefined }))).toBe('accepted')
    issuer.keys.push((await newKey('second')).jwk)
    trust.advance(601)
    const times = { iat: seconds(0), exp: seconds(3600) }
    expect(await verdict(await issuer.token(times, { kid: undefined }))).toContain('names no key')
    expect(await verdict(await issuer.token(times))).toBe('accepted')
  })

  it('is accepted only while it is valid, with a tolerance for clocks', async () => {
    const policies = trust.another()
    const hour = 3600
    for (const [claims, expected] of [
      [{ exp: seconds(1) }, 'accepted'],
      [{ exp: seconds(-20) }, 'accepted'],
      [{ exp: seconds(-40) }, 'has expired'],
      [{ exp: 0 }, 'has expired'],
      [{ exp: -1e300 }, 'has expired'],
      [{ exp: undefined }, 'has no time of expiry (exp)'],
      [{ exp: String(seconds(60)) }, 'has no time of expiry (exp)'],
      [{ exp: null }, 'has no time of expiry (exp)'],
      [{ exp: [seconds(60)] }, 'has no time of expiry (exp)'],
      [{ exp: 1e300 }, 'accepted'],
      [{ exp: seconds(10 * 365 * 24 * hour) }, 'accepted'],
      [{ iat: undefined }, 'has no time of issue (iat)'],
      [{ iat: 'now' }, 'has no time of issue (iat)'],
      [{ iat: seconds(20) }, 'accepted'],
      [{ iat: seconds(45) }, 'is not valid yet'],
      [{ iat: seconds(-5 * hour), exp: seconds(hour) }, 'accepted'],
      [{ iat: seconds(-6 * hour - 40), exp: seconds(hour) }, 'more than 6 hours ago'],
      [{ iat: 0, exp: seconds(hour) }, 'more than 6 hours ago'],
      [{ nbf: undefined }, 'accepted'],
      [{ nbf: seconds(20) }, 'accepted'],
      [{ nbf: seconds(45) }, 'is not valid yet'],
      [{ nbf: 'tomorrow' }, 'nbf of the identity token is not a time'],
      [{ nbf: null }, 'nbf of the identity token is not a time'],
    ] as const) {
      // The test moved the clock: times are relative to it.
      const token = await issuer.token(await shifted(claims))
      expect(await verdict(token, policies), JSON.stringify(claims)).toContain(expected)
    }
  })

  it('that is malformed, or has no issuer or subject, is refused at once', async () => {
    const head = { alg: 'RS256', kid: 'first' }
    const base = claimsOf(issuer.url)
    for (const text of [
      '',
      '.',
      '..',
      'a.b.c',
      'x'.repeat(16_385),
      `${await issuer.token()}.x.y`,
      `${unsigned(head, base, 'AAAA')}${'A'.repeat(17_000)}`,
      unsigned([], base, 'AAAA'),
      unsigned(head, [], 'AAAA'),
      unsigned(head, { ...base, iss: undefined }, 'AAAA'),
      unsigned(head, { ...base, iss: 7 }, 'AAAA'),
      unsigned(head, { ...base, iss: `${issuer.url}\0` }, 'AAAA'),
      unsigned(head, { ...base, sub: undefined }, 'AAAA'),
      unsigned(head, { ...base, sub: '' }, 'AAAA'),
      unsigned(head, { ...base, sub: 'a\0b' }, 'AAAA'),
      unsigned(head, { ...base, sub: ['a'] }, 'AAAA'),
    ]) {
      expect(await verdict(text), text.slice(0, 80)).toMatch(/^UNAUTHORIZED: an identity token /)
    }
    expect(issuer.requests).toEqual([])
  })

  it('of an untrusted issuer is refused without a request to it', async () => {
    const stranger = await startIssuer()
    for (const claims of [{}, { iss: `${issuer.url}/` }, { iss: issuer.url.toUpperCase() }]) {
      expect(await verdict(await stranger.token(claims))).toBe(
        'UNAUTHORIZED: no trust policy matches this identity token',
      )
    }
    expect(stranger.requests).toEqual([])
    await stranger.close()
  })
})

describe('an identity token is accepted once', () => {
  it('also with concurrent requests to several processes', async () => {
    const token = await issuer.token(await shifted({}))
    const another = trust.another()
    const attempts = Array.from({ length: 12 }, (_, index) =>
      verdict(token, index % 2 === 0 ? trust.policies : another),
    )
    const verdicts = (await Promise.all(attempts)).sort()
    expect(verdicts.filter((one) => one === 'accepted')).toHaveLength(1)
    expect(new Set(verdicts)).toEqual(
      new Set(['UNAUTHORIZED: this identity token was used already', 'accepted']),
    )
  })

  it('by its jti, with any other claims, and for its issuer alone', async () => {
    const times = await shifted({})
    const jti = 'same'
    expect(await verdict(await issuer.token({ ...times, jti }))).toBe('accepted')
    const again = await issuer.token({ ...times, jti, exp: Number(times.exp) + 9, ref: 'other' })
    expect(await verdict(again)).toContain('used already')
    expect(await verdict(await issuer.token({ ...times, jti: 'SAME' }))).toBe('accepted')
    const other = await startIssuer()
    await trust.policies.create(policyRequest(other), ACTOR)
    expect(await verdict(await other.token({ ...times, jti }))).toBe('accepted')
    await other.close()
  })

  it('also without a jti, and with another encoding of the signature', async () => {
    const key = await newKey('curve', 'ES256')
    issuer.keys.push(key.jwk)
    for (const jti of [undefined, '', 7, null]) {
      const token = await issuer.token(await shifted({ jti, run_attempt: `${jti}` }), {}, key)
      const [head, body, signature = ''] = token.split('.')
      expect(await verdict(token)).toBe('accepted')
      expect(await verdict(token)).toContain('used already')
      expect(await verdict(`${head}.${body}.${mirrored(signature)}`)).toContain('used already')
    }
  })

  it('and is not used up when no policy matches', async () => {
    const token = await issuer.token(await shifted({ repository: 'octo/later' }))
    expect(await verdict(token)).toContain('no trust policy matches')
    await trust.policies.explain(token)
    await trust.policies.create(
      policyRequest(issuer, { conditions: { repository: 'octo/later' } }),
      ACTOR,
    )
    await trust.policies.explain(token)
    expect(await verdict(token)).toBe('accepted')
    expect(await verdict(token)).toContain('used already')
  })

  it('and is stored no longer than it is valid', async () => {
    await trust.rows('delete from used_identity_tokens')
    const never = await shifted({ exp: 1e300 })
    expect(await verdict(await issuer.token(never))).toBe('accepted')
    const kept = `select count(*)::int as count from used_identity_tokens
                   where expires_at > now() + interval '6 hours'
                     and expires_at < now() + interval '8 hours'`
    expect(await trust.rows(kept)).toEqual([{ count: 1 }])
    expect(await removeExpiredIdentityTokens(trust.db)).toBe(0)
    await trust.rows(`update used_identity_tokens set expires_at = now() - interval '1 second'`)
    expect(await removeExpiredIdentityTokens(trust.db)).toBe(1)
  })
})

/** Returns claims with times of the clock that the tests moved. */
async function shifted(claims: Record<string, unknown>): Promise<Record<string, unknown>> {
  const moved = Math.floor(trust.now() / 1000) - seconds(0)
  const base = { iat: seconds(-5), nbf: seconds(-5), exp: seconds(300), ...claims }
  return Object.fromEntries(
    Object.entries(base).map(([name, value]) => {
      const isTime = ['iat', 'nbf', 'exp'].includes(name) && typeof value === 'number' && value > 0
      return [name, isTime ? value + moved : value]
    }),
  )
}

/** Returns the second valid ECDSA signature: the order of the curve minus s. */
function mirrored(signature: string): string {
  const order = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551')
  const bytes = Buffer.from(signature, 'base64url')
  const s = order - BigInt(`0x${bytes.subarray(32).toString('hex')}`)
  const other = Buffer.from(s.toString(16).padStart(64, '0'), 'hex')
  return Buffer.concat([bytes.subarray(0, 32), other]).toString('base64url')
}

import { createPublicKey, verify } from 'node:crypto'
import fc from 'fast-check'
import { Webhook as WebhookVerifier } from 'standardwebhooks'
import { describe, expect, it } from 'vitest'
import {
  isCustomHeader,
  isSigningSecret,
  newEd25519Secret,
  newSigningSecret,
  publicKeyOf,
  signedHeaders,
} from '../../src/webhooks/signature.ts'
import type { Webhook, WebhookSecrets } from '../../src/webhooks/webhook.ts'

type Options = Partial<Omit<Webhook, 'secrets'>> & { readonly secrets?: Partial<WebhookSecrets> }

function webhookWith({ secrets, ...more }: Options): Webhook {
  return {
    id: 1,
    name: 'deploy',
    identity: '6f2c1f6e-5b0e-4c35-9d0c-6a3c8f0b9a11',
    url: 'https://receiver.example/hook',
    filter: { types: [], repositories: [], tags: null },
    format: 'cloudevents',
    body: null,
    signatures: [],
    oidcAudience: null,
    headers: {},
    maxAgeSeconds: null,
    coalesceTags: false,
    state: 'active',
    owner: { origin: null, grants: null },
    secrets: { signing: [], ed25519: null, authorization: null, webhookSecret: null, ...secrets },
    ...more,
  }
}

const once = (secret: string) => [{ secret, until: null }]
const MESSAGE = {
  id: '0268b383-13ae-4a1f-b33c-1bcd327c1d73',
  timestamp: new Date(),
  body: '{"a":"Łódź"}',
  identityToken: undefined,
}

function verifies(secret: string, body: string, headers: Record<string, string>): boolean {
  try {
    new WebhookVerifier(secret).verify(body, headers, { jsonParse: false })
    return true
  } catch {
    return false
  }
}

describe('the signature of Standard Webhooks', () => {
  it('equals the example of the specification', () => {
    const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
    const headers = signedHeaders(webhookWith({ secrets: { signing: once(secret) } }), {
      id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      timestamp: new Date(1614265330_000),
      body: '{"test": 2432232314}',
      identityToken: undefined,
    })
    expect(headers).toEqual({
      'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      'webhook-timestamp': '1614265330',
      'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    })
  })

  it('is verified by the reference library for any body, and for no other body, id or time', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 2000 }), (body) => {
        const secret = newSigningSecret()
        const headers = signedHeaders(webhookWith({ secrets: { signing: once(secret) } }), {
          ...MESSAGE,
          body,
        })
        expect(verifies(secret, body, headers)).toBe(true)
        expect(verifies(newSigningSecret(), body, headers)).toBe(false)
        expect(verifies(secret, `${body} `, headers)).toBe(false)
        expect(verifies(secret, body, { ...headers, 'webhook-id': 'other' })).toBe(false)
        const later = String(Number(headers['webhook-timestamp']) + 1)
        expect(verifies(secret, body, { ...headers, 'webhook-timestamp': later })).toBe(false)
      }),
      { numRuns: 50 },
    )
  })

  it('has one signature for each active secret during a rotation', () => {
    const [fresh, old, older] = [newSigningSecret(), newSigningSecret(), newSigningSecret()]
    const end = MESSAGE.timestamp.getTime()
    const signing = [
      { secret: fresh, until: null },
      { secret: old, until: new Date(end + 1).toISOString() },
      { secret: older, until: new Date(end).toISOString() },
    ]
    const headers = signedHeaders(
      webhookWith({ secrets: { signing }, signatures: ['x-signature'] }),
      MESSAGE,
    )
    expect(headers['webhook-signature']).toMatch(/^v1,\S{44} v1,\S{44}$/)
    const verified = [fresh, old, older].map((secret) => verifies(secret, MESSAGE.body, headers))
    expect(verified).toEqual([true, true, false])
    const alone = webhookWith({ secrets: { signing: once(fresh) }, signatures: ['x-signature'] })
    expect(headers['x-signature']).toBe(signedHeaders(alone, MESSAGE)['x-signature'])
  })

  it('of a key pair is verified with the public key', () => {
    const [ed25519, other] = [newEd25519Secret(), newEd25519Secret()]
    const signing = once(newSigningSecret())
    const headers = signedHeaders(webhookWith({ secrets: { signing, ed25519 } }), MESSAGE)
    const [v1, v1a] = headers['webhook-signature']?.split(' ') ?? []
    expect(v1).toMatch(/^v1,/)
    expect(v1a).toMatch(/^v1a,[A-Za-z0-9+/]{86}==$/)
    const content = `${MESSAGE.id}.${headers['webhook-timestamp']}.${MESSAGE.body}`
    const isSignedBy = (secret: string, text: string) => {
      const bytes = Buffer.from(publicKeyOf(secret).slice('whpk_'.length), 'base64')
      const jwk = { kty: 'OKP', crv: 'Ed25519', x: bytes.toString('base64url') }
      const key = createPublicKey({ key: jwk, format: 'jwk' })
      return verify(null, Buffer.from(text), key, Buffer.from(v1a?.slice(4) ?? '', 'base64'))
    }
    expect(isSignedBy(ed25519, content)).toBe(true)
    expect(isSignedBy(ed25519, `${content} `)).toBe(false)
    expect(isSignedBy(other, content)).toBe(false)
    expect(publicKeyOf(ed25519)).toMatch(/^whpk_[A-Za-z0-9+/]{43}=$/)
    expect(ed25519).toMatch(/^whsk_[A-Za-z0-9+/]{86}==$/)
  })

  it('uses a new valid secret for each webhook', () => {
    const secrets = Array.from({ length: 100 }, newSigningSecret)
    expect(new Set(secrets).size).toBe(100)
    for (const secret of secrets) expect(isSigningSecret(secret)).toBe(true)
  })
})

describe('the other headers', () => {
  it('X-Hub-Signature-256 and X-Signature equal the example of the GitHub documentation', () => {
    const headers = signedHeaders(
      webhookWith({
        signatures: ['x-hub-signature-256', 'x-signature'],
        secrets: { signing: once("It's a Secret to Everybody") },
      }),
      { ...MESSAGE, body: 'Hello, World!' },
    )
    const expected = 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17'
    expect(headers['x-hub-signature-256']).toBe(expected)
    expect(headers['x-signature']).toBe(expected)
  })

  it('are sent only when they are configured', () => {
    const signing = once(newSigningSecret())
    const plain = signedHeaders(webhookWith({ secrets: { signing } }), MESSAGE)
    expect(Object.keys(plain)).toEqual(['webhook-id', 'webhook-timestamp', 'webhook-signature'])
    const secrets = { signing, authorization: 'Basic YTpi', webhookSecret: 'open sesame' }
    expect(signedHeaders(webhookWith({ secrets }), MESSAGE)).toEqual({
      ...plain,
      authorization: 'Basic YTpi',
      'x-webhook-secret': 'open sesame',
    })
  })

  it('an identity token replaces the static Authorization header', () => {
    const secrets = { signing: once(newSigningSecret()), authorization: 'Bearer static' }
    const headers = signedHeaders(webhookWith({ secrets }), { ...MESSAGE, identityToken: 'a.b.c' })
    expect(headers.authorization).toBe('Bearer a.b.c')
    expect(JSON.stringify(headers)).not.toContain('static')
  })
})

it('secrets that cannot be decrypted or have ended sign nothing', () => {
  const unreadable: Webhook = { ...webhookWith({}), secrets: undefined }
  expect(() => signedHeaders(unreadable, MESSAGE)).toThrow('another master key')
  for (const signing of [[], [{ secret: newSigningSecret(), until: '2020-01-01T00:00:00.000Z' }]]) {
    const webhook = webhookWith({ secrets: { signing }, signatures: ['x-signature'] })
    expect(() => signedHeaders(webhook, MESSAGE)).toThrow('no active signing secret')
  }
})

it('a signing secret is whsec_ and base64 of 24 to 64 bytes, and nothing else', () => {
  const ofBytes = (length: number) => `whsec_${Buffer.alloc(length, 7).toString('base64')}`
  for (const length of [24, 25, 26, 32, 63, 64]) {
    expect(isSigningSecret(ofBytes(length)), String(length)).toBe(true)
  }
  const right = ofBytes(32)
  for (const text of [
    '',
    'whsec_',
    ofBytes(0),
    ofBytes(23),
    ofBytes(65),
    ofBytes(1_000_000),
    right.slice('whsec_'.length),
    right.replace('whsec_', 'WHSEC_'),
    right.replace('whsec_', 'whsk_'),
    ` ${right}`,
    `${right}\n`,
    `${right}=`,
    right.replace('=', ''),
    `whsec_${'a-_b'.repeat(10)}`,
    `whsec_${'🔑'.repeat(20)}`,
  ]) {
    expect(isSigningSecret(text), text.slice(0, 80)).toBe(false)
  }
})

it('custom headers exclude those that HTTP or the registry sets, in any case', () => {
  for (const name of [
    'Host',
    'Content-Length',
    'content-type',
    'Content-Encoding',
    'Connection',
    'Keep-Alive',
    'Transfer-Encoding',
    'TE',
    'Trailer',
    'Upgrade',
    'Expect',
    'Proxy-Authorization',
    'Proxy-Connection',
    'Authorization',
    'User-Agent',
    'Accept-Encoding',
    'Forwarded',
    'X-Forwarded-For',
    'Via',
    'Webhook-Id',
    'webhook-signature',
    'WEBHOOK-TIMESTAMP',
    'X-Hub-Signature-256',
    'X-Signature',
    'X-Webhook-Secret',
  ]) {
    for (const written of [name, name.toLowerCase(), name.toUpperCase()]) {
      expect(isCustomHeader(written), written).toBe(false)
    }
  }
  for (const name of ['', ' ', 'a b', 'a:b', 'a\r\nb', 'a\0', 'ä', 'x'.repeat(65), '"a"']) {
    expect(isCustomHeader(name), name).toBe(false)
  }
  for (const name of ['X-Registry-Type', 'X-Api-Key', 'Accept', 'Traceparent', 'X-Gitlab-Token']) {
    expect(isCustomHeader(name), name).toBe(true)
  }
})

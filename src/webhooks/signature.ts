import {
  createHmac,
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Webhook } from './webhook.ts'

/** What is signed. */
export type SignedMessage = {
  /** Of the event: the same in every try. */
  readonly id: string
  /** Of this try. */
  readonly timestamp: Date
  readonly body: string
  /** For the endpoint's audience, when it has one. */
  readonly identityToken: string | undefined
}

const SECRET_PREFIX = 'whsec_'
const SECRET_BYTES = 32
/** Standard Webhooks, "Signature scheme": from 24 to 64 bytes. */
const SECRET_BYTES_MIN = 24
const SECRET_BYTES_MAX = 64
const PRIVATE_PREFIX = 'whsk_'
const PUBLIC_PREFIX = 'whpk_'
const SEED_BYTES = 32
const PRIVATE_KEYS_MAX = 1000

/** Bytes of the value of one of an endpoint's own headers, and how many of them there may be. */
export const CUSTOM_HEADER_BYTES_MAX = 4096
export const CUSTOM_HEADERS_MAX = 20

/** A secret that is shared with a receiver: `whsec_` and base64. */
export function newSigningSecret(): string {
  return `${SECRET_PREFIX}${randomBytes(SECRET_BYTES).toString('base64')}`
}

/** True for what others may have made as such a secret; only as receivers read it, padding included. */
export function isSigningSecret(text: string): boolean {
  if (!/^whsec_[A-Za-z0-9+/=]{32,88}$/.test(text)) return false
  const bytes = bytesOf(text)
  return (
    bytes.length >= SECRET_BYTES_MIN &&
    bytes.length <= SECRET_BYTES_MAX &&
    text === `${SECRET_PREFIX}${bytes.toString('base64')}`
  )
}

/** A key that only signs for one endpoint: `whsk_` and base64 of seed and public key. */
export function newEd25519Secret(): string {
  const { d, x } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' })
  const bytes = [d, x].map((part) => Buffer.from(part ?? '', 'base64url'))
  return `${PRIVATE_PREFIX}${Buffer.concat(bytes).toString('base64')}`
}

/** What verifies its signatures: `whpk_` and base64. */
export function publicKeyOf(secret: string): string {
  return `${PUBLIC_PREFIX}${bytesOf(secret).subarray(SEED_BYTES).toString('base64')}`
}

function bytesOf(text: string): Buffer {
  return Buffer.from(text.slice(text.indexOf('_') + 1), 'base64')
}

const TAKEN: ReadonlySet<string> = new Set([
  'accept-encoding',
  'authorization',
  'connection',
  'expect',
  'forwarded',
  'host',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'user-agent',
  'via',
  'x-hub-signature-256',
  'x-signature',
  'x-webhook-secret',
])
const TAKEN_PREFIX = /^(?:content-|proxy-|webhook-|x-forwarded-)/

/** True for a name that an endpoint's own headers may have: none that we or HTTP set. */
export function isCustomHeader(name: string): boolean {
  const lower = name.toLowerCase()
  return (
    /^[a-z0-9!#$%&'*+.^_`|~-]{1,64}$/.test(lower) && !TAKEN.has(lower) && !TAKEN_PREFIX.test(lower)
  )
}

/**
 * Every header by which a receiver can tell that it was us: Standard Webhooks (`webhook-id`,
 * `webhook-timestamp`, `webhook-signature`), and what the endpoint asks for beside. Throws for an
 * endpoint whose secrets cannot be read.
 */
export function signedHeaders(endpoint: Webhook, message: SignedMessage): Record<string, string> {
  const { secrets, signatures } = endpoint
  if (secrets === undefined) {
    throw new Error('the secrets of this webhook were encrypted with another master key')
  }
  const { id, timestamp, body, identityToken } = message
  const seconds = String(Math.floor(timestamp.getTime() / 1000))
  const live = secrets.signing.filter(
    ({ until }) => until === null || new Date(until).getTime() > timestamp.getTime(),
  )
  const content = `${id}.${seconds}.${body}`
  const standard = live.map(({ secret }) => `v1,${hmac(bytesOf(secret), content, 'base64')}`)
  if (secrets.ed25519 !== null) {
    const signature = sign(null, Buffer.from(content), privateKeyOf(secrets.ed25519))
    standard.push(`v1a,${signature.toString('base64')}`)
  }
  const [present] = live
  if (present === undefined) throw new Error('this webhook has no signing secret that still signs')
  // Receivers of these know one secret, as the text that was pasted into them.
  const bodySignature = `sha256=${hmac(present.secret, body, 'hex')}`
  const authorization =
    identityToken === undefined ? secrets.authorization : `Bearer ${identityToken}`
  return {
    'webhook-id': id,
    'webhook-timestamp': seconds,
    'webhook-signature': standard.join(' '),
    ...(signatures.includes('x-hub-signature-256') ? { 'x-hub-signature-256': bodySignature } : {}),
    ...(signatures.includes('x-signature') ? { 'x-signature': bodySignature } : {}),
    ...(authorization === null ? {} : { authorization }),
    ...(secrets.webhookSecret === null ? {} : { 'x-webhook-secret': secrets.webhookSecret }),
  }
}

function hmac(key: Buffer | string, content: string, encoding: 'base64' | 'hex'): string {
  return createHmac('sha256', key).update(content).digest(encoding)
}

// Opening a key costs more than signing with it.
const privateKeys = new LRUCache<string, KeyObject>({ max: PRIVATE_KEYS_MAX })

function privateKeyOf(secret: string): KeyObject {
  const known = privateKeys.get(secret)
  if (known !== undefined) return known
  const bytes = bytesOf(secret)
  const [d, x] = [bytes.subarray(0, SEED_BYTES), bytes.subarray(SEED_BYTES)]
  const jwk = { kty: 'OKP', crv: 'Ed25519', d: d.toString('base64url'), x: x.toString('base64url') }
  const key = createPrivateKey({ key: jwk, format: 'jwk' })
  privateKeys.set(secret, key)
  return key
}

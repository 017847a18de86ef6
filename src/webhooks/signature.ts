import {
  createHmac,
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Webhook, WebhookSecrets } from './webhook.ts'

/** The content of a signature. */
export type SignedMessage = {
  /** The event's id, which is the same in every attempt. */
  readonly id: string
  /** The time of this attempt. */
  readonly timestamp: Date
  readonly body: string
  /** The token for the webhook's audience, when it has one. */
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
const PRIVATE_KEYS_CACHED_MAX = 1000

/** Limits of custom headers: bytes of one value, and headers of one webhook. */
export const CUSTOM_HEADER_BYTES_MAX = 4096
export const CUSTOM_HEADERS_MAX = 20

/** Generates a secret that the receiver shares: `whsec_` and base64. */
export function newSigningSecret(): string {
  return `${SECRET_PREFIX}${randomBytes(SECRET_BYTES).toString('base64')}`
}

/** True for a valid signing secret: canonical base64 with padding, as receivers read it. */
export function isSigningSecret(text: string): boolean {
  if (!/^whsec_[A-Za-z0-9+/=]{32,88}$/.test(text)) return false
  const bytes = bytesOf(text)
  return (
    bytes.length >= SECRET_BYTES_MIN &&
    bytes.length <= SECRET_BYTES_MAX &&
    text === `${SECRET_PREFIX}${bytes.toString('base64')}`
  )
}

/** Generates an Ed25519 key for one webhook: `whsk_` and base64 of seed and public key. */
export function newEd25519Secret(): string {
  const { d, x } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' })
  const bytes = [d, x].map((part) => Buffer.from(part ?? '', 'base64url'))
  return `${PRIVATE_PREFIX}${Buffer.concat(bytes).toString('base64')}`
}

/** Returns the public key of an Ed25519 secret: `whpk_` and base64. */
export function publicKeyOf(secret: string): string {
  return `${PUBLIC_PREFIX}${bytesOf(secret).subarray(SEED_BYTES).toString('base64')}`
}

function bytesOf(text: string): Buffer {
  return Buffer.from(text.slice(text.indexOf('_') + 1), 'base64')
}

const RESERVED: ReadonlySet<string> = new Set([
  'accept-encoding',
  'authorization',
  'connection',
  'cookie',
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
/** Services that give credentials to machines of a cloud require such a header, so that a URL alone gets none. */
const METADATA_HEADER = /^(?:metadata$|metadata-|x-aws-|x-google-|x-metadata-|x-identity-|x-ms-)/
const RESERVED_PREFIX = /^(?:content-|proxy-|webhook-|x-forwarded-)/

/** True for a name that a custom header may have: neither the registry nor HTTP sets it. */
export function isCustomHeader(name: string): boolean {
  const lower = name.toLowerCase()
  return (
    /^[a-z0-9!#$%&'*+.^_`|~-]{1,64}$/.test(lower) &&
    !RESERVED.has(lower) &&
    !RESERVED_PREFIX.test(lower) &&
    !METADATA_HEADER.test(lower)
  )
}

/** Lists the secrets that sign at this time, the current one first. */
export function activeSigningSecrets(
  { signing }: WebhookSecrets,
  at: Date,
): WebhookSecrets['signing'] {
  return signing.filter(({ until }) => until === null || new Date(until).getTime() > at.getTime())
}

/**
 * Returns every header that authenticates a delivery: those of Standard Webhooks (`webhook-id`,
 * `webhook-timestamp`, `webhook-signature`), and the further ones that the webhook configures. Throws when
 * the secrets of the webhook cannot be decrypted.
 */
export function signedHeaders(webhook: Webhook, message: SignedMessage): Record<string, string> {
  const { secrets, signatures } = webhook
  if (secrets === undefined) {
    throw new Error('the secrets of this webhook were encrypted with another master key')
  }
  const { id, timestamp, body, identityToken } = message
  const seconds = String(Math.floor(timestamp.getTime() / 1000))
  const active = activeSigningSecrets(secrets, timestamp)
  const content = `${id}.${seconds}.${body}`
  const standard = active.map(({ secret }) => `v1,${hmac(bytesOf(secret), content, 'base64')}`)
  if (secrets.ed25519 !== null) {
    const signature = sign(null, Buffer.from(content), privateKeyOf(secrets.ed25519))
    standard.push(`v1a,${signature.toString('base64')}`)
  }
  const [current] = active
  if (current === undefined) throw new Error('this webhook has no active signing secret')
  // Receivers of these two headers know one secret, as its text.
  const bodySignature = `sha256=${hmac(current.secret, body, 'hex')}`
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

// Parsing a key costs more than signing with it.
const privateKeys = new LRUCache<string, KeyObject>({ max: PRIVATE_KEYS_CACHED_MAX })

function privateKeyOf(secret: string): KeyObject {
  const cached = privateKeys.get(secret)
  if (cached !== undefined) return cached
  const bytes = bytesOf(secret)
  const [d, x] = [bytes.subarray(0, SEED_BYTES), bytes.subarray(SEED_BYTES)]
  const jwk = { kty: 'OKP', crv: 'Ed25519', d: d.toString('base64url'), x: x.toString('base64url') }
  const key = createPrivateKey({ key: jwk, format: 'jwk' })
  privateKeys.set(secret, key)
  return key
}

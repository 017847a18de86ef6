import type { MasterKey } from '../../auth/master-key.ts'
import { conflict } from '../../oci/errors.ts'
import { newEd25519Secret, newSigningSecret } from '../signature.ts'
import type { Signature, WebhookSecrets } from '../webhook.ts'
import type { AuthenticationChange } from './types.ts'
import { invalid, parseHeaderSecret, parseSigningSecret } from './validation.ts'

/** Secrets that sign at once: every delivery has a signature of each. */
const LIVE_SECRETS_MAX = 3
/** How long an earlier secret signs beside the new one, when nothing else was said. */
export const OVERLAP_SECONDS_DEFAULT = 86_400
export const OVERLAP_SECONDS_MAX = 30 * 86_400

/** Those of a new webhook. Throws REQUEST_INVALID for a secret that is none. */
export function newSecrets(given: string | undefined): WebhookSecrets {
  const secret = given === undefined ? newSigningSecret() : parseSigningSecret(given)
  return {
    signing: [{ secret, until: null }],
    ed25519: null,
    authorization: null,
    webhookSecret: null,
  }
}

/** What they become by a change; `signatures` are those after it. Throws REQUEST_INVALID. */
export function applySecretsChange(
  current: WebhookSecrets,
  { authorization, webhookSecret }: AuthenticationChange,
  signatures: readonly string[],
): WebhookSecrets {
  const signsPublicly = signatures.includes('v1a' satisfies Signature)
  return {
    signing: current.signing,
    ed25519: signsPublicly ? (current.ed25519 ?? newEd25519Secret()) : null,
    authorization: credentialOf('authorization', authorization, current.authorization),
    webhookSecret: credentialOf('webhookSecret', webhookSecret, current.webhookSecret),
  }
}

function credentialOf(
  name: 'authorization' | 'webhookSecret',
  wanted: string | null | undefined,
  current: string | null,
): string | null {
  if (wanted === undefined) return current
  return wanted === null ? null : parseHeaderSecret(`authentication.${name}`, wanted)
}

/**
 * With a new secret first; earlier ones sign beside it until `overlapSeconds` are over, at the latest.
 * Throws REQUEST_INVALID, and CONFLICT when too many would sign at once.
 */
export function rotateSecrets(
  current: WebhookSecrets,
  given: string | undefined,
  overlapSeconds: number,
  now: Date,
): WebhookSecrets {
  if (
    !Number.isInteger(overlapSeconds) ||
    overlapSeconds < 0 ||
    overlapSeconds > OVERLAP_SECONDS_MAX
  ) {
    throw invalid('overlapSeconds', `is 0 to ${OVERLAP_SECONDS_MAX}, not ${overlapSeconds}`)
  }
  const secret = given === undefined ? newSigningSecret() : parseSigningSecret(given)
  const end = new Date(now.getTime() + overlapSeconds * 1000).toISOString()
  // Times of one form: their order is that of their texts.
  const earlier = activeSigningSecrets(current, now)
    .map((one) => ({ ...one, until: one.until === null || one.until > end ? end : one.until }))
    .filter(({ until }) => until > now.toISOString())
  if (earlier.some((one) => one.secret === secret)) throw invalid('secret', 'signs already')
  if (earlier.length >= LIVE_SECRETS_MAX) {
    const soonest = earlier.map(({ until }) => until).sort()[0]
    throw conflict(
      `${earlier.length} earlier secrets still sign, the next ends at ${soonest}: wait, or end them now with overlapSeconds 0`,
    )
  }
  return { ...current, signing: [{ secret, until: null }, ...earlier] }
}

/** Those that sign at that moment, the present one first. */
export function activeSigningSecrets(
  { signing }: WebhookSecrets,
  now: Date,
): WebhookSecrets['signing'] {
  return signing.filter(({ until }) => until === null || until > now.toISOString())
}

/** As the database keeps them. */
export function encryptSecrets(masterKey: MasterKey, secrets: WebhookSecrets): Promise<string> {
  return masterKey.encrypt(JSON.stringify(secrets))
}

/** Undefined when they were encrypted with another master key. */
export async function decryptSecrets(
  masterKey: MasterKey,
  jwe: string,
): Promise<WebhookSecrets | undefined> {
  const text = await masterKey.decrypt(jwe)
  return text === undefined ? undefined : (JSON.parse(text) as WebhookSecrets)
}

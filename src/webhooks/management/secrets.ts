import type { WebhookSettings } from '../../db/webhooks/webhooks.ts'
import { conflict } from '../../oci/errors.ts'
import { activeSigningSecrets, newEd25519Secret, newSigningSecret } from '../signature.ts'
import type { Signature, WebhookSecrets } from '../webhook.ts'
import type { AuthenticationChange, WebhookChange } from './types.ts'
import { invalidField, parseHeaderSecret, parseSigningSecret } from './validation.ts'

/** Earlier secrets that sign at the same time: every delivery has a signature of each. */
const EARLIER_SECRETS_MAX = 3
/** The time that an earlier secret keeps signing after a rotation. */
export const OVERLAP_SECONDS_DEFAULT = 86_400
export const OVERLAP_SECONDS_MAX = 30 * 86_400

/** Creates the secrets of a new webhook. Throws REQUEST_INVALID when the given signing secret is malformed. */
export function newSecrets(given: string | undefined): WebhookSecrets {
  const secret = given === undefined ? newSigningSecret() : parseSigningSecret(given)
  return {
    signing: [{ secret, until: null }],
    ed25519: null,
    authorization: null,
    webhookSecret: null,
  }
}

/** Applies a change to secrets. `signatures` are those after the change. Throws REQUEST_INVALID. */
export function applySecretsChange(
  current: WebhookSecrets,
  { authorization, webhookSecret }: AuthenticationChange,
  signatures: readonly string[],
): WebhookSecrets {
  const hasEd25519 = signatures.includes('v1a' satisfies Signature)
  return {
    signing: current.signing,
    ed25519: hasEd25519 ? (current.ed25519 ?? newEd25519Secret()) : null,
    authorization: changedHeader('authorization', authorization, current.authorization),
    webhookSecret: changedHeader('webhookSecret', webhookSecret, current.webhookSecret),
  }
}

function changedHeader(
  name: 'authorization' | 'webhookSecret',
  change: string | null | undefined,
  current: string | null,
): string | null {
  if (change === undefined) return current
  return change === null ? null : parseHeaderSecret(`authentication.${name}`, change)
}

/**
 * Puts a new signing secret first. Earlier ones keep signing until `overlapSeconds` are over, at the latest.
 * Throws REQUEST_INVALID, and CONFLICT when too many secrets would sign at the same time.
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
    throw invalidField(
      'overlapSeconds',
      `must be 0 to ${OVERLAP_SECONDS_MAX}, not ${overlapSeconds}`,
    )
  }
  const secret = given === undefined ? newSigningSecret() : parseSigningSecret(given)
  const end = new Date(now.getTime() + overlapSeconds * 1000).toISOString()
  // These times have one format, so their texts sort by time.
  const earlier = activeSigningSecrets(current, now)
    .map((one) => ({ ...one, until: one.until === null || one.until > end ? end : one.until }))
    .filter(({ until }) => until > now.toISOString())
  if (earlier.some((one) => one.secret === secret))
    throw invalidField('secret', 'is in use already')
  if (earlier.length >= EARLIER_SECRETS_MAX) {
    const soonest = earlier.map(({ until }) => until).sort()[0]
    throw conflict(
      `${earlier.length} earlier secrets still sign, and the next one ends at ${soonest}: wait, or end them now with overlapSeconds 0`,
    )
  }
  return { ...current, signing: [{ secret, until: null }, ...earlier] }
}

/** Returns the signing secret that receivers are given. */
export function currentSigningSecret({ signing }: WebhookSecrets): string {
  const [first] = signing
  if (first === undefined) throw new Error('the webhook has no signing secret')
  return first.secret
}

/** Throws REQUEST_INVALID when two settings would set the Authorization header. */
export function assertOneAuthorization(
  oidcAudience: string | null,
  secrets: WebhookSecrets | undefined,
): void {
  if (oidcAudience === null || secrets === undefined || secrets.authorization === null) return
  throw invalidField(
    'authentication',
    'has authorization and oidcAudience, which both set the Authorization header: set one of them to null',
  )
}

/**
 * Throws REQUEST_INVALID when the URL changes and the request does not repeat the secrets that are sent as
 * they are, and the audience of its identity tokens. Otherwise a user who may change the webhook could send another user's secrets to any server.
 */
export function assertSecretsRepeated(
  { url: from, oidcAudience }: Pick<WebhookSettings, 'url' | 'oidcAudience'>,
  to: string,
  secrets: WebhookSecrets | undefined,
  { authentication }: WebhookChange,
): void {
  if (from === to) return
  const kept = { ...secrets, oidcAudience }
  for (const name of ['authorization', 'webhookSecret', 'oidcAudience'] as const) {
    if ((kept[name] ?? null) === null || authentication[name] !== undefined) continue
    throw invalidField(
      `authentication.${name}`,
      'must be given again, or set to null, because the new URL may belong to another party',
    )
  }
}

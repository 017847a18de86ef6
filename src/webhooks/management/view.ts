import type { WebhookRow } from '../../db/webhooks/webhooks.ts'
import { activeSigningSecrets, publicKeyOf } from '../signature.ts'
import type { Signature, WebhookFormat, WebhookSecrets } from '../webhook.ts'
import type { WebhookView } from './types.ts'

/** Describes a webhook for an API response. The columns hold only validated values. */
export function webhookView(row: WebhookRow, secrets: WebhookSecrets | undefined): WebhookView {
  return {
    name: row.name,
    url: row.url,
    repositories: row.repositories,
    tags: row.tags,
    types: row.types,
    format: row.format as WebhookFormat,
    body: row.body === null ? null : JSON.parse(row.body),
    authentication: {
      signatures: row.signatures as Signature[],
      publicKey: publicKey(secrets),
      authorization: secrets !== undefined && secrets.authorization !== null,
      webhookSecret: secrets !== undefined && secrets.webhookSecret !== null,
      oidcAudience: row.oidcAudience,
      oidcSubject: `webhook:${row.identity}`,
      earlierUntil: earlierUntil(secrets),
      readable: secrets !== undefined,
    },
    headers: row.headers,
    description: row.description,
    maxAgeSeconds: row.maxAgeSeconds,
    coalesceTags: row.coalesceTags,
    state: row.state,
    disabledReason: row.disabledReason,
    owner: row.ownerName,
    createdAt: row.createdAt.toISOString(),
    updatedAt: row.updatedAt.toISOString(),
    health: {
      failures: row.failures,
      failingSince: timeOf(row.failingSince),
      retryingAt: timeOf(row.openUntil),
      succeededAt: timeOf(row.succeededAt),
      failedAt: timeOf(row.failedAt),
      waiting: row.waiting,
    },
  }
}

function publicKey(secrets: WebhookSecrets | undefined): string | null {
  return secrets === undefined || secrets.ed25519 === null ? null : publicKeyOf(secrets.ed25519)
}

function earlierUntil(secrets: WebhookSecrets | undefined): string[] {
  if (secrets === undefined) return []
  return activeSigningSecrets(secrets, new Date()).flatMap(({ until }) =>
    until === null ? [] : [until],
  )
}

function timeOf(date: Date | null): string | null {
  return date === null ? null : date.toISOString()
}

import { allows } from '../auth/access.ts'
import type { ClaimedDelivery } from '../db/webhooks/delivery-claims.ts'
import type { WebhookOwner } from './webhook.ts'

/**
 * True when these grants permit reading an event: the holder may pull its repository at present. Only
 * administrators may read events about other webhooks.
 */
export function canReceive(
  { grants }: Pick<WebhookOwner, 'grants'>,
  { type, repository, visibility }: Pick<ClaimedDelivery, 'type' | 'repository' | 'visibility'>,
): boolean {
  if (grants === null || type === 'webhook.ping' || visibility === 'public') return true
  if (repository === null) return false
  const from = { origin: undefined, tokenId: undefined, keyId: undefined }
  const holder = { kind: 'holder', actor: '', ...from } as const
  const caller = { ...holder, scheme: 'basic', grants, expiredAt: undefined } as const
  return allows(caller, 'pull', repository)
}

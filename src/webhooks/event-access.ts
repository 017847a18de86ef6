import { allows, type Caller, maySeeActors, maySeeHosts } from '../auth/access.ts'
import type { ClaimedDelivery } from '../db/webhooks/delivery-claims.ts'
import { withoutActor, withoutReason } from '../events/cloud-event.ts'
import { hasReasonOfHosts, namesHosts } from '../events/event.ts'
import type { WebhookOwner } from './webhook.ts'

type Grants = Pick<WebhookOwner, 'grants'>

/**
 * True when these grants permit reading an event: the holder may pull its repository at present, and push there or
 * administer it for an event that names hosts. Only administrators may read events about other webhooks and about hosts.
 */
export function canReceive(
  { grants }: Grants,
  { type, repository, visibility }: Pick<ClaimedDelivery, 'type' | 'repository' | 'visibility'>,
): boolean {
  if (grants === null || type === 'webhook.ping') return true
  if (repository === null) return false
  const holder = holderOf(grants)
  if (namesHosts(type) && !maySeeHosts(holder, repository)) return false
  return visibility === 'public' || allows(holder, 'pull', repository)
}

/**
 * Returns the body of an event; without its actor when these grants give no right to its repository, and without a reason
 * that names hosts.
 */
export function eventBodyFor(
  { grants }: Grants,
  { type, repository, body }: Pick<ClaimedDelivery, 'type' | 'repository' | 'body'>,
): string {
  if (grants === null || repository === null) return body
  const holder = holderOf(grants)
  const hidesReason = hasReasonOfHosts(type) && !maySeeHosts(holder, repository)
  const shown = hidesReason ? withoutReason(body) : body
  return maySeeActors(holder, repository) ? shown : withoutActor(shown)
}

function holderOf(grants: NonNullable<WebhookOwner['grants']>): Caller {
  const from = { origin: undefined, tokenId: undefined, keyId: undefined }
  const holder = { kind: 'holder', actor: '', ...from } as const
  return { ...holder, scheme: 'basic', grants, expiredAt: undefined }
}

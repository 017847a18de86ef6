import type { Transaction } from '../db/database.ts'
import type { AddressedEvent } from '../events/event.ts'
import { matchesFilter } from '../events/filter.ts'
import type { WebhookCache } from './webhook-cache.ts'

/**
 * Reads the webhooks in a transaction that publishes events. Returns a function that selects the ids
 * of the webhooks that get a delivery of an event.
 */
export async function openRecipients(
  cache: WebhookCache,
  tx: Transaction,
): Promise<(event: AddressedEvent) => number[]> {
  const webhooks = [...(await cache.current(tx)).values()]
  return (event) => {
    const isRecipient = ({ id, filter }: (typeof webhooks)[number]) =>
      event.webhookId === null ? matchesFilter(filter, event) : event.webhookId === id
    return webhooks.filter(isRecipient).map(({ id }) => id)
  }
}

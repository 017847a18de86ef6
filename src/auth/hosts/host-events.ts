import type { Transaction } from '../../db/database.ts'
import { appendEvents } from '../../db/events/outbox.ts'
import type { HostRow } from '../../db/hosts/hosts.ts'

/**
 * Appends the event of a host that is new, in the transaction of its change. `actor` made or approved it; null: it waits
 * for an approval. `fingerprint` is the thumbprint of its key; null: it has a secret.
 */
export async function appendEnrolled(
  tx: Transaction,
  { name, labels, state, repositories }: HostRow,
  actor: string | null,
  fingerprint: string | null,
): Promise<void> {
  const event = {
    type: 'host.enrolled',
    host: name,
    labels,
    state: state === 'active' ? 'active' : 'pending',
    fingerprint,
    repositories,
    actor,
  } as const
  await appendEvents(tx, [{ event, repositoryId: null }])
}
